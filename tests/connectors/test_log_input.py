"""The directory of a log as an input of a replay: one partition whose positions are those of the service."""

import itertools
import pickle
from pathlib import Path

import orjson
import polars as pl
import pytest

from connectors.files import InputError, expand, open_partition, plan
from connectors.formats.types import DecodeOptions
from connectors.log import Log
from connectors.partitions import Chunk, Position

OPTIONS = DecodeOptions()
NOW = 1_700_000_000_000_000


def body(n: int) -> bytes:
    return orjson.dumps({"time": "2023-11-14T22:13:19Z", "source": "s", "type": "t", "message": str(n)})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A log of 300 records in many segments."""
    clock = itertools.count(NOW)
    log = Log.open(tmp_path / "data" / "log", clock=lambda: next(clock), segment_bytes=3000)
    for n in range(0, 300, 5):
        log.append([body(i) for i in range(n, n + 5)], "acme").result(10)
    log.close()
    return tmp_path / "data" / "log"


def read(directory: Path, position: Position | None = None, largest: int = 4000) -> list[tuple[Chunk, list[str]]]:
    (entry,) = plan([str(directory)])
    with open_partition(entry, OPTIONS, position, largest) as reader:
        return [(chunk, reader.decode(chunk).frame["message"].to_list()) for chunk in reader.chunks()]


def messages(chunks: list[tuple[Chunk, list[str]]]) -> list[int]:
    return [int(message) for _, found in chunks for message in found]


def test_all_segments_are_one_partition_named_log(directory: Path) -> None:
    assert len(list(directory.iterdir())) > 5
    (entry,) = plan([str(directory)])
    assert (entry.name, entry.format.name) == ("log", "jsonl")
    assert entry.size == sum(path.stat().st_size for path in directory.iterdir())
    assert messages(read(directory)) == list(range(300))


def test_workspace_and_ingest_time_come_from_the_lines(directory: Path) -> None:
    (entry,) = plan([str(directory)])
    with open_partition(entry, OPTIONS) as reader:
        frame = pl.concat([reader.decode(chunk).frame for chunk in reader.chunks()])
    assert frame["workspace"].unique().to_list() == ["acme"]
    assert frame["ingested_at"].to_physical().to_list() == [NOW + n // 5 for n in range(300)]


def test_a_pickled_position_goes_on_exactly_behind_its_chunk(directory: Path) -> None:
    whole = read(directory)
    assert len(whole) > 10
    for n, (chunk, _) in enumerate(whole):
        position = pickle.loads(pickle.dumps(chunk.position))
        assert messages(whole[: n + 1]) + messages(read(directory, position)) == list(range(300))


def test_without_its_oldest_segments_it_begins_at_their_end(directory: Path) -> None:
    oldest, second, *_ = sorted(directory.iterdir())
    oldest.unlink()
    (entry,) = plan([str(directory)])
    with open_partition(entry, OPTIONS) as reader:
        assert reader.first == int(second.stem) > 0
    assert messages(read(directory)) == list(range(reader.first, 300))


def test_a_segment_archived_between_two_runs_is_missed_with_a_clear_sentence(directory: Path) -> None:
    position = read(directory)[0][0].position
    min(directory.iterdir()).unlink()
    with pytest.raises(InputError, match=r"the segment 0{20}\.jsonl is gone: put it back"):
        read(directory, position)


def test_what_is_appended_meanwhile_and_a_torn_line_are_left_out(directory: Path) -> None:
    (entry,) = plan([str(directory)])
    with open_partition(entry, OPTIONS, None, 4000) as reader:
        chunks = reader.chunks()
        found = [next(chunks)]
        with max(directory.iterdir()).open("ab") as file:
            file.write(b'{"time":"2023-11-14T22:13:19Z","source":"s","type":"t","message":"300"}\n{"torn')
        found += list(chunks)
    assert sum(chunk.data.count(b"\n") for chunk in found if isinstance(chunk.data, bytes)) == 300
    assert all(chunk.rejects.is_empty() for chunk in found)
    assert messages(read(directory)) == list(range(301))


def test_a_log_below_a_named_directory_is_one_partition_too(directory: Path) -> None:
    (directory.parent / "other.jsonl").write_bytes(body(0) + b"\n")
    assert [entry.name for entry in plan([str(directory.parent)])] == ["log", "other.jsonl"]
    assert expand([str(directory)]) == [str(directory)]


def test_another_format_for_a_log_is_refused(directory: Path) -> None:
    with pytest.raises(InputError, match="read as jsonl, not as csv"):
        plan([str(directory)], "csv")


def test_an_empty_log_is_no_error(tmp_path: Path) -> None:
    Log.open(tmp_path / "log", clock=lambda: NOW).close()
    assert read(tmp_path / "log") == []
