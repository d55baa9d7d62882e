"""Messages of a partition whose offsets follow one another: as Python objects, or as text and columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message
from numpy.typing import NDArray

BESIDE = 400  # bytes that a message takes beside its value, about
RUN = 1_000  # bytes that a run takes beside its messages
_LATEST = 253_402_300_800_000  # ms: what says that it was sent in the year 10000, or before 1970, says nothing


@dataclass(frozen=True, slots=True)
class Run(ABC):
    """The messages [first, next) of a partition. size: bytes of their values."""

    first: int
    count: int
    size: int

    @property
    def next(self) -> int:
        """The offset after the last one."""
        return self.first + self.count

    @property
    @abstractmethod
    def held(self) -> int:
        """Bytes of memory that it takes, about."""

    @abstractmethod
    def values(self) -> Sequence[bytes | None]:
        """The value of each message."""

    @abstractmethod
    def times(self) -> list[int | None]:
        """When each message was sent, µs since 1970; None where it does not say."""

    @abstractmethod
    def some(self, begin: int, end: int) -> Run:
        """Those from the `begin`th on, before the `end`th; at least one."""

    @abstractmethod
    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each value."""

    def parts(self, most: int) -> Iterator[Run]:
        """In parts of at most so many bytes, but at least one message."""
        if self.size <= most:
            yield self
            return
        upto = self.sizes().cumsum()
        begin = 0
        while begin < self.count:
            before = int(upto[begin - 1]) if begin else 0
            end = max(int(np.searchsorted(upto, before + most, side="right")), begin + 1)
            yield self.some(begin, end)
            begin = end


@dataclass(frozen=True, slots=True)
class MessageRun(Run):
    """Messages as confluent-kafka gives them, with their headers."""

    messages: list[Message]

    @classmethod
    def of(cls, messages: list[Message]) -> MessageRun:
        """A run of at least one message."""
        return cls(messages[0].offset() or 0, len(messages), sum(map(len, messages)), messages)

    @property
    def held(self) -> int:
        """Bytes of memory that it takes, about."""
        return self.size + BESIDE * self.count + RUN

    def values(self) -> Sequence[bytes | None]:
        """The value of each message."""
        return [message.value() for message in self.messages]

    def times(self) -> list[int | None]:
        """When each message was sent, µs since 1970; None where it does not say."""
        return [_sent(*message.timestamp()) for message in self.messages]

    def some(self, begin: int, end: int) -> MessageRun:
        """Those from the `begin`th on, before the `end`th; at least one."""
        return MessageRun.of(self.messages[begin:end])

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each value."""
        return np.fromiter(map(len, self.messages), np.int64, self.count)


@dataclass(frozen=True, slots=True)
class TextRun(Run):
    """Messages as one text: each value and a line break after it.

    ends: where each value ends in the text, without the break. sent: ms since 1970, -1 where it does not say. plain:
    every value is one line that begins and ends as a JSON object.
    """

    text: bytes
    ends: NDArray[np.int64]
    sent: NDArray[np.int64]
    plain: bool

    @property
    def held(self) -> int:
        """Bytes of memory that it takes, about."""
        return len(self.text) + 16 * self.count + RUN

    def values(self) -> Sequence[bytes | None]:
        """The value of each message; one without a value has an empty one."""
        ends = self.ends.tolist()
        begins = [0, *(end + 1 for end in ends[:-1])]
        return [self.text[begin:end] for begin, end in zip(begins, ends, strict=True)]

    def times(self) -> list[int | None]:
        """When each message was sent, µs since 1970; None where it does not say."""
        return [_sent(TIMESTAMP_NOT_AVAILABLE if ms < 0 else -1, ms) for ms in self.sent.tolist()]

    def some(self, begin: int, end: int) -> TextRun:
        """Those from the `begin`th on, before the `end`th; at least one."""
        at = int(self.ends[begin - 1]) + 1 if begin else 0
        text = self.text[at : int(self.ends[end - 1]) + 1]
        ends, sent = self.ends[begin:end] - at, self.sent[begin:end].copy()
        return TextRun(self.first + begin, end - begin, len(text) - (end - begin), text, ends, sent, self.plain)

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each value."""
        return np.diff(self.ends, prepend=-1) - 1


def joined(runs: Sequence[Run]) -> Run:
    """Runs of one kind that follow one another, as one; at least one."""
    first = runs[0]
    if len(runs) == 1:
        return first
    count, size = sum(run.count for run in runs), sum(run.size for run in runs)
    if isinstance(first, MessageRun):
        messages = [message for run in runs if isinstance(run, MessageRun) for message in run.messages]
        return MessageRun(first.first, count, size, messages)
    texts = [run for run in runs if isinstance(run, TextRun)]
    starts = np.cumsum([0, *(len(run.text) for run in texts[:-1])])
    return TextRun(
        first.first,
        count,
        size,
        b"".join([run.text for run in texts]),
        np.concatenate([run.ends + start for run, start in zip(texts, starts, strict=True)]),
        np.concatenate([run.sent for run in texts]),
        all(run.plain for run in texts),
    )


def runs_of(messages: list[Message]) -> Iterator[MessageRun]:
    """The messages of a partition, cut where offsets are missing."""
    start = 0
    for n in range(1, len(messages) + 1):
        if n == len(messages) or (messages[n].offset() or 0) != (messages[n - 1].offset() or 0) + 1:
            yield MessageRun.of(messages[start:n])
            start = n


def _sent(kind: int, ms: int) -> int | None:
    return ms * 1_000 if kind != TIMESTAMP_NOT_AVAILABLE and 0 <= ms < _LATEST else None
