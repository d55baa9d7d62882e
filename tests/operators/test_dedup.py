"""Duplicates (S5): dropped within 24 h of the first, per partition, by (workspace, source, id)."""

from __future__ import annotations

import pickle
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.clock import PartitionClock
from operators.dedup import Deduplicator
from tests.harness import START, D, M, Row, S, frame, record, restart
from tests.oracle_clock import stamp, without_duplicates
from tests.strategies import WALL, cuts, histories, repeated, segments


def stamped(records: list[Row]) -> pl.DataFrame:
    clock = PartitionClock(30 * S)
    first, rest = clock.stamp(frame(records), WALL).frame, clock.finish().frame
    return pl.concat([first, rest]) if rest.height else first


def kept(*records: Row) -> list[int]:
    """Offsets left of records accepted by the log in this order."""
    return Deduplicator().filter(stamped(list(records)))["offset"].to_list()


def named(offset: int, at: int, id: str | None = "x", **columns: object) -> Row:
    return record(offset, START + at, START + at, id=id, **columns)


@given(st.data(), st.one_of(histories(), segments()), st.booleans())
def test_dedup_equals_the_oracle_however_batches_are_cut(data: st.DataObject, records: list[Row], again: bool) -> None:
    """Exactly once (promise 2), also when the sender retries across a batch, a crash or a restart."""
    records = data.draw(repeated(records))
    clock = stamp(records, 30 * S, WALL)
    expected = [row["offset"] for row in without_duplicates(clock.stamped)]
    whole = stamped(records)
    dedup, out = Deduplicator(), []
    for begin, end in pairwise([0, *sorted(data.draw(cuts(whole.height))), whole.height]):
        out += dedup.filter(whole[begin:end])["offset"].to_list()
        dedup = restart(dedup) if again else dedup
    assert out == expected
    assert dedup.dropped == whole.height - len(expected)


@pytest.mark.parametrize(("after", "dropped"), [(D - 1, True), (D, False), (D + 1, False)])
@pytest.mark.parametrize("together", [True, False])
def test_a_repetition_is_dropped_for_less_than_24_hours(after: int, dropped: bool, together: bool) -> None:
    records = [named(0, 0), named(1, after)]
    dedup = Deduplicator()
    batches = [records] if together else [[r] for r in records]
    clock = PartitionClock(30 * S)
    out = [n for b in batches for n in dedup.filter(clock.stamp(frame(b), WALL).frame)["offset"].to_list()]
    assert out == ([0] if dropped else [0, 1])
    assert dedup.dropped == int(dropped)


def test_an_id_that_counts_twice_in_a_batch_is_remembered_by_its_last_time() -> None:
    """A sparse file puts days into one batch: a retry right after it must not count."""
    dedup, clock = Deduplicator(), PartitionClock(30 * S)
    out = []
    for batch in ([named(0, 0), named(1, 3 * D)], [named(2, 3 * D + 1)]):
        out += dedup.filter(clock.stamp(frame(batch), WALL).frame)["offset"].to_list()
    assert out == [0, 1]


def test_24_hours_run_from_the_first_not_from_the_last_repetition() -> None:
    """A sender that retries every hour for ever is heard once a day, not never again."""
    assert kept(named(0, 0), named(1, D - M), named(2, D), named(3, D + M), named(4, 2 * D)) == [0, 2, 4]


def test_age_is_that_of_the_ingest_time_not_of_the_event() -> None:
    """The same id sent twice is the same event whatever the producer's clock says."""
    one = record(0, START, START, id="x")
    other = record(1, START - 2 * D, START + M, id="x")
    assert kept(one, other) == [0]


def test_records_without_an_id_are_never_duplicates() -> None:
    assert kept(named(0, 0, None), named(1, 0, None), named(2, 0, None)) == [0, 1, 2]


def test_an_empty_id_is_an_id() -> None:
    """An empty text is what the producer said; null is that it said nothing."""
    assert kept(named(0, 0, ""), named(1, 0, "")) == [0]


def test_the_same_id_of_another_source_or_workspace_is_another_record() -> None:
    assert kept(
        named(0, 0, "x", source="a", workspace="v"),
        named(1, 0, "x", source="b", workspace="v"),
        named(2, 0, "x", source="a", workspace="w"),
        named(3, 0, "x", source="a", workspace="v"),
    ) == [0, 1, 2]


def test_names_do_not_run_into_each_other() -> None:
    """("ab", "c") and ("a", "bc") are different senders."""
    assert kept(
        named(0, 0, "x", source="ab", workspace="c"),
        named(1, 0, "x", source="a", workspace="bc"),
        named(2, 0, "bx", source="a", workspace="c"),
        named(3, 0, "", source="abx", workspace="c"),
    ) == [0, 1, 2, 3]


def test_a_command_with_an_id_is_deduplicated_like_an_event_even_without_a_source() -> None:
    """A retried resolve must not close the incident a second time."""
    columns = {"record": "resolve", "source": None, "type": None}
    assert kept(named(0, 0, "r", **columns), named(1, M, "r", **columns)) == [0]
    assert kept(named(0, 0, None, **columns), named(1, M, None, **columns)) == [0, 1]


def test_another_partition_has_its_own_memory() -> None:
    one, other = Deduplicator(), Deduplicator()
    assert one.filter(stamped([named(0, 0)])).height == 1
    assert other.filter(stamped([named(0, 0)])).height == 1


def test_other_columns_and_order_pass_untouched() -> None:
    whole = stamped([named(n, n * S, str(n % 3)) for n in range(9)])
    assert Deduplicator().filter(whole).equals(whole[:3])


def test_memory_forgets_what_is_older_than_a_day() -> None:
    """A year of history must not keep a year of ids."""
    dedup, clock, sizes = Deduplicator(), PartitionClock(30 * S), []
    for day in range(30):
        records = [named(day * 2000 + n, day * D + n * 43 * S, f"{day}-{n}") for n in range(2000)]
        assert dedup.filter(clock.stamp(frame(records), START + 99 * D).frame).height == 2000
        sizes.append(len(pickle.dumps(dedup)))
    assert max(sizes) < 4 * sizes[0] + 4096


def test_an_empty_batch_changes_nothing() -> None:
    dedup = Deduplicator()
    assert dedup.filter(stamped([])).is_empty()
    assert dedup.dropped == 0


def test_batches_of_one_equal_one_batch() -> None:
    records = [named(n, n * S, str(n % 5)) for n in range(40)]
    whole = stamped(records)
    dedup = Deduplicator()
    out = [n for row in range(40) for n in dedup.filter(whole[row : row + 1])["offset"]]
    assert out == kept(*records) == [0, 1, 2, 3, 4]
