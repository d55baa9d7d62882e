"""Messages as a chunk of lines that the decoders of files take: one line a message, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from connectors.formats import FORMATS, explode
from connectors.formats.types import REJECTS, Decoded, DecodeOptions
from connectors.kafka.reader import Run
from connectors.kafka.settings import KafkaError
from operators.clock import AHEAD
from operators.events import RAW_LIMIT, TIMESTAMP

# A message is one record: formats of which a line may hold several, or none by itself, cannot be told apart by offset.
READABLE = tuple(name for name in FORMATS if name in ("jsonl", "cloudevents", "access_log", "syslog"))
_TOMBSTONE = "the message has no value"
_IN_THE_FUTURE = "time: more than 60 s after the message was sent"
_ACCEPTED_LATER = "ingested_at: more than 60 s after the message was sent"
_LATEST = 253_402_300_800_000  # ms: what says that it was sent in the year 10000, or before 1970, says nothing

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
    values: list[bytes | None] = [message.value() for message in run.messages]
    errors: dict[int, str] = {}
    if form.deserialize is None:
        lines = _lines(values)
    else:
        lines, errors = form.deserialize(values)
    decoded = FORMATS[form.name].decode(b"\n".join([*lines, b""]), form.options)
    frame, rejects = decoded.frame, decoded.rejects
    if errors:
        rejects = _because(rejects, values, errors)
    if frame.height + rejects.height < len(values):  # blank lines: in a file they are nothing, but who sent a message?
        told = {*frame["offset"].to_list(), *rejects["offset"].to_list()}
        rejects = _because(rejects, values, {n: _TOMBSTONE for n in range(len(values)) if n not in told})
    if frame.height and not (form.ours and not frame["ingested_at"].null_count()):
        frame, ahead = _with_times(frame, run.messages, doubtful=not form.ours)
        rejects = pl.concat([rejects, ahead]).sort("offset") if len(ahead) else rejects
    return Decoded(frame, rejects, len(values))


def _lines(values: Sequence[bytes | None]) -> list[bytes]:
    """Each value as one line. A line break in JSON is white space, or was wrong before, as a tab is."""
    lines = [value or b"" for value in values]
    if b"\n" in b"".join(lines):
        lines = [line.replace(b"\n", b"\t") for line in lines]
    return lines


def _because(rejects: pl.DataFrame, values: Sequence[bytes | None], errors: dict[int, str]) -> pl.DataFrame:
    """The rejects, where a message was no text of a record with what it was instead, as it was sent."""
    rest = rejects.filter(~pl.col("offset").is_in(list(errors)))
    rows = [
        (n, (values[n] or b"")[:RAW_LIMIT].decode("utf-8", "backslashreplace"), error)
        for n, error in sorted(errors.items())
    ]
    return pl.concat([rest, pl.DataFrame(rows, schema=REJECTS, orient="row")]).sort("offset")


def _with_times(
    frame: pl.DataFrame, messages: Sequence[Message], *, doubtful: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The frame with the messages' times (ms) where records do not say when they were accepted; and the rejects: what
    happens more than a minute after it was sent. The wall clock would decide otherwise after a restart.

    doubtful: nor is to be believed what says so of when it was accepted: one would drag the clock of all.
    """
    sent = pl.Series([_sent(message) for message in messages], dtype=pl.Int64).gather(frame["offset"])
    given, limit = frame["ingested_at"], sent + AHEAD
    ahead = given.is_null() & (frame["time"].to_physical() > limit)
    later = (given.to_physical() > limit) & doubtful
    frame = frame.with_columns(ingested_at=given.fill_null(sent.cast(TIMESTAMP)))
    wrong = (ahead | later).fill_null(False)
    if not wrong.any():
        return frame, pl.DataFrame(schema=REJECTS)
    rows = [
        (n, (messages[n].value() or b"")[:RAW_LIMIT].decode("utf-8", "backslashreplace"), reason)
        for mask, reason in ((ahead, _IN_THE_FUTURE), (later, _ACCEPTED_LATER))
        for n in frame.filter(mask.fill_null(False))["offset"].to_list()
    ]
    return frame.filter(~wrong), pl.DataFrame(rows, schema=REJECTS, orient="row")


def _sent(message: Message) -> int | None:
    """When a message was sent, µs; None where it does not say."""
    kind, time = message.timestamp()
    return time * 1_000 if kind != TIMESTAMP_NOT_AVAILABLE and 0 <= time < _LATEST else None
