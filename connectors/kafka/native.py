"""Messages by the thousand, as text and columns, straight from librdkafka's C interface.

confluent-kafka makes a Python object of each message, which costs twice as much as everything else that is done with
it. This is the same library, the one that confluent-kafka carries, asked through the functions of its public header
(rdkafka.h, stable since 1.0): `rd_kafka_consume_batch_queue` fills an array of pointers, and compiled code copies what
they point to, without the interpreter lock.

Guarantee: as `confluent_kafka.Consumer`, which it stands in for: messages of a partition in order, from where it was
assigned.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_ssize_t, c_void_p
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, TopicPartition, cimpl
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from connectors.kafka.runs import TextRun

_CONSUMER = 1
_TEXT = 512
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (c_void_p, []),
    "rd_kafka_conf_set": (c_int, [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t]),
    "rd_kafka_conf_destroy": (None, [c_void_p]),
    "rd_kafka_new": (c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
    "rd_kafka_destroy": (None, [c_void_p]),
    "rd_kafka_poll_set_consumer": (c_int, [c_void_p]),
    "rd_kafka_consumer_close": (c_int, [c_void_p]),
    "rd_kafka_queue_get_consumer": (c_void_p, [c_void_p]),
    "rd_kafka_queue_destroy": (None, [c_void_p]),
    "rd_kafka_consume_batch_queue": (c_ssize_t, [c_void_p, c_int, c_void_p, c_size_t]),
    "rd_kafka_topic_partition_list_new": (c_void_p, [c_int]),
    "rd_kafka_topic_partition_list_add": (c_void_p, [c_void_p, c_char_p, c_int32]),
    "rd_kafka_topic_partition_list_set_offset": (c_int, [c_void_p, c_char_p, c_int32, c_int64]),
    "rd_kafka_topic_partition_list_destroy": (None, [c_void_p]),
    "rd_kafka_incremental_assign": (c_void_p, [c_void_p, c_void_p]),
    "rd_kafka_pause_partitions": (c_int, [c_void_p, c_void_p]),
    "rd_kafka_resume_partitions": (c_int, [c_void_p, c_void_p]),
    "rd_kafka_commit": (c_int, [c_void_p, c_void_p, c_int]),
    "rd_kafka_topic_name": (c_char_p, [c_void_p]),
    "rd_kafka_message_timestamp": (c_int64, [c_void_p, POINTER(c_int)]),
    "rd_kafka_message_destroy": (None, [c_void_p]),
    "rd_kafka_error_string": (c_char_p, [c_void_p]),
    "rd_kafka_error_code": (c_int, [c_void_p]),
    "rd_kafka_error_destroy": (None, [c_void_p]),
    "rd_kafka_err2str": (c_char_p, [c_int]),
}

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a partition."""

    place: tuple[str, int]
    error: Code


class NativeConsumer:
    """A consumer without a group. Not safe in several threads, but for `commit`."""

    def __init__(self, config: Mapping[str, object]) -> None:
        """Raises KafkaException where the configuration makes no sense."""
        self._c = _library()
        said = ctypes.create_string_buffer(_TEXT)
        conf = self._c.rd_kafka_conf_new()
        for name, value in config.items():
            if not isinstance(value, str | int | float):  # what confluent-kafka calls back
                continue
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if self._c.rd_kafka_conf_set(conf, name.encode(), text.encode(), said, _TEXT):
                self._c.rd_kafka_conf_destroy(conf)
                raise KafkaException(Code(Code._INVALID_ARG, said.value.decode()))
        self._rk = self._c.rd_kafka_new(_CONSUMER, conf, said, _TEXT)
        if not self._rk:
            self._c.rd_kafka_conf_destroy(conf)
            raise KafkaException(Code(Code._INVALID_ARG, said.value.decode()))
        self._c.rd_kafka_poll_set_consumer(self._rk)
        self._queue = self._c.rd_kafka_queue_get_consumer(self._rk)
        self._names: dict[int, str] = {}
        self._pointers = np.zeros(0, np.uint64)
        self._destroy, self._timestamp = (
            _address(self._c.rd_kafka_message_destroy),
            _address(self._c.rd_kafka_message_timestamp),
        )

    def incremental_assign(self, places: Iterable[TopicPartition]) -> None:
        """Read these, too, from their offsets on. Raises KafkaException."""
        some = self._list(places)
        wrong = self._c.rd_kafka_incremental_assign(self._rk, some)
        self._c.rd_kafka_topic_partition_list_destroy(some)
        if wrong:
            error = Code(self._c.rd_kafka_error_code(wrong), self._c.rd_kafka_error_string(wrong).decode())
            self._c.rd_kafka_error_destroy(wrong)
            raise KafkaException(error)

    def pause(self, places: Iterable[TopicPartition]) -> None:
        """Read no more of these for a while."""
        some = self._list(places)
        self._c.rd_kafka_pause_partitions(self._rk, some)
        self._c.rd_kafka_topic_partition_list_destroy(some)

    def resume(self, places: Iterable[TopicPartition]) -> None:
        """Go on with these."""
        some = self._list(places)
        self._c.rd_kafka_resume_partitions(self._rk, some)
        self._c.rd_kafka_topic_partition_list_destroy(some)

    def commit(self, offsets: Iterable[TopicPartition], asynchronous: bool = True) -> None:
        """Tell Kafka how far these are. Raises KafkaException."""
        some = self._list(offsets)
        error = self._c.rd_kafka_commit(self._rk, some, int(asynchronous))
        self._c.rd_kafka_topic_partition_list_destroy(some)
        if error:
            raise KafkaException(Code(error, self._c.rd_kafka_err2str(error).decode()))

    def consume(self, most: int, timeout: float) -> tuple[list[tuple[tuple[str, int], TextRun]], list[Trouble]]:
        """Up to so many messages that came within `timeout` seconds, by topic and partition; and what is wrong."""
        if len(self._pointers) < most:
            self._pointers = np.zeros(most, np.uint64)
        found = self._c.rd_kafka_consume_batch_queue(self._queue, int(timeout * 1000), self._pointers.ctypes.data, most)
        if found <= 0:
            return [], []
        pointers = self._pointers[:found]
        topics, partitions, offsets, errors, sizes, times = (np.empty(found, np.int64) for _ in range(6))
        _read(pointers, self._timestamp, topics, partitions, offsets, errors, sizes, times)
        troubles = [self._trouble(int(pointers[n])) for n in np.flatnonzero(errors).tolist()]
        good = np.flatnonzero(errors == 0)
        runs: list[tuple[tuple[str, int], TextRun]] = []
        if len(good):
            text = np.empty(int(sizes[good].sum()) + len(good), np.uint8)
            ends = np.empty(len(good), np.int64)
            plain = np.empty(len(good), np.bool_)
            _copy(pointers, good, text, ends, plain)
            runs = self._runs(topics[good], partitions[good], offsets[good], text, ends, times[good], plain)
        _release(pointers, self._destroy)
        return runs, troubles

    def close(self) -> None:
        """Let go of it."""
        self._c.rd_kafka_consumer_close(self._rk)
        self._c.rd_kafka_queue_destroy(self._queue)
        self._c.rd_kafka_destroy(self._rk)

    def _runs(
        self,
        topics: Numbers,
        partitions: Numbers,
        offsets: Numbers,
        text: NDArray[np.uint8],
        ends: Numbers,
        times: Numbers,
        plain: NDArray[np.bool_],
    ) -> list[tuple[tuple[str, int], TextRun]]:
        cut = (topics[1:] != topics[:-1]) | (partitions[1:] != partitions[:-1]) | (offsets[1:] != offsets[:-1] + 1)
        bounds = [0, *(np.flatnonzero(cut) + 1).tolist(), len(topics)]
        found = []
        for a, b in pairwise(bounds):
            begin = int(ends[a - 1]) + 1 if a else 0
            lines = text[begin : int(ends[b - 1]) + 1].tobytes()
            place = self._topic(int(topics[a])), int(partitions[a])
            size = len(lines) - (b - a)
            run = TextRun(
                int(offsets[a]), b - a, size, lines, ends[a:b] - begin, times[a:b].copy(), bool(plain[a:b].all())
            )
            found.append((place, run))
        return found

    def _trouble(self, pointer: int) -> Trouble:
        message = _Message.from_address(pointer)
        topic = self._topic(int(message.rkt)) if message.rkt else ""
        text = ctypes.string_at(message.payload, message.len).decode(errors="replace") if message.payload else ""
        said = text or self._c.rd_kafka_err2str(message.err).decode()
        return Trouble((topic, message.partition), Code(message.err, said))

    def _topic(self, pointer: int) -> str:
        if pointer not in self._names:
            self._names[pointer] = self._c.rd_kafka_topic_name(pointer).decode()
        return self._names[pointer]

    def _list(self, places: Iterable[TopicPartition]) -> int:
        some: int = self._c.rd_kafka_topic_partition_list_new(1)
        for place in places:
            topic = place.topic.encode()
            self._c.rd_kafka_topic_partition_list_add(some, topic, place.partition)
            self._c.rd_kafka_topic_partition_list_set_offset(some, topic, place.partition, place.offset)
        return some


def warm() -> None:
    """Compile, or load what was compiled before; the first message need not wait for it then."""
    nothing, none = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    _read(nothing, 0, none, none, none, none, none, none)
    _copy(nothing, none, np.zeros(0, np.uint8), none, np.zeros(0, np.bool_))
    _release(nothing, 0)


class _Message(ctypes.Structure):
    """`rd_kafka_message_t` of rdkafka.h."""

    _fields_ = (
        ("err", c_int),
        ("rkt", c_void_p),
        ("partition", c_int32),
        ("payload", c_void_p),
        ("len", c_size_t),
        ("key", c_void_p),
        ("key_len", c_size_t),
        ("offset", c_int64),
        ("private", c_void_p),
    )


# Its members as words of eight bytes, all of them numbers.
_WORDS = ctypes.sizeof(_Message) // 8
_ERR, _RKT, _PARTITION, _PAYLOAD, _LEN, _OFFSET = (
    getattr(_Message, name).offset // 8 for name in ("err", "rkt", "partition", "payload", "len", "offset")
)


@cache
def _library() -> Any:
    """librdkafka, as confluent-kafka's own module has loaded it."""
    library = ctypes.CDLL(cimpl.__file__)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _address(function: Any) -> int:
    return int(ctypes.cast(function, c_void_p).value or 0)


# ------------------------------------------------------------ compiled


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing: Any, address: Any) -> Any:
    """An address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _call(typing: Any, function: Any, argument: Any) -> Any:
    """Call a function of C that takes a pointer and returns nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _ask(typing: Any, function: Any, argument: Any, other: Any) -> Any:
    """Call a function of C that takes two pointers and returns a 64-bit number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64), ir.IntType(64)])
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1], arguments[2]])

    return types.int64(types.uint64, types.uint64, types.uint64), generate


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _read(
    pointers: Any, timestamp: int, topics: Any, partitions: Any, offsets: Any, errors: Any, sizes: Any, times: Any
) -> None:
    """What stands in the messages, but for their values."""
    for n in range(len(pointers)):
        words = carray(_pointer(pointers[n]), (_WORDS,), np.int64)
        errors[n] = np.int32(words[_ERR])
        topics[n], offsets[n], sizes[n] = words[_RKT], words[_OFFSET], words[_LEN]
        partitions[n] = np.int32(words[_PARTITION])
        times[n] = 0 if errors[n] else _ask(np.uint64(timestamp), pointers[n], np.uint64(0))


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _copy(pointers: Any, rows: Any, text: Any, ends: Any, plain: Any) -> None:
    """The values of some messages, one after the other, with a line break after each."""
    at = 0
    for n in range(len(rows)):
        words = carray(_pointer(pointers[rows[n]]), (_WORDS,), np.int64)
        size = words[_LEN]
        is_plain = False
        if size:
            value = carray(_pointer(np.uint64(words[_PAYLOAD])), (size,), np.uint8)
            breaks = 0
            for i in range(size):
                byte = value[i]
                text[at + i] = byte
                breaks += byte == 10
            is_plain = breaks == 0 and value[0] == 123 and value[size - 1] == 125
        at += size
        ends[n], plain[n] = at, is_plain
        text[at] = 10
        at += 1


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _release(pointers: Any, destroy: int) -> None:
    """Give the messages back."""
    for n in range(len(pointers)):
        _call(np.uint64(destroy), pointers[n])
