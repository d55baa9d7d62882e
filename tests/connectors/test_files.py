"""Reading: which files are taken, how they are cut, what happens to damaged and changing ones, and resuming."""

import gzip
import io
import os
import pickle
import random
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import zstandard

from connectors import chunks as chunking
from connectors.chunks import pieces
from connectors.compression import Read
from connectors.files import Input, InputError, expand, names, open_partition, plan
from connectors.formats import FORMATS, Format, format_of
from connectors.formats.types import DecodeOptions
from connectors.partitions import Chunk, Position
from operators.events import DECODED, RAW_LIMIT

OPTIONS = DecodeOptions()
EVENT = '{"time":"2024-01-01T00:00:00Z","source":"s","type":"t","message":"%d"}'


def events(count: int, first: int = 0) -> bytes:
    return "".join(EVENT % n + "\n" for n in range(first, first + count)).encode()


def only(path: Path) -> Input:
    (entry,) = plan([str(path)])
    return entry


def read(entry: Input, position: Position | None = None, largest: int = chunking.LARGEST) -> list[Chunk]:
    with open_partition(entry, OPTIONS, position, largest) as reader:
        return list(reader.chunks())


def content(chunks: list[Chunk]) -> bytes:
    return b"".join(chunk.data for chunk in chunks if isinstance(chunk.data, bytes))


def errors(chunks: list[Chunk]) -> list[str]:
    return [error for chunk in chunks for error in chunk.rejects["error"]]


def compressed(data: bytes, ending: str) -> bytes:
    if ending == ".gz":
        return gzip.compress(data)
    return zstandard.compress(data) if ending == ".zst" else data


@pytest.fixture(params=["", ".gz", ".zst"])
def ending(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- which files -----------------------------------------------------------------------------------------------------


def test_files_globs_and_directories_give_each_file_once_in_order(tmp_path: Path) -> None:
    (tmp_path / "day" / "deep").mkdir(parents=True)
    for name in ("day/b.jsonl", "day/a.jsonl.gz", "day/deep/app.log.2", "day/README.md", "day/.hidden.jsonl"):
        (tmp_path / name).write_bytes(events(1))
    inputs = [str(tmp_path / "day"), str(tmp_path / "day" / "*.jsonl"), str(tmp_path / "day" / "b.jsonl")]
    assert names(expand(inputs)) == ["a.jsonl.gz", "b.jsonl", "deep/app.log.2"]


def test_a_partition_is_named_alike_wherever_its_folder_lies(tmp_path: Path) -> None:
    for where in ("here", "there"):
        for name in ("x/1.jsonl", "y/1.jsonl"):
            (tmp_path / where / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / where / name).write_bytes(events(1))
    found = [[entry.name for entry in plan([str(tmp_path / where)])] for where in ("here", "there")]
    assert found == [["x/1.jsonl", "y/1.jsonl"]] * 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["no/*.csv"], "no/*.csv: no file matches"),
        (["."], ".: no input in this directory; looked for .log, "),
        ([], "no input: name a file"),
    ],
)
def test_an_input_that_names_nothing_is_one_clear_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as raised:
        plan(inputs)
    assert str(raised.value).startswith(message)


def test_unusable_formats_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "array.json").write_bytes(b'[{"time": 1}]')
    (tmp_path / "what.txt").write_bytes(b"once upon a time\n")
    (tmp_path / "auth.log").write_bytes(b"Mar 27 13:06:56 host sshd[1]: Server listening\n")
    for name, message in (("array.json", "a JSON array"), ("what.txt", "--format"), ("auth.log", "--year")):
        with pytest.raises(InputError, match=message):
            plan([str(tmp_path / name)])
    with pytest.raises(InputError, match=r"unknown format 'xml'; known are access_log, cloudevents, csv"):
        plan([str(tmp_path / "what.txt")], "xml")
    assert plan([str(tmp_path / "auth.log")], options=DecodeOptions(year=2017))[0].format.name == "syslog"


@pytest.mark.parametrize(
    ("name", "first", "expected"),
    [
        ("a.json", b'{"resourceLogs":[]}', "otlp"),
        ("a.json", b'{"specversion":"1.0"}', "cloudevents"),
        ("a.jsonl", b'{"time":"x"}', "jsonl"),
        ("a.jsonl", b"broken\n", "jsonl"),
        ("a.log", b'1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1', "access_log"),
        ("a.log", b"<34>Oct  1 22:14:15 host su: hello", "syslog"),
        ("a.log", b"2024-03-27T13:06:56.123456+01:00 host sshd[1]: x", "syslog"),
        ("a.csv", b"a,b\n", "csv"),
        ("a", b"timestamp,value\n2014-04-01 00:00:00,1\n", "csv"),
        ("a", b"PAR1....", "parquet"),
    ],
)
def test_the_format_is_told_by_content_then_by_name(name: str, first: bytes, expected: str) -> None:
    found = format_of(name, first)
    assert found is not None
    assert found.name == expected


# --- cutting ---------------------------------------------------------------------------------------------------------


def from_blocks(data: bytes, sizes: random.Random) -> Read:
    stream = io.BytesIO(data)
    return lambda size: stream.read(min(size, sizes.randint(1, 40)))


@pytest.mark.parametrize("seed", range(30))
def test_pieces_are_the_whole_input_in_whole_lines(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "FIRST", 8)
    monkeypatch.setattr(chunking, "MAX_LINE", 50)
    draw = random.Random(seed)
    lines = [bytes(draw.choices(b"ab ", k=draw.choice((0, 3, 49, 50, 51, 52, 200)))) for _ in range(20)]
    data = b"\n".join(lines) + draw.choice((b"", b"\n"))
    found = list(pieces(from_blocks(data, draw), largest=40))
    assert sum(piece.size for piece in found) == len(data)
    good = b"".join(piece.data for piece in found if piece.error is None)
    lines = data.splitlines(keepends=True)
    assert good == b"".join(line for line in lines if len(line.rstrip(b"\n")) <= 50)
    assert [piece.size for piece in found if piece.error] == [
        len(line) for line in lines if len(line.rstrip(b"\n")) > 50
    ]
    assert all(piece.data.endswith(b"\n") for piece in found[:-1] if piece.error is None)


def test_chunks_begin_small_and_grow_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(events(40_000))
    sizes = [len(chunk.data) for chunk in read(only(tmp_path / "a.jsonl"), largest=1 << 20)]
    assert sizes[0] <= 64 << 10 < sizes[1] <= 257 << 10 < sizes[2] <= 1025 << 10


def test_a_line_of_50_mb_is_one_dead_letter_in_bounded_memory(tmp_path: Path, ending: str) -> None:
    data = events(3) + b'{"x":"' + b"y" * 50_000_000 + b'"}\n' + events(3, 3)
    (tmp_path / f"a.jsonl{ending}").write_bytes(compressed(data, ending))
    del data
    tracemalloc.start()
    with open_partition(only(tmp_path / f"a.jsonl{ending}"), OPTIONS) as reader:
        decoded = [reader.decode(chunk) for chunk in reader.chunks()]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [message for part in decoded for message in part.frame["message"]] == list("012345")
    (reject,) = [row for part in decoded for row in part.rejects.iter_rows(named=True)]
    assert reject["error"] == "the line is longer than 16 MiB (50,000,009 bytes)"
    assert len(reject["raw"]) == RAW_LIMIT
    assert sum(part.records for part in decoded) == 7
    assert peak < 100 << 20


def test_a_byte_order_mark_is_no_content(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.jsonl{ending}").write_bytes(compressed(b"\xef\xbb\xbf" + events(2), ending))
    chunks = read(only(tmp_path / f"a.jsonl{ending}"))
    assert content(chunks) == events(2)
    assert chunks[-1].position.at == len(events(2)) + 3


def test_an_empty_file_is_no_error(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.jsonl{ending}").write_bytes(compressed(b"", ending))
    assert read(only(tmp_path / f"a.jsonl{ending}")) == []


# --- resuming --------------------------------------------------------------------------------------------------------


def test_a_pickled_position_goes_on_exactly_behind_its_chunk(tmp_path: Path, ending: str) -> None:
    data = events(40_000)
    (tmp_path / f"a.jsonl{ending}").write_bytes(compressed(data, ending))
    entry = only(tmp_path / f"a.jsonl{ending}")
    whole = read(entry, largest=200_000)
    assert len(whole) > 3
    for n, chunk in enumerate(whole):
        position = pickle.loads(pickle.dumps(chunk.position))
        assert len(pickle.dumps(position)) < 200
        rest = read(entry, position, largest=200_000)
        assert content(whole[: n + 1]) + content(rest) == data


@pytest.mark.parametrize("skip", range(8))
def test_csv_and_parquet_resume_with_header_and_rows(tmp_path: Path, skip: int) -> None:
    rows = pl.DataFrame({"time": ["2024-01-01 00:00:00"] * 5000, "source": "s", "type": "t", "value": range(5000)})
    rows.write_csv(tmp_path / "a.csv")
    rows.write_parquet(tmp_path / "a.parquet", row_group_size=1500)
    for name in ("a.csv", "a.parquet"):
        entry = only(tmp_path / name)
        values: list[float] = []
        position = None
        for _ in range(skip):
            with open_partition(entry, OPTIONS, position, largest=50_000) as reader:
                chunk = next(reader.chunks(), None)
                if chunk is not None:
                    values += reader.decode(chunk).frame["value"].to_list()
                    position = chunk.position
        with open_partition(entry, OPTIONS, position, largest=50_000) as reader:
            for chunk in reader.chunks():
                values += reader.decode(chunk).frame["value"].to_list()
        assert values == list(range(5000))


def test_stdin_is_read_like_a_file_and_skipped_on_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(events(8000)))
    seen: list[bytes] = []
    position = None
    for _ in range(2):
        read_end, write_end = os.pipe()
        os.write(write_end, (tmp_path / "a").read_bytes())
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
            (entry,) = plan(["-"])
            assert (entry.name, entry.format.name, entry.size) == ("-", "jsonl", None)
            with open_partition(entry, OPTIONS, position) as reader:
                for chunk in reader.chunks():
                    assert isinstance(chunk.data, bytes)
                    seen.append(chunk.data)
                    position = chunk.position
                    if len(seen) == 1:
                        break
    assert b"".join(seen) == events(8000)
    assert len(seen) > 1


# --- damaged and changing files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_of_a_truncated_file_everything_before_is_delivered(tmp_path: Path, ending: str) -> None:
    draw = random.Random(1)
    lines = [
        b'{"time":"2024-01-01T00:00:00Z","source":"%016x","type":"t"}\n' % draw.getrandbits(64) for _ in range(50_000)
    ]
    whole = compressed(b"".join(lines), ending)
    (tmp_path / "a").write_bytes(whole[: len(whole) * 2 // 3])
    entry = plan([str(tmp_path / "a")])[0]
    chunks = read(entry)
    delivered = content(chunks)
    assert delivered == b"".join(lines)[: len(delivered)]
    assert len(delivered) > len(b"".join(lines)) * 0.6
    assert delivered.endswith(b"\n")
    kind = "gzip" if ending == ".gz" else "zstd"
    assert errors(chunks) == [f"the {kind} data ends in the middle: the file is truncated"]
    assert chunks[-1].position.done
    assert read(entry, chunks[-1].position) == []  # a resumed run does not report it twice


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_damage_inside_is_one_dead_letter_wherever_reading_resumes(tmp_path: Path, ending: str) -> None:
    draw = random.Random(2)
    lines = [b'{"n":"%032x"}\n' % draw.getrandbits(128) for _ in range(100_000)]
    data = bytearray(compressed(b"".join(lines), ending))
    data[len(data) // 2 : len(data) // 2 + 50] = b"\xff" * 50
    (tmp_path / "a").write_bytes(data)
    entry = plan([str(tmp_path / "a")])[0]
    whole = read(entry)
    assert "data is damaged" in errors(whole)[0]
    resumed = read(entry, whole[1].position, largest=100_000)
    assert content(whole[:2]) + content(resumed) == content(whole)
    assert resumed[-1].rejects.equals(whole[-1].rejects)


def test_members_one_after_the_other_are_one_content(tmp_path: Path) -> None:
    for kind in (".gz", ".zst"):
        data = b"".join(compressed(events(5, 5 * n), kind) for n in range(3))
        (tmp_path / "a.jsonl").write_bytes(data + (bytes(512) if kind == ".gz" else b""))
        assert content(read(only(tmp_path / "a.jsonl"))) == events(15)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: os.truncate(path, 100_000), "the file shrank from"),
        (lambda path: path.write_bytes(b"x" * path.stat().st_size), "the file was changed while it was read"),
    ],
)
def test_a_file_that_changes_while_read_stops_there(
    tmp_path: Path, change: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(events(20_000))
    os.utime(path, (1, 1))
    with open_partition(only(path), OPTIONS) as reader:
        chunks = reader.chunks()
        first = next(chunks)
        change(path)
        rest = list(chunks)
    assert isinstance(first.data, bytes)
    assert content(rest) == b""
    assert len(errors(rest)) == 1
    assert errors(rest)[0].startswith(reason)
    assert len(first.data) <= rest[-1].position.at <= 64 << 10
    assert rest[-1].position.done


def test_of_a_file_that_grows_all_that_was_there_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(events(20_000) + b'{"half')
    with open_partition(only(path), OPTIONS) as reader:
        chunks = [next(reader.chunks())]
        with path.open("ab") as file:
            file.write(b' a line"}\n')
    resumed = read(only(path), chunks[0].position)  # the same, whether the run was interrupted or not
    assert content(chunks + resumed) == events(20_000)
    assert errors(resumed)[0].startswith("the file grew from")
    assert resumed[-1].rejects["raw"].to_list() == ['{"half']


def test_a_parquet_file_cut_short_is_one_dead_letter(tmp_path: Path) -> None:
    pl.DataFrame({"time": ["2024-01-01 00:00:00"] * 50}).write_parquet(tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[:-20])
    with open_partition(only(tmp_path / "a.parquet"), OPTIONS) as reader:
        (decoded,) = [reader.decode(chunk) for chunk in reader.chunks()]
    assert decoded.records == 1
    assert decoded.rejects["error"][0].startswith("not a readable Parquet file")


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_every_format_takes_an_empty_chunk(form: Format) -> None:
    decoded = form.decode(pl.DataFrame() if form.frames else b"", DecodeOptions(year=2024))
    assert (len(decoded.frame), len(decoded.rejects), decoded.records) == (0, 0, 0)
    assert dict(decoded.frame.schema) == DECODED
