"""Stopping, going on, and starting where one cannot: an exit code and one plain sentence, and nothing touched."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from connectors.schema import STORE_VERSION
from flows.plan import PLAN_FILE
from flows.replay import BOARD_FILE
from tests.system.runs import (
    assert_same,
    counts,
    ended,
    fingerprint,
    query,
    records_read,
    replay,
    running,
    tables,
    tocsin,
    until,
    workers_of,
)
from tocsin import app

EVENT = b'{"time":"2025-03-26T08:00:00Z","source":"s","type":"auth_failed"}\n'


def says(*args: str | Path) -> tuple[int, str]:
    """Exit code and what is on stderr, of a command that runs within this process."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


def refused(data: Path, *args: str | Path) -> str:
    """The one sentence of a replay that does not start; what is in `data` stays as it is, byte by byte."""
    before = fingerprint(data)
    code, text = says("replay", "--data", data, *args)
    assert code == 2, text
    assert fingerprint(data) == before
    return text


# ---------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_stops_and_resume_goes_on(
    workers: str, log: list[Path | str], undisturbed: Path, tmp_path: Path
) -> None:
    """Somebody needs the machine for something else; what has been done must not be done again, or twice."""
    data = tmp_path / "data"
    with running(*log, "--workers", workers, data=data) as process:
        assert until(lambda: records_read(data) > 3_000 or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        code, out, err = ended(process)
        assert code == 130, out + err
        assert err.splitlines()[-1] == f"Stopped. Go on with: tocsin replay --resume --data {data}"
        assert not workers_of(data)
    assert query(data, "SELECT value FROM meta WHERE key = 'finished'") == []
    so_far = counts(data)["records"]
    assert 0 < so_far < counts(undisturbed)["records"]
    assert_same(tables(data, "analyst.duckdb"), tables(data), "what is there can be looked at:")
    # With another number of workers: the machine may be a different one.
    replay(data, "--resume", "--workers", "1")
    assert_same(tables(data), tables(undisturbed))
    assert counts(data) == counts(undisturbed)
    assert_same(tables(data, "analyst.duckdb"), tables(undisturbed))


# ---------------------------------------------------------------- --resume


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A small replay that is complete."""
    (tmp_path / "events.jsonl").write_bytes(EVENT)
    assert says("replay", tmp_path / "events.jsonl", "--data", tmp_path / "data")[0] == 0
    return tmp_path / "data"


@pytest.fixture
def unfinished(finished: Path) -> Path:
    """The same, taken for interrupted."""
    with duckdb.connect(str(finished / "store.duckdb")) as con:
        con.execute("DELETE FROM meta WHERE key = 'finished'")
    return finished


def test_resume_with_nothing_there(tmp_path: Path) -> None:
    """A mistyped directory: say so, and do not make one."""
    text = refused(tmp_path / "none", "--resume")
    assert "nothing to resume" in text
    assert not (tmp_path / "none").exists()


def test_resume_of_a_finished_run(finished: Path) -> None:
    """Run again by mistake, the results stay."""
    assert "is complete: there is nothing to resume" in refused(finished, "--resume")


def test_resume_of_a_run_that_only_lacked_its_last_word(unfinished: Path) -> None:
    """Killed between the last flush and the end: resuming takes a moment and ends well."""
    before = tables(unfinished)
    assert says("replay", "--resume", "--data", unfinished)[0] == 0
    assert_same(tables(unfinished), before)


def test_resume_of_a_run_that_could_not_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full at the very end: with room again, analysts must get their lake after all."""

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    (tmp_path / "events.jsonl").write_bytes(EVENT)
    with monkeypatch.context() as disk:
        disk.setattr("connectors.lake.publish", full)
        code, text = says("replay", tmp_path / "events.jsonl", "--data", tmp_path / "data")
        assert (code, "No space left on device" in text) == (2, True), text
    assert says("replay", "--resume", "--data", tmp_path / "data")[0] == 0
    assert_same(tables(tmp_path / "data", "analyst.duckdb"), tables(tmp_path / "data"))


@pytest.mark.parametrize("extra", ["events.jsonl", "--overwrite"])
def test_resume_with_inputs_or_overwrite(extra: str, unfinished: Path) -> None:
    """A resumed run reads what it began with; other inputs would be ignored silently."""
    assert "--resume goes on as the replay began" in refused(unfinished, "--resume", extra)


def test_resume_where_an_input_is_gone(unfinished: Path) -> None:
    """Log rotation took the file away in between."""
    (unfinished.parent / "events.jsonl").unlink()
    text = refused(unfinished, "--resume")
    assert "events.jsonl is gone: put it back" in text


def test_standard_input_cannot_be_resumed(unfinished: Path) -> None:
    """What came through a pipe does not come again."""
    plan = unfinished / "recovery" / PLAN_FILE
    body = json.loads(plan.read_text())
    body["inputs"][0]["path"] = "-"
    plan.write_text(json.dumps(body))
    assert "standard input cannot be resumed" in refused(unfinished, "--resume")


def test_resume_with_other_shards_than_the_store(unfinished: Path) -> None:
    """A recovery directory of another run was copied in: keys would be counted in two places."""
    plan = unfinished / "recovery" / PLAN_FILE
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"shards": 9}))
    assert "do not belong together" in refused(unfinished, "--resume")


# ---------------------------------------------------------------- what is in the way


def test_an_existing_store_is_not_replaced(finished: Path) -> None:
    """Last month's results must survive a forgotten --data."""
    text = refused(finished, finished.parent / "events.jsonl")
    assert "holds the results of an earlier run" in text
    assert "--overwrite" in text


def test_overwrite_replaces_it(finished: Path) -> None:
    """And then nothing of the old is left: not in the store, not in the lake."""
    (finished.parent / "other.jsonl").write_bytes(EVENT.replace(b'"s"', b'"other"'))
    assert says("replay", finished.parent / "other.jsonl", "--data", finished, "--overwrite")[0] == 0
    assert query(finished, "SELECT source FROM events") == [("other",)]
    assert_same(tables(finished, "analyst.duckdb"), tables(finished))


def make_newer(data: Path) -> None:
    with duckdb.connect(str(data / "store.duckdb")) as con:
        con.execute(f"UPDATE meta SET value = '{STORE_VERSION + 1}' WHERE key = 'store_version'")


def test_a_store_of_a_newer_version_is_left_alone(unfinished: Path) -> None:
    """Two versions of Tocsin on two machines, one shared directory."""
    make_newer(unfinished)
    assert "was written by a newer version of Tocsin" in refused(unfinished, "--resume")
    before = fingerprint(unfinished)
    code, text = says("incidents", "--data", unfinished)
    assert (code, "was written by a newer version of Tocsin" in text) == (2, True)
    assert fingerprint(unfinished) == before


def test_a_running_replay_is_left_alone(log: list[Path | str], undisturbed: Path, tmp_path: Path) -> None:
    """Two terminals, one directory: the second says so, even with --overwrite, and the first goes on unharmed."""
    data = tmp_path / "data"
    with running(*log, data=data) as process:
        assert until(lambda: records_read(data) > 0 or process.poll() is not None)
        os.kill(process.pid, signal.SIGSTOP)  # so that it is still there when the others have looked
        try:
            refusals = [says("replay", *args, "--data", data) for args in (["--resume"], [*log, "--overwrite"])]
        finally:
            os.kill(process.pid, signal.SIGCONT)
        for code, text in refusals:
            assert (code, "in use by another process" in text) == (2, True), text
        code, out, err = ended(process)
    assert code == 0, out + err
    assert_same(tables(data), tables(undisturbed))


# ---------------------------------------------------------------- what cannot be used


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["missing.jsonl"], ["missing.jsonl: no such file"]),
        (["none-*.jsonl"], ["none-*.jsonl: no file matches"]),
        ([], ["no input"]),
        (["events.jsonl", "--rules", "missing.yaml"], ["missing.yaml"]),
        (["events.jsonl", "--rules", "bad.yaml"], ["bad.yaml:4", "macth", "match"]),
        (["events.jsonl", "--map", "colour=$.x"], ["colour", "is no event column", "source"]),
        (["events.jsonl", "--map", "source"], ["--map source", "column=$.path"]),
        (["events.jsonl", "--map", "source=$."], ["--map"]),
        (["events.jsonl", "--mapping", "mapping.yaml"], ["mapping.yaml", "unknown field 'colums'"]),
        (["events.jsonl", "--mapping", "missing-map.yaml"], ["missing-map.yaml"]),
        (["events.jsonl", "--format", "xml"], ["unknown format 'xml'", "jsonl"]),
        (["events.jsonl", "--lateness", "soon"], ["soon"]),
        (["auth.log"], ["no year", "--year"]),
        (["array.json"], ["a JSON array", "jq"]),
    ],
)  # fmt: skip
def test_one_sentence_and_nothing_touched(
    args: list[str], parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing error costs seconds, and never a half-made data directory or, with --overwrite, the old results."""
    monkeypatch.chdir(tmp_path)
    Path("events.jsonl").write_bytes(EVENT)
    Path("bad.yaml").write_text("rules:\n  - id: mine\n    name: Mine\n    macth: {type: [x]}\n")
    Path("mapping.yaml").write_text("colums: {source: $.a}\n")
    Path("auth.log").write_text("Mar 27 13:06:56 host sshd[1]: Server listening on :: port 22.\n")
    Path("array.json").write_text("[{}]")
    assert says("replay", "events.jsonl", "--data", "old")[0] == 0
    for data in ("new", "old"):
        text = refused(Path(data), *args, "--overwrite")
        assert all(part in text for part in parts), text
        assert "rules" in " ".join(args) or len(text.strip().splitlines()) <= 5, text
    assert not Path("new").exists()


def test_the_summary_for_machines(tmp_path: Path) -> None:
    """`--json` is what a nightly job reads."""
    (tmp_path / "events.jsonl").write_bytes(EVENT * 2)
    done = tocsin("replay", tmp_path / "events.jsonl", "--data", tmp_path / "data", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["finished"], answer["records"], answer["open"]) == (True, 2, 1)


def test_leftover_progress_does_not_matter(unfinished: Path) -> None:
    """The board is only a hint: a resumed run makes its own."""
    (unfinished / "recovery" / BOARD_FILE).write_bytes(b"rubbish")
    assert says("replay", "--resume", "--data", unfinished)[0] == 0
