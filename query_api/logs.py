"""Structured logs: JSON lines on stderr, or text where somebody watches.

A logger is made here and passed on; there is no global one. What looks like a key, a token or a password is blotted out
of every line, whoever wrote it: the callers log none, this is the second lock.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

Log = FilteringBoundLogger

_HIDDEN = "***"
_SECRET_TEXT = re.compile(r"sg_[0-9a-fA-F]{8,}|eyJ[\w-]+\.[\w-]*(?:\.[\w-]*)?")
_SECRET_NAMES = frozenset({"password", "token", "api_key", "authorization", "config", "secret", "x-api-key", "body"})


Form = Literal["auto", "json", "console"]


def make_log(stream: TextIO | None = None, form: Form = "auto", level: str = "info") -> Log:
    """Return a logger that writes to `stream` (stderr). form: auto is console on a terminal, else json."""
    out = sys.stderr if stream is None else stream
    log: Log = structlog.wrap_logger(
        _Lines(out), processors=_processors(out, form), wrapper_class=_from(level), cache_logger_on_first_use=True
    )
    return log


def configure(stream: TextIO | None = None, form: Form = "auto", level: str = "info") -> None:
    """Make `structlog.get_logger()` write as `make_log` does: for packages that nobody hands a logger."""
    out = sys.stderr if stream is None else stream
    structlog.configure(
        processors=_processors(out, form), wrapper_class=_from(level), logger_factory=lambda *_name: _Lines(out)
    )


def _from(level: str) -> type[Log]:
    return structlog.make_filtering_bound_logger(getattr(logging, level.upper()))


def _processors(out: TextIO, form: Form) -> list[Any]:
    every: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,  # here, so that tracebacks are text when they are blotted
        blot,
    ]
    if form == "console" or (form == "auto" and out.isatty()):
        plain = structlog.dev.plain_traceback
        return [
            *every,
            structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="time", exception_formatter=plain),
        ]
    return [*every, _render]


def adopt(log: Log, *names: str) -> None:
    """Send what libraries log with `logging` under these names (uvicorn, alembic, ...) to `log` and nowhere else."""
    for name in names:
        theirs = logging.getLogger(name)
        theirs.handlers[:] = [_Forward(log)]
        theirs.propagate = False


def blot(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what must not be in a log: a structlog processor."""
    for name, value in line.items():
        if name in _SECRET_NAMES:
            line[name] = _HIDDEN
        elif isinstance(value, str) and ("sg_" in value or "eyJ" in value):
            line[name] = _SECRET_TEXT.sub(_HIDDEN, value)
    return line


class _Lines:
    """Writes lines, each with its end in one piece. A log that nobody takes any more must not fail a request."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def msg(self, line: str) -> None:
        try:
            self._out.write(f"{line}\n")
            self._out.flush()
        except (OSError, ValueError):  # a closed pipe, a closed file
            pass

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


def _render(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> str:
    return orjson.dumps(line, default=repr).decode()


class _Forward(logging.Handler):
    """Hands a record of `logging` to a structlog logger."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
