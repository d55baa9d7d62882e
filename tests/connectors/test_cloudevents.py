"""CloudEvents: the envelope is the event, what it does not say is lifted out of its data."""

import json
from collections.abc import Mapping

import orjson
import pytest

from connectors.formats import FORMATS
from connectors.formats.types import DecodeOptions
from tests.connectors.splitting import assert_split_does_not_show

FORM = FORMATS["cloudevents"]
OPTIONS = DecodeOptions()
ENVELOPE = {"specversion": "1.0", "id": "A1", "source": "/pay", "type": "com.x.failed", "time": "2024-01-01T00:00:00Z"}


def decode(event: Mapping[str, object], options: DecodeOptions = OPTIONS) -> dict[str, object]:
    decoded = FORM.decode(orjson.dumps(event), options)
    assert decoded.rejects.is_empty()
    return decoded.frame.row(0, named=True)


def test_columns_come_from_the_envelope_and_then_from_data() -> None:
    data = {
        "errorCode": 503,
        "tenantId": "acme",
        "severity": "ERROR",
        "value": 1.5,
        "source": "ignored",
        "deep": {"a": 1},
    }
    row = decode(ENVELOPE | {"data": data, "subject": "order-1", "traceparent": "00-ab"})
    assert (row["id"], row["source"], row["type"]) == ("A1", "/pay", "com.x.failed")
    assert (row["code"], row["tenant"], row["severity"], row["value"]) == ("503", "acme", "high", 1.5)
    attributes = json.loads(str(row["attributes"]))
    assert attributes == data | {"specversion": "1.0", "subject": "order-1", "traceparent": "00-ab"}


def test_an_extension_goes_before_data() -> None:
    assert decode(ENVELOPE | {"tenant": "a", "data": {"tenant": "b", "tenantId": "c"}})["tenant"] == "a"


def test_data_of_another_type_is_no_reason_to_refuse_the_event() -> None:
    row = decode(ENVELOPE | {"data": {"message": {"text": "x"}, "value": "much", "code": None}})
    assert (row["message"], row["value"], row["code"]) == (None, None, None)


@pytest.mark.parametrize("data", ["text", [1, 2], 5, True])
def test_data_that_is_no_object_is_kept(data: object) -> None:
    assert json.loads(str(decode(ENVELOPE | {"data": data})["attributes"])) == {"data": data, "specversion": "1.0"}
    assert decode({**ENVELOPE, "data": None})["attributes"] == '{"specversion":"1.0"}'


def test_a_mapping_reaches_into_data() -> None:
    options = DecodeOptions(mapping={"source": "$.data.service.name", "message": "$.subject"})
    row = decode(ENVELOPE | {"subject": "s", "data": {"service": {"name": "cart"}}}, options)
    assert (row["source"], row["message"]) == ("cart", "s")
    assert decode(ENVELOPE | {"data": "plain"}, DecodeOptions(mapping={"message": "$.data"}))["message"] == "plain"


def test_bad_lines_say_why_and_chunks_do_not_show() -> None:
    lines = [
        orjson.dumps(ENVELOPE | {"data": {"n": 1}}),
        b"",
        b"[1]",
        b'{"specversion":"1.0"',
        orjson.dumps({name: value for name, value in ENVELOPE.items() if name != "time"}),
        orjson.dumps(ENVELOPE) + b"\r",
    ]
    found = assert_split_does_not_show(FORM, b"\n".join(lines) + b"\n", OPTIONS)
    assert found.frame["offset"].to_list() == [0, 5]
    assert found.rejects["offset"].to_list() == [2, 3, 4]
    assert found.rejects["error"].to_list()[0] == "a JSON object is expected on every line"
    assert found.rejects["error"].to_list()[1].startswith("not valid JSON: ")
    assert found.rejects["error"].to_list()[2].startswith("time: missing")
    assert found.records == 6
