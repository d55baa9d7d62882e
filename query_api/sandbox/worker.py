"""The process: takes questions from its standard input and answers on its standard output, one after the other.

It loads nothing of the service, knows no secret, writes no file, takes no more memory than it is given, and ends when
the service does.
"""

import os
import re
import resource
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

import duckdb
import pyarrow as pa

from query_api.sandbox import instance
from query_api.sandbox.answers import ANSWER_BYTES, TooLargeError, answer
from query_api.sandbox.messages import Answer, Question, Reason, receive, send
from query_api.statement import StatementError, reading_statement

# Beside what DuckDB counts: the interpreter, files as they are read, the values of functions, the answer.
BESIDE = 1 << 30
_LONGEST = 2_000  # characters of a reason
_OUT_OF_MEMORY = re.compile(r"out of memory|bad_alloc|malloc of size", re.IGNORECASE)
_LARGE = f"The answer is larger than {ANSWER_BYTES >> 20} MB: ask for fewer rows or columns."
_GONE = "Files of events cannot be read: they were replaced while the statement ran. Ask again."


def main() -> None:
    """Serve until standard input ends."""
    asked, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.chdir("/")
    os.nice(5)  # the service comes first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    pa.set_cpu_count(instance.THREADS)
    pa.set_io_thread_count(instance.THREADS)
    clock = _Clock()
    while (said := receive(asked)) is not None:
        question = Question(**said["question"])  # type: ignore[arg-type]
        clock.until(question.seconds)
        if not _answer(question, said["tables"], asked, told):  # type: ignore[arg-type]
            return
        clock.until(None)


class _Clock:
    """Ends the process where nobody waits for it any more: the service kills it, but may itself be gone."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._end: float | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def until(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds + 1

    def _watch(self) -> None:
        while True:
            time.sleep(1)
            end = self._end
            if os.getppid() != self._parent or (end is not None and time.monotonic() > end):
                os._exit(1)


def _answer(question: Question, tables: Mapping[str, str], asked: IO[bytes], told: IO[bytes]) -> bool:
    """Answer one question; returns whether there may be another."""
    began = time.monotonic()
    _limit(question.memory)
    files: list[Any] = []
    loaded = False
    con: duckdb.DuckDBPyConnection | None = None
    try:
        statement = reading_statement(question.sql)
        con = instance.opened(question.memory, tables)
        needed = instance.mentioned(statement, tables)
        send(told, {"needed": needed})
        for _ in needed:
            files += _take(con, asked)
        loaded = True
        instance.lock(con)
        relation = con.sql(statement, params=question.parameters or None)
        _tell(told, answer(relation, question.limit, question.form, began))
    except BaseException as wrong:
        reason, message = _reason(wrong, question, files)
        send(told, {"reason": reason, "message": message})
        # What it was sent and has not read would pass for the next question; what it ran out of may be gone for good.
        return reason == "wrong" and (loaded or con is None)
    finally:
        if con is not None:
            con.close()
    return True


def _take(con: duckdb.DuckDBPyConnection, asked: IO[bytes]) -> Sequence[Any]:
    """Take over the rows of one table; returns the files of events."""
    share: Any = receive(asked)
    with pa.ipc.open_stream(asked) as rows:
        instance.fill(con, share["name"], rows)
    instance.attach_files(con, share["workspace"], share["files"])
    files: Sequence[Any] = share["files"]
    return files


def _tell(told: IO[bytes], found: Answer) -> None:
    send(told, {"rows": found.rows, "truncated": found.truncated, "bytes": len(found.body)})
    told.write(found.body)
    told.flush()


def _limit(memory: str) -> None:
    """Let the operating system refuse what DuckDB does not count."""
    most = _bytes(memory) + BESIDE
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _bytes(memory: str) -> int:
    return int(memory[:-2]) * {"MB": 10**6, "GB": 10**9}[memory[-2:]]


def _reason(wrong: BaseException, question: Question, files: Sequence[Any]) -> tuple[Reason, str]:
    if isinstance(wrong, TooLargeError):
        return "large", _LARGE
    if isinstance(wrong, (duckdb.OutOfMemoryException, MemoryError)) or _OUT_OF_MEMORY.search(str(wrong)):
        return "memory", (
            f"The statement needs more than {question.memory} of memory: filter or aggregate earlier, or select fewer "
            "columns."
        )
    if isinstance(wrong, instance.Gone) or (isinstance(wrong, Exception) and instance.gone(wrong, files)):
        return "gone", _GONE
    if isinstance(wrong, (duckdb.Error, StatementError, ValueError, OverflowError, RecursionError)):
        text = str(wrong).strip()
        return "wrong", text[:_LONGEST] or "The statement is not valid."
    raise wrong


if __name__ == "__main__":
    main()
    sys.exit(0)
