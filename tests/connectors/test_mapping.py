"""Mappings: what is allowed, what is refused and how, and arrays taken apart."""

import json

import polars as pl
import pytest

from connectors.formats import FORMATS
from connectors.formats.types import DecodeOptions
from connectors.mapping import MappingError, assignments, load
from tests.connectors.splitting import REAL_DATA, assert_split_does_not_show

FORM = FORMATS["jsonl"]
STATUS_PAGE = """
explode: $.updates
keep:
  incident: $.id
  title: $.title
  impact: $.impact
columns:
  time: $.at
  source: status-page
  type: $.status
  severity: $.impact
  place: $.title
"""


def test_assignments_and_files_give_the_same_mapping() -> None:
    expected = {"source": "$.service.name", "type": "deploy", "value": "1.5"}
    assert assignments(["source=$.service.name", "type=deploy", "value=1.5"]) == expected
    assert load("columns: {source: $.service.name, type: deploy, value: 1.5}", "m.yaml") == expected
    assert assignments(["message=a=b"]) == {"message": "a=b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source", "--map source: column=$.path or column=text is expected"),
        ("sauce=x", "--map: 'sauce' is no event column; allowed are time, ingested_at, id, "),
        ("source=$.a..b", "--map: '$.a..b' is not a path"),
        ("value=much", "--map: value: 'much' is neither a number nor a path such as $.latency"),
        ("attributes=x", "--map: attributes: a path such as $.payload is expected"),
        ("explode=updates", "--map: 'updates' is not a path"),
        ("keep.a=$.b", "--map: keep is only for records that are taken apart by explode"),
    ],
)
def test_a_wrong_assignment_is_one_clear_sentence(text: str, message: str) -> None:
    with pytest.raises(MappingError) as raised:
        assignments([text])
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "m.yaml: an object with columns, explode, keep, access_log, syslog is expected"),
        ("a: [", "m.yaml: not valid YAML: "),
        ("colums: {}", "m.yaml: unknown field 'colums'; allowed are columns, explode, "),
        ("columns: {source: [a]}", "m.yaml: columns: source: a path such as $.field or a text is expected"),
        ("syslog: {}", "m.yaml: syslog: a list of rules with match and type is expected"),
        ("syslog: [{match: x}]", "m.yaml: syslog rule 1: match and type are expected, both as text"),
        (
            "syslog: [{match: x, type: y, typ: z}]",
            "m.yaml: syslog rule 1: unknown field 'typ'; allowed are match, type, ",
        ),
        ("syslog: [{match: '(', type: y}]", "m.yaml: syslog rule 1: '(' is not a regular expression ("),
        ("syslog: [{match: '(?P<time>x)', type: y}]", "m.yaml: syslog rule 1: a group cannot be named 'time'"),
    ],
)
def test_a_wrong_file_is_one_clear_sentence(text: str, message: str) -> None:
    with pytest.raises(MappingError) as raised:
        load(text, "m.yaml")
    assert str(raised.value).startswith(message)


def test_an_array_becomes_events_with_what_is_kept_around_it() -> None:
    lines = [
        {
            "id": 7,
            "title": "t",
            "updates": [{"at": "2024-01-01T00:00:00Z", "status": "A", "note": {"x": [1]}}, {"at": 5}],
        },
        {"id": 8, "updates": []},
        {"id": 9},
        {"id": 10, "impact": "major", "updates": [{"at": "2024-01-02T00:00:00Z", "status": "B"}]},
    ]
    content = "\n".join([*map(json.dumps, lines), "", "broken"]).encode()
    found = assert_split_does_not_show(FORM, content, DecodeOptions(mapping=load(STATUS_PAGE, "m.yaml")))
    assert found.frame.select("offset", "type", "severity", "place").rows() == [
        (0, "A", None, "t"),
        (3, "B", "high", None),
    ]
    assert json.loads(found.frame["attributes"][0]) == {"note": {"x": [1]}, "incident": 7}
    assert found.rejects.select("offset", "error").rows()[:2] == [
        (1, "time: 5 is not a time; RFC 3339 is expected, such as 2026-01-31T08:30:00Z"),
        (2, "explode: no array at $.updates"),
    ]
    assert found.records == 6


def test_elements_that_are_no_objects_are_reached_as_item() -> None:
    mapping = {"explode": "$.codes", "keep.time": "$.t", "source": "s", "type": "seen", "code": "$.item"}
    frame = FORM.decode(b'{"t":"2024-01-01 00:00:00","codes":["a",503]}', DecodeOptions(mapping=mapping)).frame
    assert frame["code"].to_list() == ["a", "503"]


@pytest.mark.skipif(not REAL_DATA.exists(), reason="no real data beside the repository")
def test_every_update_of_a_real_status_page_is_an_event() -> None:
    content = (REAL_DATA / "status_page" / "incidents_2022_2024.jsonl").read_bytes()
    decoded = FORM.decode(content, DecodeOptions(mapping=load(STATUS_PAGE, "m.yaml")))
    updates = [(line, update) for line in map(json.loads, content.splitlines()) for update in line["updates"]]
    assert decoded.rejects.is_empty()
    assert (len(decoded.frame), decoded.records) == (len(updates), len(updates))
    assert decoded.frame["type"].to_list() == [update["status"] for _, update in updates]
    assert decoded.frame["message"].to_list() == [update["message"] for _, update in updates]
    incidents = decoded.frame["attributes"].str.json_path_match("$.incident")
    assert incidents.to_list() == [line["id"] for line, _ in updates]
    assert decoded.frame["time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ").to_list() == [update["at"] for _, update in updates]
    assert decoded.frame.filter(pl.col("severity") == "critical")["attributes"].len() == sum(
        line["impact"] == "critical" for line, _ in updates
    )
