"""OTLP logs: every log record is an event at a position of its own."""

import json

import orjson
import pytest

from connectors.formats import FORMATS
from connectors.formats.types import DecodeOptions
from tests.connectors.splitting import assert_split_does_not_show

FORM = FORMATS["otlp"]
OPTIONS = DecodeOptions()
NANOS = "1704110400123456789"


def text(value: str) -> dict[str, object]:
    return {"stringValue": value}


def attributes(**pairs: object) -> list[dict[str, object]]:
    return [{"key": key.replace("__", "."), "value": value} for key, value in pairs.items()]


def request(*logs: object, **resource: object) -> dict[str, object]:
    scope = {"scope": {"name": "lib"}, "logRecords": list(logs)}
    named = {"service__name": text("cart"), **resource}
    return {"resourceLogs": [{"resource": {"attributes": attributes(**named)}, "scopeLogs": [scope]}]}


def decode(log: object, options: DecodeOptions = OPTIONS) -> dict[str, object]:
    decoded = FORM.decode(orjson.dumps(request(log)), options)
    assert decoded.rejects.is_empty()
    return decoded.frame.row(0, named=True)


def test_a_log_record_fills_the_documented_columns() -> None:
    pairs = attributes(
        exception__type=text("IOError"),
        http__response__status_code={"intValue": "503"},
        list={"arrayValue": {"values": [{"boolValue": True}, {"doubleValue": 1.5}]}},
        map={"kvlistValue": {"values": attributes(a=text("b"))}},
        big={"intValue": "123456789012345678901234567890"},
    )
    log = {
        "timeUnixNano": NANOS,
        "severityNumber": 17,
        "body": text("boom"),
        "attributes": pairs,
        "traceId": "t",
        "spanId": "s",
    }
    row = decode(log)
    assert str(row["time"]) == "2024-01-01 12:00:00.123456+00:00"
    assert (row["stream"], row["source"], row["type"], row["code"]) == ("log", "cart", "IOError", "503")
    assert (row["severity"], row["message"]) == ("high", "boom")
    assert json.loads(str(row["attributes"])) == {
        "service.name": "cart",
        "exception.type": "IOError",
        "http.response.status_code": 503,
        "list": [True, 1.5],
        "map": {"a": "b"},
        "big": "123456789012345678901234567890",
        "scope": "lib",
        "traceId": "t",
        "spanId": "s",
    }


def test_time_type_and_body_have_their_stand_ins() -> None:
    row = decode({"timeUnixNano": "0", "observedTimeUnixNano": NANOS, "body": {"intValue": "5"}})
    assert (str(row["time"]), row["type"], row["message"]) == ("2024-01-01 12:00:00.123456+00:00", "log", "5")
    named = {"timeUnixNano": int(NANOS), "attributes": attributes(event__name=text("a"), exception__type=text("b"))}
    assert decode(named)["type"] == "a"
    assert decode(named | {"eventName": "c"})["type"] == "c"


@pytest.mark.parametrize(
    ("number", "word", "expected"),
    [
        *((1, None, "info"), (8, "", "info"), (9, "Information", "info"), (0, None, None)),
        *((13, None, "medium"), (16, "W!", "medium"), (None, "Warn", "medium")),
        *(
            (17, None, "high"),
            (20, None, "high"),
            (17, "fatal", "critical"),
            (21, None, "critical"),
            (24, "", "critical"),
        ),
    ],
)
def test_severity_is_the_word_if_known_else_the_number(
    number: int | None, word: str | None, expected: str | None
) -> None:
    assert decode({"timeUnixNano": NANOS, "severityNumber": number, "severityText": word})["severity"] == expected


def test_positions_count_log_records_and_chunks_do_not_show() -> None:
    log = {"timeUnixNano": NANOS}
    lines = [
        orjson.dumps(request(log, {}, log)),
        b"",
        b"broken",
        b'{"resourceLogs":[]}',
        b'{"other":1}',
        b'{"resourceLogs":[{"scopeLogs":5}]}',
        orjson.dumps(request({"timeUnixNano": "soon"}, log)),
    ]
    found = assert_split_does_not_show(FORM, b"\n".join(lines), OPTIONS)
    assert found.frame["offset"].to_list() == [0, 2, 8]
    assert found.rejects["offset"].to_list() == [1, 4, 5, 6, 7]
    reasons = found.rejects["error"].to_list()
    assert reasons[0].startswith("time: missing")
    assert reasons[2].startswith('"resourceLogs" is missing')
    assert reasons[3] == "scopeLogs: a list is expected"
    assert reasons[4].startswith('time: "soon" is not a time')
    assert found.records == 9
