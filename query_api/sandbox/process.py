"""The service's side of the sandbox: one process, one question at a time, in three steps.

Everything here blocks, so it belongs into a thread; whoever gives up kills the process, which ends the thread as well.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa

from connectors.workspace_rows import Share, definitions, shares
from query_api.sandbox.messages import Answer, Question, Reason, receive, send

_ROOT = Path(__file__).parents[2]
# What an interpreter may need to start; nothing of what the service was told.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT")
_SETTING = {
    "HOME": "/nonexistent",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    # Both take what is needed, and not a gigabyte to begin with, which would count as taken.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
}
_DIED = "The statement was ended: it needed more than {memory} of memory."


class Refused(Exception):
    """There is no answer. reason: why, in a word; the text: why, in sentences for who asked."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Process:
    """A process, started with the first question and whenever it has ended. `clean`: ready for another question."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._question: Question | None = None
        self._killed = False
        self.clean = True

    def begin(self, question: Question) -> list[str]:
        """Ask; returns the tables whose rows are wanted (`feed`). Raises Refused."""
        self.clean, self._question = False, question
        message = {"question": dataclasses.asdict(question), "tables": dict(definitions())}
        try:
            said = self._ask(message)
        except (BrokenPipeError, EOFError):  # it has ended while nobody asked
            self._reap()
            try:
                said = self._ask(message)
            except (BrokenPipeError, EOFError):
                raise self._died() from None
        needed: list[str] = said["needed"]
        return needed

    def feed(self, con: duckdb.DuckDBPyConnection, workspace: str, names: list[str]) -> None:
        """Send a workspace's rows. con: see `connectors.workspace_rows.shares`."""
        for share in shares(con, workspace, names):
            if not self._write(workspace, share):
                return  # it has ended, and has said why, or has not: `finish` looks

    def finish(self) -> Answer:
        """Wait for the answer. Raises Refused."""
        said = self._said()
        size = said["bytes"]
        body = self._pipes()[1].read(size)
        if len(body) < size:
            raise self._died()
        self.clean = not self._killed
        return Answer(body, said["rows"], said["truncated"])

    def kill(self) -> None:
        """End it at once, whatever it does. From any thread; for good."""
        self._killed = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    def close(self) -> None:
        """Kill it and let go of it; by who uses it."""
        self.kill()
        self._reap()

    def _write(self, workspace: str, share: Share) -> bool:
        """Send one table; returns whether somebody takes it."""
        pipe = self._pipes()[0]
        files = [(file.path, file.first_at, file.last_at) for file in share.files]
        try:
            send(pipe, {"name": share.name, "workspace": workspace, "files": files})
            with pa.ipc.new_stream(pipe, share.rows.schema) as out:
                for batch in _batches(share.rows):
                    out.write_batch(batch)
            pipe.flush()
        except BrokenPipeError:
            return False
        finally:
            share.rows.close()
        return True

    def _ask(self, message: object) -> dict[str, Any]:
        if self._process is None:
            self._start()
        send(self._pipes()[0], message)
        return self._said(started=False)

    def _said(self, *, started: bool = True) -> dict[str, Any]:
        """The next line. started: it has taken the question, so that it ended because of it."""
        said = receive(self._pipes()[1])
        if said is None:
            if started:
                raise self._died()
            raise EOFError
        if "reason" in said:
            message: Any = said["message"]
            reason: Any = said["reason"]
            # Refused and ready for another one, or about to end: the next question finds out.
            self.clean = not self._killed
            raise Refused(reason, message)
        return said

    def _died(self) -> Refused:
        assert self._question is not None
        self._reap()
        self.clean = not self._killed
        return Refused("memory", _DIED.format(memory=self._question.memory))

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def _start(self) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "query_api.sandbox.worker"],
            cwd=_ROOT,
            env=environment | _SETTING,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the service's to handle
        )
        if self._killed:  # while it started
            self._process.kill()

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what is still in the buffer has nowhere to go
                    if pipe is not None:
                        pipe.close()
            process.wait()


def _batches(rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The rows; what goes wrong in reading them is DuckDB's, not the pipe's."""
    try:
        yield from rows
    except (OSError, pa.ArrowException) as wrong:
        raise duckdb.Error(str(wrong)) from wrong
