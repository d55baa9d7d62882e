"""Messages as a chunk of lines that the decoders of files take: one line a message, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
from confluent_kafka import Message

from connectors.formats import FORMATS
from connectors.formats.types import REJECTS, Decoded, DecodeOptions
from connectors.kafka.reader import Run
from operators.clock import AHEAD
from operators.events import RAW_LIMIT, TIMESTAMP

# A message is one record: formats of which a line may hold several, or none by itself, cannot be told apart by offset.
READABLE = tuple(name for name in FORMATS if name in ("jsonl", "cloudevents", "access_log", "syslog"))
_TOMBSTONE = "the message has no value"
_IN_THE_FUTURE = "time: more than 60 s after the message was sent"

# Values of messages -> a JSON object each, and errors by index.
Deserialize = Callable[[Sequence[bytes | None]], tuple[list[bytes], dict[int, str]]]


@dataclass(frozen=True, slots=True)
class MessageFormat:
    """How the messages of a topic become rows. deserialize: for binary messages, before the format."""

    name: str
    options: DecodeOptions
    deserialize: Deserialize | None = None


def decode(run: Run, form: MessageFormat) -> Decoded:
    """The rows and rejects of some messages; offsets count from 0. Pure but for the registry, safe in any thread.

    A record that says when it was accepted keeps that; else it is the message's own time.
    """
    values: list[bytes | None] = [message.value() for message in run.messages]
    errors: dict[int, str] = {}
    if form.deserialize is None:
        lines, errors = _lines(values)
    else:
        lines, errors = form.deserialize(values)
    decoded = FORMATS[form.name].decode(b"\n".join([*lines, b""]), form.options)
    frame, rejects = decoded.frame, decoded.rejects
    if errors:
        rejects = _because(rejects, values, errors)
    if frame["ingested_at"].null_count():
        frame, ahead = _with_times(frame, run.messages)
        rejects = pl.concat([rejects, ahead]).sort("offset") if len(ahead) else rejects
    return Decoded(frame, rejects, len(values))


def _lines(values: list[bytes | None]) -> tuple[list[bytes], dict[int, str]]:
    """Each value as one line. A line break in JSON is white space, or was wrong before, as a tab is."""
    errors = {}
    if None in values or b"" in values:
        errors = {n: _TOMBSTONE for n, value in enumerate(values) if not value}
    lines = [value or b"null" for value in values] if errors else [value or b"" for value in values]
    if b"\n" in b"".join(lines):
        lines = [line.replace(b"\n", b"\t") for line in lines]
    return lines, errors


def _because(rejects: pl.DataFrame, values: Sequence[bytes | None], errors: dict[int, str]) -> pl.DataFrame:
    """The rejects, where a message was no text of a record with what it was instead, as it was sent."""
    rest = rejects.filter(~pl.col("offset").is_in(list(errors)))
    rows = [
        (n, (values[n] or b"")[:RAW_LIMIT].decode("utf-8", "backslashreplace"), error)
        for n, error in sorted(errors.items())
    ]
    return pl.concat([rest, pl.DataFrame(rows, schema=REJECTS, orient="row")]).sort("offset")


def _with_times(frame: pl.DataFrame, messages: Sequence[Message]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The frame with the messages' times (ms) where records do not say when they were accepted; and the rejects: what
    happens more than a minute after it was sent. The wall clock would decide otherwise after a restart."""
    times = pl.Series([message.timestamp()[1] * 1_000 for message in messages], dtype=pl.Int64)
    sent = times.gather(frame["offset"]).cast(TIMESTAMP)
    ahead = frame["ingested_at"].is_null() & (frame["time"].to_physical() > sent.to_physical() + AHEAD)
    frame = frame.with_columns(ingested_at=pl.coalesce("ingested_at", pl.lit(sent)))
    if not ahead.any():
        return frame, pl.DataFrame(schema=REJECTS)
    rows = [
        (n, (messages[n].value() or b"")[:RAW_LIMIT].decode("utf-8", "backslashreplace"), _IN_THE_FUTURE)
        for n in frame.filter(ahead)["offset"].to_list()
    ]
    return frame.filter(~ahead), pl.DataFrame(rows, schema=REJECTS, orient="row")
