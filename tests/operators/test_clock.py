"""The partition clock: ingest time, watermark, effective time (S2 to S4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.clock import PartitionClock
from tests.harness import START, D, H, M, Row, S, frame, record, restart, rows, split
from tests.oracle_clock import OracleClock, stamp
from tests.strategies import LATENESS, WALL, cuts, histories, segments

STAMPED = ("offset", "time", "ingested_at", "at", "late")


def run(
    records: list[Row], lateness: int = 30 * S, wall: int = WALL, at: list[int] | None = None, restarts: bool = False
) -> tuple[list[Row], list[int], PartitionClock]:
    """All records through the engine's clock, cut into batches at `at`, and its end of input."""
    clock = PartitionClock(lateness)
    out: list[Row] = []
    refused: list[int] = []
    for batch in split(records, at or []):
        stamped = clock.stamp(frame(batch), wall)
        out += rows(stamped.frame)
        refused += stamped.rejects["offset"].to_list()
        if restarts:
            clock = restart(clock)
    stamped = clock.finish()
    return out + rows(stamped.frame), refused + stamped.rejects["offset"].to_list(), clock


def essence(stamped: list[Row]) -> list[tuple[int, ...]]:
    return [tuple(row[name] for name in STAMPED) for row in stamped]


def history(*times: int, lateness: int = 30 * S, wall: int = WALL) -> tuple[list[int], list[int]]:
    """(offsets that count, offsets refused) of a file whose records have these `time`s."""
    out, refused, _ = run([record(n, time) for n, time in enumerate(times)], lateness, wall)
    return [row["offset"] for row in out], sorted(refused)


def stamped_at(time: int, ingested_at: int, before: int | None, lateness: int = 30 * S) -> Row:
    """The stamped row of one record of the log, after one accepted at `before`."""
    first = [] if before is None else [record(0, before, before)]
    out, _, _ = run([*first, record(1, time, ingested_at)], lateness)
    return out[-1]


# ---------------------------------------------------------------- equal to the definition


@given(st.data(), st.one_of(histories(), segments()), LATENESS, st.booleans())
def test_clock_equals_the_oracle_however_batches_are_cut(
    data: st.DataObject, records: list[Row], lateness: int, restarts: bool
) -> None:
    """Batch size, crashes and restarts change nothing (promise 1)."""
    expected = stamp(records, lateness, WALL)
    out, refused, clock = run(records, lateness, at=data.draw(cuts(len(records))), restarts=restarts)
    assert essence(out) == essence(expected.stamped)
    assert sorted(refused) == sorted(expected.rejected)
    if expected.watermark is not None:
        assert clock.watermark == expected.watermark


@given(st.one_of(histories(), segments()), LATENESS, st.integers(0, 25))
def test_watermark_equals_the_oracle_after_every_prefix(records: list[Row], lateness: int, n: int) -> None:
    """A watermark that runs ahead settles what may still change; one that lags holds results back."""
    clock, expected = PartitionClock(lateness), OracleClock(lateness)
    clock.stamp(frame(records[:n]), WALL)
    for each in records[:n]:
        expected.take(each, WALL)
    assert clock.watermark == expected.watermark or (expected.watermark is None and clock.watermark < -(2**62))


@given(st.one_of(histories(), segments()), LATENESS)
def test_no_effective_time_is_below_the_watermark_before_it(records: list[Row], lateness: int) -> None:
    """What the engine has settled can never be contradicted."""
    out, _, _ = run(records, lateness)
    highest = None
    for row in out:
        if highest is not None:
            assert row["at"] >= highest - lateness
            assert row["ingested_at"] >= highest
        highest = row["ingested_at"]


@given(histories(), LATENESS)
def test_other_columns_pass_untouched(records: list[Row], lateness: int) -> None:
    """The clock adds three columns and changes none of the producer's."""
    out, _, _ = run(records, lateness)
    for row in out:
        before = records[row["offset"]]
        assert {k: v for k, v in row.items() if k in before and k != "ingested_at"} == {
            k: v for k, v in before.items() if k != "ingested_at"
        }


# ---------------------------------------------------------------- S2: history and its outliers


def test_a_file_without_ingest_times_gets_the_running_maximum() -> None:
    out, _, _ = run([record(n, START + t) for n, t in enumerate((0, 5 * S, 3 * S, 9 * S))])
    assert [row["ingested_at"] - START for row in out] == [0, 5 * S, 5 * S, 9 * S]


def test_one_corrupt_year_does_not_drag_the_clock() -> None:
    """A lone record from 2085 is refused; the events after it are not late."""
    counted, refused = history(START, START + S, START + 60 * 365 * D, START + 2 * S, wall=START + 99 * 365 * D)
    assert (counted, refused) == ([0, 1, 3], [2])


def test_a_gap_of_days_counts_once_the_next_record_confirms_it() -> None:
    """A quiet weekend is not an outlier."""
    assert history(START, START + 3 * D, START + 3 * D + S) == ([0, 1, 2], [])


@pytest.mark.parametrize(("ahead", "held"), [(D - 1, False), (D, False), (D + 1, True)])
def test_a_record_is_held_only_when_more_than_a_day_ahead(ahead: int, held: bool) -> None:
    clock = PartitionClock(30 * S)
    clock.stamp(frame([record(0, START), record(1, START)]), WALL)
    stamped = clock.stamp(frame([record(2, START + ahead)]), WALL)
    assert stamped.frame.height == (0 if held else 1)


@pytest.mark.parametrize(("back", "confirmed"), [(D - 1, True), (D, True), (D + 1, False)])
def test_the_next_record_confirms_up_to_exactly_a_day_back(back: int, confirmed: bool) -> None:
    counted, refused = history(START, START, START + 3 * D, START + 3 * D - back)
    assert (counted, refused) == (([0, 1, 2, 3], []) if confirmed else ([0, 1, 3], [2]))


def test_a_corrupt_first_record_does_not_set_the_clock() -> None:
    assert history(START + 3 * D, START, START + S) == ([1, 2], [0])


def test_two_outliers_in_a_row_that_disagree_are_both_refused() -> None:
    assert history(START, START, START + 4 * D, START + 2 * D, START + S) == ([0, 1, 4], [2, 3])


def test_two_outliers_that_agree_are_a_new_time() -> None:
    """The second confirms the first, so the clock moves and what follows is late."""
    out, refused, _ = run([record(n, START + t) for n, t in enumerate((0, 0, 3 * D, 3 * D, S))])
    assert refused == []
    assert [row["late"] for row in out] == [False, False, False, False, True]


def test_a_single_record_counts_at_the_end_of_input() -> None:
    assert history(START) == ([0], [])


def test_an_outlier_as_last_record_counts_at_the_end_of_input() -> None:
    """Nothing contradicts it and nothing after it can suffer."""
    assert history(START, START, START + 3 * D) == ([0, 1, 2], [])


def test_a_held_record_is_stamped_before_the_one_that_confirms_it() -> None:
    """Rows stay in offset order, also across batches."""
    clock = PartitionClock(30 * S)
    assert clock.stamp(frame([record(0, START)]), WALL).frame.is_empty()
    assert clock.stamp(frame([record(1, START + S)]), WALL).frame["offset"].to_list() == [0, 1]


def test_the_refusal_of_an_outlier_names_a_reason() -> None:
    clock = PartitionClock(30 * S)
    rejects = clock.stamp(frame([record(0, START), record(1, START), record(2, START + 3 * D)]), WALL).rejects
    rejects = rejects.vstack(clock.stamp(frame([record(3, START)]), WALL).rejects)
    assert rejects["offset"].to_list() == [2]
    assert len(rejects["error"][0]) > 10


@pytest.mark.parametrize(("ahead", "counted"), [(60 * S - 1, True), (60 * S, True), (60 * S + 1, False)])
def test_a_time_more_than_a_minute_ahead_of_the_wall_clock_is_refused(ahead: int, counted: bool) -> None:
    for own in (None, WALL):
        out, refused, _ = run([record(0, WALL - S, own), record(1, WALL + ahead, own)], wall=WALL)
        assert [row["offset"] for row in out] == ([0, 1] if counted else [0])
        assert refused == ([] if counted else [1])


def test_a_log_of_a_clock_that_is_ahead_of_ours_comes_to_the_same() -> None:
    """What was accepted there is not refused by a replay here; but nothing is, that was ahead of that clock, too."""
    own = WALL + H
    times = [own - S, own + 60 * S, own + 60 * S + 1]
    out, refused, _ = run([record(n, time, own) for n, time in enumerate(times)], wall=WALL)
    assert [row["offset"] for row in out] == [0, 1]
    assert refused == [2]


def test_a_refused_future_record_neither_confirms_nor_contradicts() -> None:
    """It is refused before anything else: the held record waits for the next one that counts."""
    assert history(START, START, START + 3 * D, WALL + H, START + 3 * D) == ([0, 1, 2, 4], [3])
    assert history(START, START, START + 3 * D, WALL + H, START) == ([0, 1, 4], [2, 3])


def test_a_logs_own_ingest_time_needs_no_confirmation() -> None:
    """The log stamped it on acceptance: a week without traffic is a week without traffic."""
    clock = PartitionClock(30 * S)
    stamped = clock.stamp(frame([record(0, START, START), record(1, START + D * 4, START + D * 4)]), WALL)
    assert stamped.frame["offset"].to_list() == [0, 1]


def test_a_logs_ingest_time_never_decreases() -> None:
    out, _, _ = run([record(0, START, START + 5 * S), record(1, START, START + 2 * S)])
    assert [row["ingested_at"] for row in out] == [START + 5 * S] * 2


# ---------------------------------------------------------------- S4: late and future events


@pytest.mark.parametrize(("offset", "late"), [(+1, False), (0, False), (-1, True)])
def test_an_event_is_late_one_microsecond_below_the_watermark(offset: int, late: bool) -> None:
    """The watermark counts before the record: its own ingest time does not make it late."""
    watermark = START - 30 * S
    row = stamped_at(watermark + offset, START + H, before=START)
    assert row["late"] is late
    assert row["at"] == max(watermark, watermark + offset)


@pytest.mark.parametrize(("offset", "moved"), [(-1, False), (0, False), (+1, True)])
def test_an_event_from_the_future_is_held_at_a_minute_after_its_ingest(offset: int, moved: bool) -> None:
    bound = START + 60 * S
    row = stamped_at(bound + offset, START, before=START - M)
    assert row["at"] == (bound if moved else bound + offset)
    assert row["late"] is False


def test_the_first_record_of_a_partition_is_never_late() -> None:
    row = stamped_at(START - 5 * D, START, before=None)
    assert (row["at"], row["late"]) == (START - 5 * D, False)


def test_without_lateness_every_step_back_is_late() -> None:
    row = stamped_at(START - 1, START, before=START, lateness=0)
    assert (row["at"], row["late"]) == (START, True)


def test_a_late_event_counts_at_the_earliest_instant_still_open() -> None:
    row = stamped_at(START - 3 * D, START + M, before=START)
    assert (row["at"], row["late"]) == (START - 30 * S, True)


def test_a_refused_record_does_not_move_the_clock() -> None:
    clock = PartitionClock(30 * S)
    clock.stamp(frame([record(0, START), record(1, START)]), WALL)
    clock.stamp(frame([record(2, WALL + H)]), WALL)
    assert clock.watermark == START - 30 * S


def test_an_empty_batch_changes_nothing() -> None:
    clock = PartitionClock(30 * S)
    assert clock.stamp(frame([]), WALL).frame.is_empty()
    assert clock.finish().frame.is_empty()
