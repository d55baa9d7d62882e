"""Messages as a chunk of lines that the decoders of files take: one line a message, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from connectors.formats import FORMATS, explode
from connectors.formats.types import REJECTS, Decoded, DecodeOptions
from connectors.kafka.runs import Run, TextRun
from connectors.kafka.settings import KafkaError
from operators.clock import AHEAD
from operators.events import RAW_LIMIT, TIMESTAMP

# A message is one record: formats of which a line may hold several, or none by itself, cannot be told apart by offset.
READABLE = tuple(name for name in FORMATS if name in ("jsonl", "cloudevents", "access_log", "syslog"))
_NO_EVENT = "record: only events are read from this topic"
_TOMBSTONE = "the message has no value"
_IN_THE_FUTURE = "time: more than 60 s after the message was sent"
_ACCEPTED_LATER = "ingested_at: more than 60 s after the message was sent"

# Values of messages -> a JSON object each, and errors by index.
Deserialize = Callable[[Sequence[bytes | None]], tuple[list[bytes], dict[int, str]]]


@dataclass(frozen=True, slots=True)
class MessageFormat:
    """How the messages of a topic become rows. deserialize: for binary messages, before the format. ours: of the log,
    where whoever accepted a record has looked at its times. Raises KafkaError where a message would be many records."""

    name: str
    options: DecodeOptions
    deserialize: Deserialize | None = None
    ours: bool = True

    def __post_init__(self) -> None:
        if explode.KEY in self.options.mapping:
            raise KafkaError(f"a message is one record: a topic cannot be mapped with {explode.KEY}")


def decode(run: Run, form: MessageFormat) -> Decoded:
    """The rows and rejects of some messages; offsets count from 0. Pure but for the registry, safe in any thread.

    A record that says when it was accepted keeps that; else it is the message's own time. Where a message has none,
    nothing is filled in.
    """
    text, errors = _text(run, form)
    decoded = FORMATS[form.name].decode(text, form.options)
    frame, rejects = decoded.frame, decoded.rejects
    if not form.ours:
        frame, commands = _events_only(frame, form)
        errors |= commands
    if errors:
        rejects = _because(rejects, run, errors)
    if frame.height + rejects.height < run.count:  # blank lines: in a file they are nothing, but who sent a message?
        told = {*frame["offset"].to_list(), *rejects["offset"].to_list()}
        rejects = _because(rejects, run, {n: _TOMBSTONE for n in range(run.count) if n not in told})
    if frame.height and not (form.ours and not frame["ingested_at"].null_count()):
        frame, ahead = _with_times(frame, run, doubtful=not form.ours)
        rejects = pl.concat([rejects, ahead]).sort("offset") if len(ahead) else rejects
    return Decoded(frame, rejects, run.count)


def _events_only(frame: pl.DataFrame, form: MessageFormat) -> tuple[pl.DataFrame, dict[int, str]]:
    """The events, in the workspace they are read for; and what is none. Who may write into a topic of others may not
    configure a workspace, nor tell one that something happened there, unless the mapping says so."""
    if "workspace" not in form.options.mapping:
        frame = frame.with_columns(workspace=pl.lit(form.options.workspace, pl.String))
    other = frame["record"].is_not_null()
    if not other.any():
        return frame, {}
    return frame.filter(~other), dict.fromkeys(frame.filter(other)["offset"].to_list(), _NO_EVENT)


def _text(run: Run, form: MessageFormat) -> tuple[bytes, dict[int, str]]:
    """The messages as lines, and why some of them are none, by index."""
    if form.deserialize is None:
        if isinstance(run, TextRun) and run.plain:
            return run.text, {}
        return b"\n".join([*_lines(run.values()), b""]), {}
    lines, errors = form.deserialize(run.values())
    return b"\n".join([*lines, b""]), errors


def _lines(values: Sequence[bytes | None]) -> list[bytes]:
    """Each value as one line. A line break in JSON is white space, or was wrong before, as a tab is."""
    lines = [value or b"" for value in values]
    if b"\n" in b"".join(lines):
        lines = [line.replace(b"\n", b"\t") for line in lines]
    return lines


def _because(rejects: pl.DataFrame, run: Run, errors: dict[int, str]) -> pl.DataFrame:
    """The rejects, where a message was no text of a record with what it was instead, as it was sent."""
    values = run.values()
    rest = rejects.filter(~pl.col("offset").is_in(list(errors)))
    rows = [
        (n, (values[n] or b"")[:RAW_LIMIT].decode("utf-8", "backslashreplace"), error)
        for n, error in sorted(errors.items())
    ]
    return pl.concat([rest, pl.DataFrame(rows, schema=REJECTS, orient="row")]).sort("offset")


def _with_times(frame: pl.DataFrame, run: Run, *, doubtful: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The frame with the messages' times (ms) where records do not say when they were accepted; and the rejects: what
    happens more than a minute after it was sent. The wall clock would decide otherwise after a restart.

    doubtful: nor is to be believed what says so of when it was accepted: one would drag the clock of all.
    """
    sent = pl.Series(run.times(), dtype=pl.Int64).gather(frame["offset"])
    given, limit = frame["ingested_at"], sent + AHEAD
    ahead = given.is_null() & (frame["time"].to_physical() > limit)
    later = (given.to_physical() > limit) & doubtful
    frame = frame.with_columns(ingested_at=given.fill_null(sent.cast(TIMESTAMP)))
    wrong = (ahead | later).fill_null(False)
    if not wrong.any():
        return frame, pl.DataFrame(schema=REJECTS)
    values = run.values()
    rows = [
        (n, (values[n] or b"")[:RAW_LIMIT].decode("utf-8", "backslashreplace"), reason)
        for mask, reason in ((ahead, _IN_THE_FUTURE), (later, _ACCEPTED_LATER))
        for n in frame.filter(mask.fill_null(False))["offset"].to_list()
    ]
    return frame.filter(~wrong), pl.DataFrame(rows, schema=REJECTS, orient="row")
