"""What one record means: columns, aliases, defaults, attributes, mapping, and reasons for refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from connectors.formats.record import SEVERITY_WORDS, Reject, frame_of, rejects_of, row
from connectors.formats.types import DecodeOptions
from operators.events import DECODED, RAW_LIMIT, SEVERITIES

PLAIN = {"time": "2026-01-31T12:00:00Z", "source": "billing", "type": "payment_failed"}
MICROS = 1_769_860_800_000_000


def read(fields: Mapping[str, object], **options: object) -> dict[str, object]:
    """The columns of PLAIN with `fields` that are not null."""
    found = row({**PLAIN, **fields}, DecodeOptions(**options))  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if value is not None}


USUAL = {**PLAIN, "time": MICROS, "workspace": "default", "stream": "integration"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"workspace": "w", "stream": "log"}, {"workspace": "w", "stream": "log"}),
        ({"workspace": "", "stream": None, "tenant": "", "id": ""}, {}),
        ({"code": 503}, {"code": "503"}),
        ({"code": True, "tenant": 1.5}, {"code": "true", "tenant": "1.5"}),
        ({"errorCode": "E", "tenantId": "t"}, {"code": "E", "tenant": "t"}),
        ({"code": "a", "errorCode": "b"}, {"code": "a", "attributes": '{"errorCode":"b"}'}),
        ({"code": None, "errorCode": "b"}, {"code": "b"}),
        ({"value": 3}, {"value": 3.0}),
        ({"ingested_at": "2026-01-31T12:00:00Z"}, {"ingested_at": MICROS}),
        ({"severity": "ERROR"}, {"severity": "high"}),
        ({"severity": "odd"}, {"attributes": '{"severity":"odd"}'}),
        ({"record": "event"}, {}),
        ({"rawPayload": {"a": 1}}, {"attributes": '{"a":1}'}),
        ({"attributes": {}}, {"attributes": "{}"}),
        ({"attributes": {}, "zz": None}, {"attributes": '{"zz":null}'}),
        ({"attributes": {"a": 1}, "rawPayload": {"b": 2}}, {"attributes": '{"a":1,"rawPayload":{"b":2}}'}),
        ({"attributes": {"zz": 1}, "zz": 2, "y": [3]}, {"attributes": '{"zz":1,"y":[3]}'}),
        ({"attributes": "text"}, {"attributes": '{"attributes":"text"}'}),
        ({"offset": 7}, {"attributes": '{"offset":7}'}),
    ],
)
def test_columns(fields: dict[str, object], expected: dict[str, object]) -> None:
    """Rules, blast radius and searches read these columns."""
    assert read(fields) == {**USUAL, **expected}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"time": None}, 'time: missing, "time" is expected'),
        ({"time": 5}, "time: 5 is not a time; RFC 3339 is expected"),
        ({"time": "infinity"}, 'time: "infinity" is not a time'),
        ({"source": ""}, 'source: missing, "source" or "integrationKey" is expected'),
        ({"type": None}, 'type: missing, "type" or "eventType" is expected'),
        ({"code": {"a": 1}}, 'code: {"a":1} is an object, a text or a number is expected'),
        ({"message": []}, "message: [] is a list"),
        ({"value": "3"}, 'value: "3" is a text, a number is expected'),
        ({"value": True}, "value: true is no number, a number is expected"),
        ({"record": "delete"}, 'record: "delete" is unknown'),
        ({"record": "resolve", "time": None}, "time: missing"),
    ],
)
def test_reasons(fields: dict[str, object], reason: str) -> None:
    """A dead letter must tell its producer what to change."""
    with pytest.raises(Reject) as caught:
        read(fields)
    assert str(caught.value).startswith(reason)


def test_commands_need_no_source_and_keep_their_body() -> None:
    """An operator resolves a rule's group, not a source."""
    fields = {"source": None, "type": None, "record": "resolve", "attributes": {"rule_id": "r"}}
    found = read(fields, columns=frozenset({"time"}))
    assert found == {
        "time": MICROS,
        "workspace": "default",
        "stream": "integration",
        "record": "resolve",
        "attributes": '{"rule_id":"r"}',
    }


def test_unwanted_columns_are_null() -> None:
    """A replay that reads no attributes does not carry them along."""
    found = read({"attributes": {"a": 1}, "message": "m", "tenant": "t"}, columns=frozenset({"tenant"}))
    assert found == {**USUAL, "tenant": "t"}


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"code": "$.status"}, {"code": "502", "attributes": '{"host":{"name":"h","ips":["::1"]},"a b":1}'}),
        ({"source": "$.host.name"}, {"source": "h"}),
        ({"tenant": "$.host.ips[0]"}, {"tenant": "::1"}),
        ({"place": '$."a b"'}, {"place": "1"}),
        ({"stream": "log", "severity": "warn"}, {"stream": "log", "severity": "medium"}),
        ({"tenant": "$.nowhere.at[3].all"}, {}),
        ({"attributes": "$.host"}, {}),
    ],
)
def test_mapping(mapping: dict[str, str], expected: dict[str, object]) -> None:
    """Foreign records are used as they are."""
    fields = {"status": 502, "host": {"name": "h", "ips": ["::1"]}, "a b": 1}
    found = read(fields, mapping=mapping)
    for name in {*expected, "time", "type"}:
        assert found[name] == {**USUAL, **expected}[name]
    kept = json.loads(str(found["attributes"]))
    for column, target in mapping.items():
        assert target.strip('$."') not in kept, f"{column} is there twice"


def test_a_mapped_column_has_no_other_source() -> None:
    """Otherwise a record would be counted for a source that the user mapped away."""
    with pytest.raises(Reject, match=r"source: missing, nothing at \$\.host"):
        read({}, mapping={"source": "$.host"})


def test_every_severity_word_is_one_of_five() -> None:
    """The worst of several severities is a maximum over these."""
    assert set(SEVERITY_WORDS.values()) == set(SEVERITIES)


def test_frames() -> None:
    """All formats hand over the same columns; a reject is cut and always valid text."""
    assert dict(frame_of([], []).schema) == DECODED
    assert dict(frame_of([4], [row(PLAIN, DecodeOptions())]).schema) == DECODED
    assert rejects_of([1], [b"\xff" * 9000], ["e"])["raw"].str.len_chars().to_list() == [RAW_LIMIT]
