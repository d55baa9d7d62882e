"""Messages become what the same lines of a file become, each at its own place, whatever bytes somebody has sent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from connectors.formats import FORMATS, jsonl
from connectors.formats.types import REJECTS, Decoded, DecodeOptions
from connectors.kafka import messages
from connectors.kafka.messages import READABLE, MessageFormat, decode
from connectors.kafka.runs import MessageRun, Run, TextRun
from connectors.kafka.settings import KafkaError
from operators.events import DECODED, RAW_LIMIT

SENT = 1_767_225_600_000  # ms: 2026-01-01T00:00:00Z
AT = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = DecodeOptions(workspace="acme", year=2025)
JSONL = MessageFormat("jsonl", OPTIONS)
FOREIGN = MessageFormat("jsonl", OPTIONS, ours=False)
NO_VALUE = "the message has no value"


class Sent:
    """A message, as far as it matters."""

    def __init__(self, offset: int, value: bytes | None, at: tuple[int, int]) -> None:
        self._offset, self._value, self._at = offset, value, at

    def __len__(self) -> int:
        return len(self._value or b"")

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes | None:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return self._at


def as_messages(values: Sequence[bytes | None], times: Sequence[int]) -> Run:
    kinds = [(TIMESTAMP_NOT_AVAILABLE, 0) if ms < 0 else (TIMESTAMP_CREATE_TIME, ms) for ms in times]
    return MessageRun.of([Sent(7 + n, *each) for n, each in enumerate(zip(values, kinds, strict=True))])  # type: ignore[misc]


def as_text(values: Sequence[bytes | None], times: Sequence[int]) -> Run:
    text = b"".join((value or b"") + b"\n" for value in values)
    ends = np.cumsum([len(value or b"") + 1 for value in values]) - 1
    plain = all(value and b"\n" not in value and value[:1] == b"{" and value[-1:] == b"}" for value in values)
    return TextRun(7, len(values), len(text) - len(values), text, ends, np.array(times, np.int64), plain)


RUNS = (as_messages, as_text)


def both(values: Sequence[bytes | None], form: MessageFormat = JSONL, times: Sequence[int] | None = None) -> Decoded:
    """What becomes of messages; the same whichever way they were read."""
    one, other = (decode(run(values, times or [SENT] * len(values)), form) for run in RUNS)
    assert one.records == other.records == len(values)
    assert_frame_equal(one.frame, other.frame)
    assert_frame_equal(one.rejects, other.rejects)
    return one


def errors(decoded: Decoded) -> dict[int, str]:
    return dict(decoded.rejects.select("offset", "error").rows())


def event(**fields: Any) -> bytes:
    return orjson.dumps({"time": "2025-12-31T23:00:00Z", "source": "api", "type": "failed"} | fields)


# ---------------------------------------------------------------- as the lines of a file

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TIMES = st.sampled_from(["2025-12-31T23:00:00Z", "2025-12-31T23:59:59.999999+00:00", "soon", "", None, 5])
EVENTS = st.fixed_dictionaries(
    {"time": TIMES, "source": st.sampled_from(["api", "ü", 1, None]), "type": st.sampled_from(["failed", True])},
    optional={
        "ingested_at": TIMES,
        "workspace": st.sampled_from(["other", ""]),
        "id": JSON,
        "message": st.text(max_size=8),
        "value": JSON,
        "rawPayload": JSON,
        "record": st.sampled_from(["event", "tick", "nonsense"]),
        "specversion": st.just("1.0"),
        "data": JSON,
    },
)
INDENTED = st.sampled_from([0, orjson.OPT_INDENT_2, orjson.OPT_APPEND_NEWLINE])
LINES = st.sampled_from(
    [
        b'1.2.3.4 - - [31/Dec/2025:23:00:00 +0000] "GET / HTTP/1.1" 500 12',
        b"Dec 31 23:00:00 host app[1]: it failed",
        b"2025-12-31T23:00:00Z host app: it failed",
        b"\xef\xbb\xbf" + event(),
        event() + b"\r",
        event() + event(),
        b"\xef\xbb\xbf",
        b"\xff" + event(),
        b"null",
    ]
)
VALUES = st.one_of(
    st.builds(orjson.dumps, EVENTS, option=INDENTED),
    st.builds(orjson.dumps, JSON, option=INDENTED),
    LINES,
    st.binary(max_size=12),
    st.sampled_from([None, b"", b" ", b"\n", b"\r\n", b"\t \t", b"\n\n{}", b"\x00", "\u2003".encode()]),
)  # fmt: skip


@given(st.sampled_from(READABLE), st.lists(VALUES, min_size=1, max_size=12))
def test_a_message_is_what_the_line_of_a_file_is(name: str, values: list[bytes | None]) -> None:
    """Each for itself: a line break in one, or garbage, moves nothing of the others. What is nothing at all is told."""
    form = MessageFormat(name, OPTIONS)
    decoded = both(values, form, [SENT + n for n in range(len(values))])
    frames, rejects = [pl.DataFrame(schema=DECODED)], [pl.DataFrame(schema=REJECTS)]
    for n, value in enumerate(values):
        line = (value or b"").replace(b"\n", b"\t")
        alone = FORMATS[name].decode(line + b"\n", OPTIONS)
        assert alone.records == 1
        sent = pl.lit(AT + timedelta(milliseconds=n), DECODED["time"])
        row = alone.frame.with_columns(pl.col("ingested_at").fill_null(sent), offset=pl.lit(n, pl.Int64))
        frames.append(row)
        found = alone.rejects.with_columns(offset=pl.lit(n, pl.Int64))
        if not (alone.frame.height or alone.rejects.height):
            raw = (value or b"").decode("utf-8", "backslashreplace")
            found = pl.DataFrame([(n, raw, NO_VALUE)], schema=REJECTS, orient="row")
        rejects.append(found)
    assert_frame_equal(decoded.frame, pl.concat(frames))
    assert_frame_equal(decoded.rejects, pl.concat(rejects))


def test_thousands_are_what_each_of_them_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond some kilobytes other code decodes: with the same result, and with the same places."""
    jsonl.warm()
    values: list[bytes | None] = [event(id=f"e{n}", n=n) for n in range(3_000)]
    values[7], values[1_500], values[2_999] = b"{", None, b"\n"
    values[8] = orjson.dumps({"id": "e8", "n": 8} | orjson.loads(event()), option=orjson.OPT_INDENT_2)
    decoded = both(values)
    assert decoded.frame["offset"].to_list() == [n for n in range(3_000) if n not in (7, 1_500, 2_999)]
    assert decoded.frame["id"].to_list() == [f"e{n}" for n in decoded.frame["offset"].to_list()]
    assert list(errors(decoded)) == [7, 1_500, 2_999]


def test_a_dead_letter_is_what_was_sent() -> None:
    """Not the line that was made of it; cut where it is long, and readable where it is no text."""
    long = b"\n" * 10 + b" " * RAW_LIMIT
    decoded = both([long, b"\xff", b" "])
    assert decoded.rejects["raw"].to_list() == [long.decode()[:RAW_LIMIT], "\ufffd", " "]


def test_more_than_one_record_a_message_is_refused() -> None:
    """Their positions would be those of the messages behind."""
    with pytest.raises(KafkaError, match="a message is one record"):
        MessageFormat("jsonl", DecodeOptions(mapping={"explode": "$.updates"}))


# ---------------------------------------------------------------- times


def ahead(micros: int) -> str:
    """So much after the messages were sent."""
    return (AT + timedelta(microseconds=micros)).isoformat()


def test_a_record_was_accepted_when_its_message_was_sent_unless_it_says_otherwise() -> None:
    """The log has stamped its records; Kafka's own time is in milliseconds, and a file's is nowhere."""
    own = "2025-12-31T22:00:00.000001Z"
    decoded = both([event(), event(ingested_at=own), event(ingested_at=None)], times=[SENT, SENT + 1, SENT + 2])
    assert decoded.frame["ingested_at"].to_list() == [
        AT, datetime.fromisoformat(own), AT + timedelta(milliseconds=2)
    ]  # fmt: skip


@pytest.mark.parametrize(("late", "good"), [(60_000_000, True), (60_000_001, False), (-86_400_000_000, True)])
def test_a_time_after_the_message_was_sent_is_a_dead_letter(late: int, good: bool) -> None:
    """By the message's time, which is the same whenever it is read again; the clock on the wall is not."""
    decoded = both([event(), event(time=ahead(late)), event()])
    assert decoded.frame["offset"].to_list() == ([0, 1, 2] if good else [0, 2])
    assert errors(decoded) == ({} if good else {1: "time: more than 60 s after the message was sent"})
    if not good:
        assert decoded.rejects["raw"].to_list() == [event(time=ahead(late)).decode()]


def test_a_record_of_the_log_was_looked_at_when_it_was_accepted() -> None:
    """Another clock, that of whoever sent it to Kafka, decides nothing."""
    stamped = event(time=ahead(3_600_000_000), ingested_at=ahead(3_600_000_000))
    for values in ([stamped], [stamped, event()]):
        decoded = both(values)
        assert (decoded.frame.height, decoded.rejects.height) == (len(values), 0)


@pytest.mark.parametrize(("late", "good"), [(60_000_000, True), (60_000_001, False)])
def test_what_others_say_of_when_it_was_accepted_is_doubted(late: int, good: bool) -> None:
    """One record of the year 9999 would make all behind it late, for ever."""
    decoded = both([event(ingested_at=ahead(late)), event()], FOREIGN)
    assert decoded.frame["offset"].to_list() == ([0, 1] if good else [1])
    assert errors(decoded) == ({} if good else {0: "ingested_at: more than 60 s after the message was sent"})


@pytest.mark.parametrize("sent", [-1, 253_402_300_800_000, 2**62])
@pytest.mark.parametrize("form", [JSONL, FOREIGN])
def test_a_message_without_a_time_that_makes_sense_has_none(sent: int, form: MessageFormat) -> None:
    """Any producer may write any number there; it must not end the worker again and again."""
    decoded = both([event(), event(time=ahead(10**15))], form, [sent, sent])
    assert decoded.frame["ingested_at"].to_list() == [None, None]
    assert decoded.rejects.height == 0


def test_the_time_of_the_broker_counts_as_well() -> None:
    """A topic may stamp what arrives."""
    message: Any = Sent(0, event(), (TIMESTAMP_LOG_APPEND_TIME, SENT + 5))
    decoded = decode(MessageRun.of([message]), JSONL)
    assert decoded.frame["ingested_at"].to_list() == [AT + timedelta(milliseconds=5)]


# ---------------------------------------------------------------- topics of others


def test_others_have_no_say_in_workspaces_that_are_not_theirs() -> None:
    """Who may write into some topic may not configure a service, nor resolve its incidents."""
    command = {"record": "configure", "time": "2025-12-31T23:00:00Z", "attributes": {}}
    values = [event(workspace="other"), orjson.dumps(command), event(record="tick"), event()]
    decoded = both(values, FOREIGN)
    assert decoded.frame.select("offset", "workspace").rows() == [(0, "acme"), (3, "acme")]
    assert list(errors(decoded)) == [1, 2]
    assert both(values).frame["workspace"].to_list() == ["other", "acme", "acme", "acme"]


def test_a_mapping_may_say_which_workspace() -> None:
    """Then it is the operator who says so."""
    form = MessageFormat("jsonl", DecodeOptions(mapping={"workspace": "$.customer"}), ours=False)
    assert both([event(customer="x")], form).frame["workspace"].to_list() == ["x"]


# ---------------------------------------------------------------- binary messages


def test_what_cannot_be_deserialised_keeps_its_place_and_says_why() -> None:
    """The error of the third is not told of the second, and what was sent is there to be looked at."""

    def deserialize(values: Sequence[bytes | None]) -> tuple[list[bytes], dict[int, str]]:
        lines = [event(id=str(value[0])) if value else b"null" for value in values]
        return lines, {n: f"cannot read {n}" for n, value in enumerate(values) if not value}

    sent = [b"\x01", b"\x02\n\x03", None, b"\x04", b""]
    decoded = both(sent, MessageFormat("jsonl", OPTIONS, deserialize, ours=False))
    assert decoded.frame.select("offset", "id").rows() == [(0, "1"), (1, "2"), (3, "4")]
    assert errors(decoded) == {2: "cannot read 2", 4: "cannot read 4"}


def test_an_error_of_the_format_and_one_before_it_stand_in_order() -> None:
    """A dead letter for each, by offset."""

    def deserialize(values: Sequence[bytes | None]) -> tuple[list[bytes], dict[int, str]]:
        return [b"null", b'{"time":"now"}', b"null", event()], {0: "first", 2: "third"}

    decoded = both([b"\x00a", b"b", b"\xffc", b"d"], MessageFormat("jsonl", OPTIONS, deserialize))
    assert [error.split(":")[0] for error in errors(decoded).values()] == ["first", "time", "third"]
    assert decoded.rejects["raw"].to_list() == ["\x00a", '{"time":"now"}', r"\xffc"]
    assert decoded.frame["offset"].to_list() == [3]


def test_formats_that_take_a_line_apart_are_not_offered() -> None:
    """Nor those that need a header, or a file."""
    assert set(messages.READABLE) == {"jsonl", "cloudevents", "access_log", "syslog"}
