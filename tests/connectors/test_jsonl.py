"""JSON Lines: however lines come, grouped, mixed, broken or split, each means what record.py says it means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from connectors.formats import jsonl
from connectors.formats.jsonl import decode
from connectors.formats.types import DecodeOptions
from operators.events import DECODED, RAW_LIMIT
from tests.connectors.exact import check, one_by_one


@pytest.fixture(autouse=True, scope="module")
def _chunks_of_any_size() -> Iterator[None]:
    """Small chunks, too, take the fast way here."""
    usual, jsonl.WORTHWHILE, jsonl.LOADING = (jsonl.WORTHWHILE, jsonl.LOADING), 0, 0
    yield
    jsonl.WORTHWHILE, jsonl.LOADING = usual


TIME = "2026-01-31T08:30:00.25Z"
PLAIN = {"time": TIME, "source": "billing", "type": "payment_failed"}


def lines_of(*records: object) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


TEXTS = st.one_of(
    st.sampled_from(["", "a", "503", "1.50", "null", "{}", 'a "b" \\ c', "\u00fc\U0001f600", "\x00\x1f\x7f", "event"]),
    st.text(max_size=30),
)
TIME_TEXTS = st.sampled_from(
    [TIME, "2026-01-31 08:30:00", "2026-01-31T08:30:00+02:00", "2026-02-30T00:00:00Z", "infinity", "", "2026-01-31"]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), TEXTS, st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
FREE = st.sampled_from([*DECODED, "zz", "host", "\u00e9", "a:b", ""])
ALIASES = st.sampled_from(["integrationKey", "eventType", "errorCode", "tenantId", "rawPayload"])
OBJECTS = st.dictionaries(TEXTS | st.just("zz"), VALUES, max_size=3)
USUAL: dict[str, st.SearchStrategy[object]] = {
    "time": st.sampled_from([TIME, "2026-01-31 08:30:00", "2026-01-31T08:30:00.123456789+02:00"]),
    "ingested_at": st.sampled_from([TIME, "", None]),
    "severity": st.sampled_from(["high", "ERROR", " warn ", "odd", ""]),
    "value": st.floats(-1e9, 1e9) | st.integers(0, 9),
    "record": st.sampled_from(["event", "event", "", None, "resolve", "odd"]),
    "attributes": OBJECTS,
    "rawPayload": OBJECTS,
    **dict.fromkeys(("source", "type", "integrationKey", "eventType"), st.sampled_from(["a", "b", "\u00fc", 503])),
}


@st.composite
def producers(draw: st.DrawFn) -> bytes:
    """Many lines of one producer: the same names in the same order and style, other values; often something odd."""
    names = {"time", "source", "type", *draw(st.lists(FREE, max_size=6))}
    if draw(st.booleans()):
        names |= {draw(ALIASES)}
    if draw(st.booleans()):
        names = {{"source": "integrationKey", "type": "eventType"}.get(name, name) for name in names}
    fields = {name: USUAL.get(name, TEXTS) for name in draw(st.permutations(sorted(names)))}
    fields |= {name: VALUES for name in draw(st.lists(FREE, max_size=2)) if name in fields}
    if draw(st.integers(0, 4)) == 0:
        fields["time"] = TIME_TEXTS
    rows = draw(st.lists(st.fixed_dictionaries(fields), min_size=1, max_size=4))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]))
    ascii_only = draw(st.booleans())
    tail = draw(st.sampled_from(["\n", "\r\n", " \n"]))
    texts = [json.dumps(row, separators=separators, ensure_ascii=ascii_only) + tail for row in rows]
    return "".join(texts).encode(errors="surrogatepass") * draw(st.sampled_from([1, 3]))


SPOILED = st.sampled_from(
    [
        b"\n",
        b"  \r\n",
        b"{\n",
        b"[1,2]\n",
        b"null\n",
        b'"text"\n',
        b'{"source":"a"} {"source":"b"}\n',
        b'{"time":"2026-01-31T08:30:00Z","source":"a\xff","type":"t"}\n',
        b'{"time":"2026-01-31T08:30:00Z","source":"\\ud800","type":"t"}\n',
        b'{"time":"2026-01-31T08:30:00Z","source":"\\u00e9\\n","type":"t"}\n',
        b'{"time":"2026-01-31T08:30:00Z","source":"a","type":"t","source":"b"}\n',
        b'{"time":"2026-01-31T08:30:00Z","source":"a","type":"t","value":1e400}\n',
        b'{"time":"2026-01-31T08:30:00Z","source":"a","type":"t","value":01}\n',
        b'\xef\xbb\xbf{"time":"2026-01-31T08:30:00Z","source":"a","type":"t"}\n',
    ]
)
MAPPINGS = st.sampled_from(
    [
        {},
        {},
        {"source": "$.host"},
        {"code": "$.zz", "stream": "log"},
        {"source": '$."a:b"', "value": "$.value", "severity": "error"},
        {"tenant": "$.attributes.zz", "place": "$.zz[0]", "type": "literal"},
        {"attributes": "$.zz", "message": "$"},
    ]
)
COLUMNS = st.sampled_from([frozenset(DECODED), frozenset(DECODED) - {"attributes", "message", "severity", "value"}])
OPTIONS = st.builds(DecodeOptions, columns=COLUMNS, mapping=MAPPINGS)


@settings(max_examples=60, deadline=None)
@given(st.lists(producers(), min_size=1, max_size=3), st.lists(SPOILED, max_size=4), OPTIONS, st.data())
def test_fast_is_exact(parts: list[bytes], spoiled: list[bytes], options: DecodeOptions, data: st.DataObject) -> None:
    """A faster way that differed would make a replay differ from what was detected live."""
    lines = b"".join(parts).splitlines(keepends=True)
    for line in spoiled:
        lines.insert(data.draw(st.integers(0, len(lines))), line)
    if data.draw(st.booleans()):
        lines = data.draw(st.randoms(use_true_random=False)).sample(lines, len(lines))
    chunk = b"".join(lines)
    whole = check(chunk, options)
    cut = data.draw(st.integers(0, len(lines)))
    first, second = decode(b"".join(lines[:cut]), options), decode(b"".join(lines[cut:]), options)
    shifted = second.frame.with_columns(pl.col("offset") + first.records)
    assert_frame_equal(pl.concat([first.frame, shifted]), whole.frame)
    assert first.records + second.records == whole.records


def test_every_kind_of_odd_line_is_counted_and_only_bad_ones_are_rejected() -> None:
    """A wrong position would attribute a dead letter, and every later record, to the wrong line."""
    good = orjson.dumps(PLAIN)
    chunk = b"\n".join([good, b"", b"  ", b"oops", b"[1]", b"\xef\xbb\xbf" + good, good + b"\r", good])
    found = check(chunk, DecodeOptions())
    assert found.records == 8
    assert found.frame["offset"].to_list() == [0, 5, 6, 7]
    assert found.rejects["offset"].to_list() == [3, 4]
    assert found.rejects["error"][1] == "a JSON object is expected, this is a list"


def test_no_lines() -> None:
    """An empty file is not an error."""
    found = decode(b"", DecodeOptions())
    assert (found.records, len(found.frame), len(found.rejects)) == (0, 0, 0)
    assert found.frame.schema == pl.Schema(DECODED)


def test_a_field_that_appears_late_is_not_missed() -> None:
    """Producers are upgraded in the middle of a file."""
    chunk = lines_of(*[PLAIN] * 100, *[{**PLAIN, "severity": "error", "id": str(i), "zz": [i]} for i in range(100)])
    frame = check(chunk, DecodeOptions()).frame
    assert frame["severity"].drop_nulls().to_list() == ["high"] * 100
    assert frame["id"].to_list()[99:101] == [None, "0"]
    assert frame["attributes"][-1] == '{"zz":[99]}'


def test_a_command_keeps_its_body_where_events_do_without_theirs() -> None:
    """A resolve record whose body was dropped as unwanted would resolve nothing."""
    body = {"rule_id": "r", "group_key": "k"}
    command = {"time": TIME, "record": "resolve", "attributes": body}
    options = DecodeOptions(columns=frozenset(DECODED) - {"attributes"})
    frame = check(lines_of(*[{**PLAIN, "attributes": body}] * 80, *[command] * 80), options).frame
    assert frame["attributes"].to_list() == [None] * 80 + [orjson.dumps(body).decode()] * 80


def test_numbers_keep_their_digits() -> None:
    """Ids of more than 64 bits and codes like 1.50 would come out as other ids and codes."""
    line = b'{"time":"%s","source":12345678901234567890123,"type":1.50,"attributes":{"n":1.10}}\n' % TIME.encode()
    frame = check(line * 80, DecodeOptions()).frame
    assert frame.row(79, named=True) | {"offset": 0} == frame.row(0, named=True)
    assert frame.select("source", "type", "attributes").row(0) == ("12345678901234567890123", "1.50", '{"n":1.10}')


@pytest.mark.parametrize("count", [3, 200])
def test_a_very_long_line_among_others(count: int) -> None:
    """One producer's giant record must not spoil its neighbours, and a reject of it stays small."""
    giant = {**PLAIN, "message": "x" * 2_000_000}
    bad = orjson.dumps(giant)[:-1] + b"\n"
    found = decode(lines_of(*[PLAIN] * count, giant) + bad + lines_of(PLAIN), DecodeOptions())
    assert found.frame["offset"].to_list() == [*range(count + 1), count + 2]
    assert found.frame["message"].str.len_bytes().max() == 2_000_000
    assert found.rejects["raw"].str.len_bytes().to_list() == [RAW_LIMIT]


def test_a_mapping_reads_nested_fields_of_many_lines_at_once() -> None:
    """Foreign logs are decoded through a mapping; their rows must be the ones the definition gives."""
    records = [
        {"@timestamp": TIME, "host": {"name": f"h{i}", "ip": ["::1"]}, "log": {"level": "error"}, "n": i}
        for i in range(100)
    ]
    mapping = {"time": '$."@timestamp"', "source": "$.host.name", "type": "log", "severity": "$.log.level"}
    frame = check(lines_of(*records), DecodeOptions(mapping=mapping)).frame
    assert frame.select("source", "type", "severity").row(7) == ("h7", "log", "high")
    assert frame["attributes"][7] == '{"host":{"name":"h7","ip":["::1"]},"log":{"level":"error"},"n":7}'


def test_threads_share_nothing() -> None:
    """Partitions are decoded by several threads at once."""
    chunks = [lines_of(*[{**PLAIN, f"f{i % 5}": i}] * 100) for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda chunk: decode(chunk, DecodeOptions()), chunks))
    for chunk, decoded in zip(chunks, found, strict=True):
        assert_frame_equal(decoded.frame, one_by_one(chunk, DecodeOptions()).frame)
