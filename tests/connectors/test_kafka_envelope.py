"""Messages with frames in them: what goes in comes out, whole or in pieces, and garbage is told apart."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from connectors.kafka import envelope
from connectors.kafka.envelope import SENDERS, Envelope, Pieces, packed, pieces, unpacked
from connectors.schema import BOOKKEEPING, TABLES
from operators.frames import empty
from operators.output import MEMBERS

SCHEMAS = {
    name: dict(table.columns)
    for name, table in {**TABLES, **BOOKKEEPING}.items()
    if not any(isinstance(kind, pl.List) for kind in table.columns.values())  # these are never sent
} | {"members": MEMBERS}
VALUES: dict[Any, list[Any]] = {
    pl.String(): ["", "text", "ünï\0\n🔔", "x" * 10_000],
    pl.Int64(): [0, -(2**63), 2**63 - 1, 17],
    pl.Float64(): [0.0, -0.0, float("inf"), 1e-300],
    pl.Boolean(): [True, False, True, True],
    pl.Date(): [datetime(2026, 1, 1).date(), datetime(1, 1, 1).date(), datetime(9999, 12, 31).date(), None],
}
MOMENTS = [datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=1)]


def full(schema: dict[str, Any], rows: int) -> pl.DataFrame:
    """Rows with all kinds of values, nulls among them."""
    columns = {}
    for n, (name, dtype) in enumerate(schema.items()):
        some = [*VALUES.get(dtype, MOMENTS), None]
        columns[name] = pl.Series(name, [some[(n + k) % len(some)] for k in range(rows)], dtype)
    return pl.DataFrame(columns)


# ---------------------------------------------------------------- round trip


@pytest.mark.parametrize("rows", [1, 5, 999, 1_000, 3_000])
@pytest.mark.parametrize("name", SCHEMAS)
def test_what_goes_in_comes_out(name: str, rows: int) -> None:
    """Every table's rows, few and many: columns, types, nulls and order."""
    frame = full(SCHEMAS[name], rows)
    again = unpacked(packed(Envelope({"kind": "x", "n": -(2**63), "none": None}, {name: frame, "copy": frame[:1]})))
    assert dict(again.meta) == {"kind": "x", "n": -(2**63), "none": None}
    assert list(again.frames) == [name, "copy"]
    assert_frame_equal(again.frames[name], frame)
    assert_frame_equal(again.frames["copy"], frame[:1])


def test_frames_without_rows_are_left_out() -> None:
    """Most messages say little: each costs some hundred bytes, not some thousand."""
    message = packed(Envelope({"a": 1}, {name: empty(schema) for name, schema in SCHEMAS.items()}))
    assert len(message) < 40
    assert unpacked(message) == Envelope({"a": 1}, {})


def test_a_slice_of_a_frame_is_that_slice() -> None:
    """And not the rows around it, which share its memory."""
    frame = pl.DataFrame({"text": [f"{n:0100}" for n in range(900)], "n": range(900)})
    assert_frame_equal(unpacked(packed(Envelope({}, {"e": frame[100:103]}))).frames["e"], frame[100:103])
    assert len(packed(Envelope({}, {"e": frame[100:101]}))) < 2_000 < 90_000 < len(packed(Envelope({}, {"e": frame})))


# ---------------------------------------------------------------- garbage

GOOD = packed(Envelope({"kind": "x"}, {"incidents": full(SCHEMAS["incidents"], 3)}))


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff{}",
        GOOD[:-1],
        GOOD + b"\0",
        GOOD[:10],
        b"GET / HTTP/1.1\r\n\r\n",
        *(len(head).to_bytes(4, "big") + head for head in (
            b"5", b"null", b"[]", b'"frames"', b"{}", b'{"frames":5}', b'{"frames":[5]}', b'{"frames":[["a"]]}',
            b'{"frames":[["a","b"]]}', b'{"frames":[[[],0]]}', b'{"frames":[["a",0]]}', b'{"frames":[["a",-1]]}',
            b'{"frames":[["a",9]]}', b'{"frames":[["a",1e99]]}',
        )),
    ],
)  # fmt: skip
def test_garbage_is_no_message(bad: bytes) -> None:
    """Somebody writes into the wrong topic: a sentence, and not whatever that makes of our code."""
    with pytest.raises(ValueError, match="not a message of results"):
        unpacked(bad)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_damage_is_a_message_or_none(changes: list[tuple[int, int]], cut: bool) -> None:
    """Whatever a bit turns into, nothing else is ever raised."""
    bad = bytearray(GOOD)
    for at, byte in changes:
        bad[at] = byte
    with suppress(ValueError):
        unpacked(bytes(bad[: changes[0][0]] if cut else bad))


# ---------------------------------------------------------------- pieces


def joined(parts: Pieces, *sent: tuple[bytes, bytes]) -> list[bytes]:
    """The messages that these pieces make."""
    return [whole for piece in sent if (whole := parts.add(*piece)) is not None]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of four bytes."""
    monkeypatch.setattr(envelope, "PIECE", 4)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 8, 9, 100])
def test_pieces_make_the_message(size: int) -> None:
    """None is too large, each is sent, and one piece needs no other."""
    message = bytes(range(size))
    sent = list(pieces(message))
    assert len(sent) == max(-(-size // 4), 1)
    assert all(len(piece) <= 4 for _, piece in sent)
    assert all(header.startswith(b"%d/%d/" % (n, len(sent))) for n, (header, _) in enumerate(sent, 1))
    parts = Pieces()
    assert joined(parts, *sent, *sent) == [message, message]
    assert not parts._held


def test_what_was_begun_and_never_finished_is_forgotten() -> None:
    """Its sender died: whoever takes over sends it anew, cut in its own way."""
    old, new = list(pieces(b"abcdefghij")), list(pieces(b"ABCDEFGH"))
    assert joined(Pieces(), *old[:2], *new) == [b"ABCDEFGH"]
    assert joined(Pieces(), *old[:1], *old) == [b"abcdefghij"]


def test_memory_for_what_is_never_finished_is_bounded() -> None:
    """A worker that dies again and again in the middle of a large message."""
    parts = Pieces()
    assert joined(parts, *(next(pieces(b"%09d" % n)) for n in range(1_000))) == []
    assert len(parts._held) == SENDERS


def test_the_rest_of_a_message_whose_beginning_nobody_saw_is_none() -> None:
    """A reader begins in the middle; half of a message must not be taken for a whole one."""
    sent = list(pieces(b"abcdefghijkl"))
    assert joined(Pieces(), *sent[1:]) == []
    assert joined(Pieces(), sent[0], sent[2]) == []
    assert joined(Pieces(), *sent[1:], *pieces(b"x"), *sent) == [b"x", b"abcdefghijkl"]


@given(st.data(), st.lists(st.binary(max_size=20), min_size=1, max_size=SENDERS))
def test_messages_of_several_senders_do_not_mix(data: st.DataObject, messages: list[bytes]) -> None:
    """One of them hung and does not know that another has taken over: both messages come whole."""
    waiting = [list(pieces(message)) for message in messages]
    parts, found = Pieces(), []
    while any(waiting):
        one = data.draw(st.sampled_from([each for each in waiting if each]))
        found += joined(parts, one.pop(0))
    assert sorted(found) == sorted(messages)


@pytest.mark.parametrize(
    "header", [b"", b"1", b"1/1", b"0/1/", b"2/1/", b"-1/2/", b"a/b/", b"1/0/", b"1/1/a/b", b"\xff"]
)
def test_a_piece_that_does_not_say_which_is_none(header: bytes) -> None:
    """A message of somebody else."""
    with pytest.raises(ValueError, match="its header says"):
        Pieces().add(header, b"")
