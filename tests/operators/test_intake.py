"""From decoded records to batches: what a partition's order decides, however its records arrive in chunks."""

import itertools

import polars as pl
import pytest

from operators.events import CONFIGURATIONS
from operators.intake import REJECTS, Batch, Intake
from operators.settings import NO_SETTINGS
from tests.harness import START, D, S, frame, record


def taken(intake: Intake, records: list[dict[str, object]], broken: list[int], cuts: list[int]) -> list[Batch]:
    """Feed records (by offset) and broken lines in chunks that end at `cuts`."""
    batches: list[Batch] = []
    end = 1 + max([record["offset"] for record in records] + broken)  # type: ignore[type-var, operator]
    for first, stop in itertools.pairwise([0, *cuts, end]):
        inside = [{**r, "offset": r["offset"] - first} for r in records if first <= r["offset"] < stop]  # type: ignore[operator]
        bad = [offset - first for offset in broken if first <= offset < stop]
        rejects = pl.DataFrame({"offset": bad, "raw": ["{"] * len(bad), "error": ["broken"] * len(bad)}, schema=REJECTS)
        batches += intake.take(frame(inside), rejects, stop - first)
    return batches + intake.finish()


@pytest.mark.parametrize("cuts", [[], [1], [3], [4], [2, 4], [1, 2, 3, 4]])
def test_a_dead_letter_has_the_same_time_wherever_a_chunk_ends(cuts: list[int]) -> None:
    """Offset 2 jumps three days, 3 is broken, 4 confirms the jump: the clock at 3 is that of 2, however cut."""
    records = [record(0, START), record(1, START + S), record(2, START + 3 * D), record(4, START + 3 * D + S)]
    batches = taken(Intake("p"), records, [3], cuts)
    letters = pl.concat([batch.dead_letters for batch in batches])
    assert letters["offset"].to_list() == [3]
    assert letters["at"].to_physical().to_list() == [START + 3 * D]


def test_settings_hold_for_what_follows() -> None:
    """S13: a `configure` record acts on the records behind it, and on its own workspace."""
    change = {
        **record(1, START + S),
        "record": "configure",
        "attributes": '{"rules":{"auth_failure":{"enabled":false}}}',
    }
    batches = taken(Intake("p"), [record(0, START), change, record(2, START + 2 * S)], [], [])
    seen = {offset: batch.settings for batch in batches for offset in batch.frame["offset"].to_list()}
    assert sorted(seen) == [0, 2]
    assert seen[0] == {}
    [settings] = seen[2].values()
    assert settings != NO_SETTINGS
    assert settings.override("auth_failure").enabled is False
    assert sum(batch.aside for batch in batches) == 1


@pytest.mark.parametrize("cuts", [[], [1], [2], [1, 2], [1, 2, 3]])
def test_changes_of_settings_are_kept(cuts: list[int]) -> None:
    """Who asked for what and when, with the batch that ends with them; what made no sense changed nothing."""
    told = {"record": "configure", "source": "user:7", "id": "cfg_1", "attributes": '{"lifecycle":{"close":"1m"}}'}
    untold = {"record": "configure", "source": None, "id": None, "attributes": None}
    wrong = {"record": "configure", "attributes": '{"rulez":{}}'}
    changes = [record(n, START + n * S) | said for n, said in enumerate((told, untold, wrong), 1)]
    batches = taken(Intake("p"), [record(0, START), *changes, record(4, START + 4 * S)], [], cuts)
    for batch in batches:
        assert all(offset == batch.next_offset - 1 for offset in batch.configurations["offset"])
    kept = pl.concat([batch.configurations for batch in batches])
    assert kept.schema == CONFIGURATIONS
    assert kept.select("offset", "actor", "id", "settings").rows() == [
        (1, "user:7", "cfg_1", '{"lifecycle":{"close":"1m"}}'),
        (2, None, None, "{}"),
    ]
    assert kept["time"].to_physical().to_list() == kept["at"].to_physical().to_list() == [START + S, START + 2 * S]
    assert kept.select("partition", "workspace").unique().height == 1


def test_nonsense_settings_are_a_dead_letter() -> None:
    """A typing error in a configuration must neither stop the stream nor be silent."""
    change = {**record(1, START + S), "record": "configure", "attributes": '{"rulez":{}}'}
    batches = taken(Intake("p"), [record(0, START), change, record(2, START + 2 * S)], [], [])
    letters = pl.concat([batch.dead_letters for batch in batches])
    assert letters["offset"].to_list() == [1]
    assert "rulez" in letters["error"][0]
    assert [offset for batch in batches for offset in batch.frame["offset"].to_list()] == [0, 2]


def test_only_the_last_part_of_a_chunk_moves_the_watermark() -> None:
    """A chunk cut by settings is several batches: the first must not claim the time of the last."""
    change = {**record(1, START + S), "record": "configure", "attributes": "{}"}
    first, last, _end = taken(Intake("p"), [record(0, START), change, record(2, START + 90 * S)], [], [])
    assert first.watermark < last.watermark == START + 60 * S
