"""What workers tell API nodes: the same on both sides, whatever a shard publishes."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from connectors.formats import jsonl
from connectors.formats.types import DecodeOptions
from connectors.kafka.envelope import Envelope, packed, unpacked
from connectors.rulefiles import builtin
from flows import results
from flows.live_detect import Published
from flows.live_sink import tables_of
from flows.results import Begun, Records, Told
from flows.sink import Counts, Stored
from flows.steps import classify, store
from flows.versions import RuleVersions
from operators.classify import Classifier
from operators.clock import NEVER
from operators.events import DEAD_LETTERS
from operators.intake import Intake
from operators.live import Gone, Publication
from operators.output import NO_OUTPUT
from tests.harness import START, LivePlant, matches
from tests.strategies import Scenario, arrivals, scenarios


def again(message: Envelope) -> Any:
    """What the other side reads."""
    return results.read(unpacked(packed(message)))


def assert_equal(one: Publication, other: Publication) -> None:
    """All of a publication that readers see."""
    assert one.gone == other.gone
    assert_frame_equal(one.members, other.members)
    for name, frame in one.output.tables().items():
        assert_frame_equal(frame, other.output.tables()[name])
    for name in ("transitions", "alerts"):
        assert_frame_equal(one.news.tables()[name], other.news.tables()[name])


@given(st.data(), scenarios(size=20))
def test_what_a_shard_publishes_arrives(data: st.DataObject, scenario: Scenario) -> None:
    """Rows in every state, what goes, who belongs to what, and the news; with the types that the store expects."""
    plant = LivePlant(scenario.records)
    until = START
    for n, step in enumerate(data.draw(arrivals(scenario))):
        items = scenario.claimed(step.partition, step.rows)
        plant.live.add(step.partition, step.watermark, matches(items) if items else None)
        until = max([until, step.watermark if step.watermark < 2**62 else until, *(m.at for m in items)])
        publication = plant.live.publish(until)
        reached = dict.fromkeys(scenario.records, n)
        published = Published("3", reached, until, publication, 7, NEVER, plant.live.partitions)
        told = Told(3, n + 1, 2, NEVER, published)
        found = again(results.of_told(told))
        assert isinstance(found, Told)
        assert_equal(found.published.publication, publication)
        assert replace(found, published=published) == told
        for name in ("shard", "reached", "now", "live", "partitions"):
            assert getattr(found.published, name) == getattr(published, name), name
        assert results.announced(found) == results.announced(told)


def test_what_goes_arrives() -> None:
    """Incidents, steps, alerts and tenants, each as what it is."""
    gone = Gone(("a", "b"), (("a", 3), ("c", 0)), ("x",), ("c", "d"))
    publication = Publication(NO_OUTPUT, gone, pl.DataFrame(), NO_OUTPUT)
    told = Told(0, 1, 0, START, Published("0", {}, NEVER, publication, 0, NEVER))
    assert again(results.of_told(told)).published.publication.gone == gone


def test_a_beginning_arrives() -> None:
    """Also with the largest numbers."""
    assert again(results.of_begun(Begun(7, 2**62))) == Begun(7, 2**62)


def classified() -> Stored:
    """A batch with something of everything."""
    lines = [
        b'{"time":"2026-01-01T00:00:00Z","ingested_at":"2026-01-01T00:00:01Z","source":"a","type":"auth_failed","n":1}',
        b"garbage",
        b'{"time":"2026-01-01T00:00:00Z","ingested_at":"2026-01-01T00:00:02Z","source":"a","type":"auth_failed","id":"\xc3\xbc"}',
    ]  # fmt: skip
    decoded = jsonl.decode(b"\n".join(lines), DecodeOptions())
    [batch] = Intake("p", next_offset=5).take(decoded.frame, decoded.rejects, decoded.records)
    return store(*classify(Classifier(builtin()), True, batch), RuleVersions(builtin()), events=True)


def test_changes_of_settings_arrive() -> None:
    """Who made them, too."""
    line = (
        b'{"time":"2026-01-01T00:00:00Z","ingested_at":"2026-01-01T00:00:01Z","record":"configure","source":"api_key"}'
    )
    decoded = jsonl.decode(line, DecodeOptions())
    batch, _ = Intake("p").take(decoded.frame, decoded.rejects, decoded.records)
    stored = store(*classify(Classifier(builtin()), True, batch), RuleVersions(builtin()), events=True)
    records = Records("p", 0, 1, None, tables_of([stored]), {}, stored.counts)
    found = again(results.of_records(records))
    assert isinstance(found, Records)
    assert_frame_equal(found.tables["configurations"], stored.configurations)
    assert stored.configurations["actor"].to_list() == ["api_key"]


def test_records_arrive() -> None:
    """As they are stored, to the last column."""
    batch = classified()
    tables = {name: getattr(batch, name) for name in ("events", "claims", "dead_letters", "rules")}
    full = {name: frame for name, frame in tables.items() if frame.height}
    assert {"events", "dead_letters", "rules"} <= set(full)
    records = Records("t.log-0", 5, 8, START, full, {"acme": '{"lifecycle":{}}', "ü": "{}"}, batch.counts)
    found = again(results.of_records(records))
    assert isinstance(found, Records)
    assert replace(found, tables=full) == records
    assert set(found.tables) == set(full)
    for name, frame in full.items():
        assert_frame_equal(found.tables[name], frame)
    assert asdict(batch.counts)["dead_letters"] == 1


def test_counts_arrive_each_as_what_it_is() -> None:
    """A count that changes places with another one is never noticed."""
    counts = Counts(*range(1, len(fields(Counts)) + 1))
    empty = Records("p", 0, 0, None, {}, {}, counts)
    assert again(results.of_records(empty)) == empty


def test_a_column_that_was_all_null_has_its_type_again() -> None:
    """The store would refuse it; Arrow knows a type of nulls alone."""
    letters = pl.DataFrame({"offset": [1], "partition": ["p"], "raw": ["x"], "error": ["y"], "at": [None]})
    records = Records("p", 0, 2, None, {"dead_letters": letters}, {}, Counts())
    assert again(results.of_records(records)).tables["dead_letters"].schema == DEAD_LETTERS


RECORDS = results.of_records(Records("p", 0, 2, None, {}, {}, Counts()))
TOLD = results.of_told(
    Told(0, 1, 0, START, Published("0", {}, START, Publication(NO_OUTPUT, Gone(), pl.DataFrame(), NO_OUTPUT), 0, NEVER))
)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (RECORDS, {"kind": "other"}),
        (RECORDS, {"kind": None}),
        (RECORDS, {"version": 0}),
        (RECORDS, {"version": None}),
        (RECORDS, {"counts": {"more": 1}}),
        (RECORDS, {"counts": 5}),
        (RECORDS, {"partition": ...}),
        (TOLD, {"gone": [[], []]}),
        (TOLD, {"gone": [[], [["a"]], [], []]}),
        (TOLD, {"gone": 5}),
        (TOLD, {"run": ...}),
        (TOLD, {"partitions": None}),
    ],
)
def test_a_message_that_is_none_of_these_is_said_so(message: Envelope, change: dict[str, Any]) -> None:
    """A worker of another version, or somebody else: one sentence, whatever is missing."""
    meta = {name: value for name, value in {**message.meta, **change}.items() if value is not ...}
    with pytest.raises(ValueError, match=r"not a message of results|another version|unpack"):
        results.read(unpacked(packed(Envelope(meta))))


def test_rows_that_lack_a_column_are_none() -> None:
    """They would be stored with nulls."""
    with pytest.raises(ValueError, match="not a message of results"):
        results.read(Envelope(RECORDS.meta, {"events": pl.DataFrame({"offset": [1]})}))
    with pytest.raises(ValueError, match="not a message of results"):
        results.read(Envelope(TOLD.meta, {"incidents": pl.DataFrame({"id": ["a"], "opened_at": ["never"]})}))


def test_what_is_told_is_plain_json() -> None:
    """Whoever looks into the topic with Kafka's own tools sees what a message is about."""
    head = packed(TOLD)
    meta = orjson.loads(head[4 : 4 + int.from_bytes(head[:4], "big")])
    assert (meta["kind"], meta["shard"], meta["run"], meta["frames"]) == ("told", 0, 1, [])
