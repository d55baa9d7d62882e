"""What goes through the pipe between the service and a process of the sandbox: JSON lines, with Arrow in between."""

from dataclasses import dataclass
from typing import IO, Literal

import orjson

Form = Literal["json", "csv", "arrow"]
# Why there is no answer: the statement is wrong; it needs too much memory; it says too much; the store has changed.
Reason = Literal["wrong", "memory", "large", "gone"]


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks. limit: rows at most; memory: `512MB`, `2GB`; seconds: how long it may take."""

    sql: str
    parameters: dict[str, object]
    limit: int
    form: Form
    memory: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A body of the form that was asked for. rows: how many; truncated: there are more."""

    body: bytes
    rows: int
    truncated: bool


def send(pipe: IO[bytes], message: object) -> None:
    """Write a line."""
    pipe.write(orjson.dumps(message) + b"\n")
    pipe.flush()


def receive(pipe: IO[bytes]) -> dict[str, object] | None:
    """Read a line; None where there will be none any more."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    found: dict[str, object] = orjson.loads(line)
    return found
