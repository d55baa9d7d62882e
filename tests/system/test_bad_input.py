"""Input as it really is: what cannot be used becomes a dead letter with its place and a plain reason, nothing more."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from operators.events import RAW_LIMIT
from tests.system.runs import COMMAND, PATIENCE, ROOT, counts, environment, query, tocsin
from tocsin import app

START = datetime(2025, 3, 26, 8, 0, tzinfo=UTC)


def line(n: int, **fields: object) -> bytes:
    """A good record, `n` seconds into the log; a field that is None is left out."""
    row: dict[str, object] = {"time": f"{START + timedelta(seconds=n):%Y-%m-%dT%H:%M:%SZ}", "id": f"e{n}"}
    row |= {"source": "shop", "type": "order_placed"} | fields
    return json.dumps({key: value for key, value in row.items() if value is not None}, ensure_ascii=False).encode()


def around(*bad: bytes) -> bytes:
    """A log with good records before, between and after bad ones: 0 and 1 are good, 2 is bad, 3 is good, 4 bad, …"""
    lines = [line(0), line(1)]
    for each in bad:
        lines += [each, line(len(lines) + 1)]
    return b"\n".join(lines) + b"\n"


# name of the file -> its content, and a part of the reason of each bad record, which are at 2, 4, 6, …
CASES: dict[str, tuple[bytes, list[str]]] = {
    "broken.jsonl": (
        around(line(2)[:-9], b"Traceback (most recent call last):", b"[1,2]", b"\0\0\0"),
        ["not valid JSON", "not valid JSON", "object", "not valid JSON"],
    ),
    "types.jsonl": (
        around(line(2, source=["a"]), line(4, type={"a": 1}), line(6, value="fast"), line(8, tenant=[1])),
        ["source", "type", "value", "tenant"],
    ),
    "missing.jsonl": (
        around(line(2, time=None), line(4, source=None), line(6, type=""), line(8, time="")),
        ["time", "source", "type", "time"],
    ),
    "zones.jsonl": (
        around(line(2, time="2025-03-26T08:00:02 Mars/Base"), line(4, time="2025-03-26T08:00:04 CEST")),
        ["time", "time"],
    ),
    "nonsense.jsonl": (
        around(*(line(2 * n, time=t) for n, t in enumerate(("infinity", "yesterday", "2025-02-30T00:00:00Z", 5), 1))),
        ["time"] * 4,
    ),
    "future.jsonl": (
        around(line(2, time="2199-01-01T00:00:00Z"), line(4, time="2025-08-01T00:00:00Z"), line(6, time="99999-01-01")),
        ["in the future", "more than a day ahead", "time"],
    ),
    "utf8.jsonl": (
        around(b'{"time":"2025-03-26T08:00:02Z","source":"caf\xe9","type":"x"}', b"\xff\xfe\x00"),
        ["UTF-8", "UTF-8"],
    ),
    "commands.jsonl": (
        around(
            line(2, record="resolve", attributes={"rule_id": "nobody's", "group_key": "shop"}),
            line(4, record="configure", attributes={"rules": []}),
            line(6, record="shout"),
        ),
        ["nobody's", "rules", "shout"],
    ),
}
GOOD_IN_GZIP = 5_000


def invoke(*args: str | Path) -> tuple[int, str]:
    """Exit code and summary of a replay within this process."""
    result = CliRunner().invoke(app, ["replay", *map(str, args)])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def truncated_gzip() -> bytes:
    """Cut in the middle; the number of records in what is left is not a round one."""
    whole = gzip.compress(b"".join(line(n) + b"\n" for n in range(GOOD_IN_GZIP)), mtime=0)
    return whole[: len(whole) * 2 // 3]


def readable_lines(data: bytes) -> int:
    """Whole lines in damaged gzip data, by the reference implementation of the standard library."""

    return zlib.decompressobj(wbits=31).decompress(data).count(b"\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases replayed at once, a partition each; --strict says that something was wrong."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "in").mkdir()
    for name, (content, _) in CASES.items():
        (folder / "in" / name).write_bytes(content)
    (folder / "in" / "cut.jsonl.gz").write_bytes(truncated_gzip())
    code, summary = invoke(folder / "in", "--data", folder / "data", "--strict")
    assert code == 1, summary
    (folder / "summary").write_text(summary)
    return folder / "data"


def letters(data: Path, partition: str) -> list[tuple[int, str, str]]:
    """Offset, error and what was kept of each dead letter of a partition."""
    return query(
        data, f"""SELECT "offset", error, raw FROM dead_letters WHERE partition = '{partition}' ORDER BY "offset" """
    )


@pytest.mark.parametrize("name", CASES)
def test_bad_records_become_dead_letters_with_place_and_reason(name: str, data: Path) -> None:
    """One bad record in a million must be found and mended, and must not cost the others."""
    content, reasons = CASES[name]
    found = letters(data, name)
    assert [offset for offset, _, _ in found] == [2 + 2 * n for n in range(len(reasons))], found
    for (_, error, _), part in zip(found, reasons, strict=True):
        assert part in error
        assert "\n" not in error
        assert "Error(" not in error, "a reason is for people"
    whole = content.rstrip(b"\n").split(b"\n")
    for offset, _, raw in found:
        if name not in ("future.jsonl", "commands.jsonl"):  # there the record was understood before it was refused
            assert raw == whole[offset].decode(errors="replace"), "as it came, so that it can be sent again"
    stored = query(data, f"""SELECT "offset" FROM events WHERE partition = '{name}' ORDER BY ALL""")
    good = sorted(set(range(len(whole))) - {offset for offset, _, _ in found})
    assert [offset for (offset,) in stored] == good, "everything else is processed"


def test_a_truncated_gzip_is_read_as_far_as_it_goes(data: Path) -> None:
    """A copy broke off: what arrived counts, and somebody is told."""
    [(offset, error, raw)] = letters(data, "cut.jsonl.gz")
    readable = readable_lines(truncated_gzip())
    assert 1_000 < readable < GOOD_IN_GZIP
    assert query(data, "SELECT count(*) FROM events WHERE partition = 'cut.jsonl.gz'") == [(readable,)]
    assert (offset, "truncated" in error) == (readable, True), error
    assert line(readable).decode().startswith(raw)


def test_dead_letters_have_the_time_of_the_log(data: Path) -> None:
    """They are looked for around an outage: `at` is when the partition was there, not when somebody replayed it."""
    found = query(data, 'SELECT min("at"), max("at") FROM dead_letters')
    assert START <= found[0][0] <= found[0][1] <= START + timedelta(seconds=GOOD_IN_GZIP)


def test_the_summary_counts_them(data: Path) -> None:
    """Nobody looks into a table that nothing points to."""
    expected = sum(len(reasons) for _, reasons in CASES.values()) + 1
    assert query(data, "SELECT count(*) FROM dead_letters") == [(expected,)]
    assert counts(data)["dead_letters"] == expected
    assert f"{expected} records could not be used" in (data.parent / "summary").read_text()


def test_every_record_is_counted_once(data: Path) -> None:
    """The summary's number of records is the number of lines: a person checks that with wc."""
    lines = sum(content.count(b"\n") for content, _ in CASES.values()) + readable_lines(truncated_gzip()) + 1
    assert counts(data)["records"] == lines


def test_strict_is_only_about_dead_letters(tmp_path: Path) -> None:
    """Exit 1 on good input would make --strict useless; without --strict bad input is no failure."""
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(around())
    bad.write_bytes(around(b"{"))
    assert invoke(good, "--data", tmp_path / "a", "--strict")[0] == 0
    assert invoke(bad, "--data", tmp_path / "b")[0] == 0
    assert invoke(bad, "--data", tmp_path / "c", "--strict")[0] == 1


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b"{\n"], ids=["empty", "blank", "only rubbish"])
def test_input_without_any_event(content: bytes, tmp_path: Path) -> None:
    """The quietest of all nights ends well, too."""
    (tmp_path / "in.jsonl").write_bytes(content)
    code, summary = invoke(tmp_path / "in.jsonl", "--data", tmp_path / "data")
    assert code == 0
    assert "0 incidents" in summary


@pytest.mark.parametrize("change", ["appended", "shrunk", "rewritten"])
def test_a_file_that_changes_while_it_is_read(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is still written to, or rotated in place: what was there at the start counts, and it is said what
    was left out. The file is changed when the first of its batches has been decoded, the last not yet read."""
    from connectors import partitions

    file, lines = tmp_path / "growing.jsonl", [line(n) + b"\n" for n in range(30_000)]
    content = b"".join(lines)
    file.write_bytes(content)
    changed = []
    read = partitions._Input.read

    def read_and_change(self: partitions._Input, size: int) -> bytes:
        block = read(self, size)
        if self.consumed > 100_000 and not changed:
            changed.append(change)
            if change == "appended":
                with file.open("ab") as more:
                    more.write(line(30_000) + b"\n")
            elif change == "shrunk":
                os.truncate(file, 1_000)
            else:
                os.utime(file, ns=(1, 1))
        return block

    monkeypatch.setattr(partitions._Input, "read", read_and_change)
    assert invoke(file, "--data", tmp_path / "data", "--strict")[0] == 1
    assert changed
    [(offset, error, _)] = letters(tmp_path / "data", "growing.jsonl")
    [(stored, last)] = query(tmp_path / "data", 'SELECT count(*), max("offset") FROM events')
    assert stored == last + 1 == offset, "all records before that place, none behind it"
    assert {"appended": "grew", "shrunk": "shrank", "rewritten": "changed"}[change] in error
    if change == "appended":
        assert stored == 30_000
    else:
        assert 100 < stored < 30_000


LONG = 50 << 20


def test_a_line_of_50_megabytes(tmp_path: Path) -> None:
    """A core dump in a log file must not take the machine's memory, nor the records around it."""
    file = tmp_path / "long.jsonl"
    with file.open("wb") as out:
        out.write(line(0) + b"\n" + line(1) + b"\n" + b'{"time":"2025-03-26T08:00:02Z","source":"shop","type":"')
        for _ in range(LONG >> 20):
            out.write(b"x" * (1 << 20))
        out.write(b'"}\n' + line(3) + b"\n" + line(4) + b"\n")
    plain = tmp_path / "plain.jsonl"
    plain.write_bytes(around())
    usual = peak_memory("replay", plain, "--data", tmp_path / "plain")
    with_it = peak_memory("replay", file, "--data", tmp_path / "data")
    assert with_it - usual < 200 << 20, f"{with_it >> 20} MiB instead of {usual >> 20}"
    [(offset, error, raw)] = letters(tmp_path / "data", "long.jsonl")
    assert (offset, len(raw)) == (2, RAW_LIMIT)
    assert "longer than 16 MiB" in error
    assert [n for (n,) in query(tmp_path / "data", 'SELECT "offset" FROM events ORDER BY ALL')] == [0, 1, 3, 4]


def peak_memory(*args: str | Path) -> int:
    """Bytes that a command held at most, measured by a process that does nothing but start it."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *COMMAND, *map(str, args)], cwd=ROOT, env=environment(), timeout=PATIENCE,
        capture_output=True, check=True,
    )  # fmt: skip
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def test_standard_input(tmp_path: Path) -> None:
    """`zcat … | tocsin replay -`: bad records in a pipe are treated like those in a file."""
    done = tocsin("replay", "-", "--data", tmp_path / "data", "--strict", stdin=around(b"{"))
    assert done.returncode == 1, done.stderr
    assert [offset for offset, _, _ in letters(tmp_path / "data", "-")] == [2]
    assert query(tmp_path / "data", "SELECT count(*) FROM events") == [(3,)]
