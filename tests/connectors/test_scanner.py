"""The compiled scanner against the definition, over lines that only a fuzzer would write: every byte counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats import jsonl
from connectors.formats.scanner import frames
from connectors.formats.types import DecodeOptions
from operators.events import DECODED
from tests.connectors.exact import check

TIME = '"2026-01-31T08:30:00.25Z"'
ALL = DecodeOptions()


@pytest.fixture(autouse=True, scope="module")
def _chunks_of_any_size() -> Iterator[None]:
    """Small chunks, too, take the fast way here."""
    usual, jsonl.WORTHWHILE, jsonl.LOADING = (jsonl.WORTHWHILE, jsonl.LOADING), 0, 0
    yield
    jsonl.WORTHWHILE, jsonl.LOADING = usual


def line(members: str) -> bytes:
    """A good line with more members."""
    return f'{{"time":{TIME},"source":"s","type":"t"{"," if members else ""}{members}}}\n'.encode(
        errors="surrogatepass"
    )


# JSON as text, piece by piece, so that names may repeat and texts and numbers may be written in any way.
SPACES = st.sampled_from(["", "", "", " ", "\t", "\r", " \t "])
CHARACTERS = st.one_of(
    st.sampled_from(
        ['\\"', "\\\\", "\\/", "\\b", "\\n", "\\u0000", "\\u00e9", "\\u20AC", "\\ud83d\\ude00", "\\uDBFF\\uDFFF"]
    ),
    st.sampled_from(
        ["\\ud800", "\\udc00", "\\ud800\\u0041", "\\ud800x", "\\x", "\\u12g4", "\\", "\x00", "\x1f", "\x7f"]
    ),
    st.characters(),
)
PLAIN_CHARACTERS = st.text("abcdefghijklmnopqrstuvwxyz 0123456789-éß€😀", max_size=20)
TEXTS = st.one_of(
    PLAIN_CHARACTERS,
    PLAIN_CHARACTERS,
    st.lists(st.one_of(PLAIN_CHARACTERS, CHARACTERS), max_size=4).map("".join),
).map(lambda text: f'"{text}"')
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-1000, 1000, places=2).map(str),
    st.sampled_from(
        ["0", "-0", "-0.0", "00", "01", "-", "1.", ".5", "1e", "1e+", "1E5", "1e-7", "1e22", "1e23", "1e99"]
    ),
    st.sampled_from(["1e400", "-1e400", "1e-400", "1" * 80, "1" * 81, "9" * 309, "1" * 400, "0." + "1" * 90, "+1"]),
    st.sampled_from(["9007199254740993", "900719925474099.3", "0.1000000000000000055", "123456789012345678e-9", "nan"]),
)
WORDS = st.sampled_from(["true", "false", "null", "null", "tru", "True", "nulll", "NaN", "Infinity", ""])
TIMES = st.sampled_from(
    [
        *("2026-01-31T08:30:00Z", "2026-01-31 08:30:00", "2026-01-31t08:30:00.1234567z", "x", ""),
        *("2024-02-29T23:59:59.999999999+23:59", "1970-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"),
        *("2026-02-29T00:00:00Z", "2026-1-31T08:30:00Z", "2026-01-31T08:30:00.Z", "2026-01-31T08:30:00+2:00"),
        *("2026-01-31T08:30:60Z", "2026-01-31T08:30:00\\u005a"),
    ]
).map(lambda text: f'"{text}"')
SEVERITIES = st.sampled_from(
    ["high", "ERROR", " Warn ", "Sev1", "odd", "", "informational", "@arn", "\\u0020high", "ſev1"]
)
NAMES = st.one_of(
    st.sampled_from([*DECODED, "integrationKey", "eventType", "errorCode", "tenantId", "rawPayload", "event"]),
    st.sampled_from(["zz", "host", "a", "b", "name", "", "é", "tim", "timed", "\\u0074ime", 'a\\"b', "\\ud800"]),
    st.sampled_from(["a_name_of_more_than_sixteen_bytes", "a_name_oF_more_than_sixteen_bytes", "a_name_o"]),
)


def _objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(SPACES, NAMES, SPACES, SPACES, inner, SPACES).map(
        lambda part: f'{part[0]}"{part[1]}"{part[2]}:{part[3]}{part[4]}{part[5]}'
    )
    return st.tuples(SPACES, st.lists(member, max_size=4)).map(lambda part: f"{{{part[0]}{','.join(part[1])}}}")


def _lists(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    item = st.tuples(SPACES, inner, SPACES).map("".join)
    return st.tuples(SPACES, st.lists(item, max_size=3)).map(lambda part: f"[{part[0]}{','.join(part[1])}]")


SCALARS = st.one_of(TEXTS, TEXTS, NUMBERS, WORDS)
VALUES = st.recursive(SCALARS, lambda inner: _objects(inner) | _lists(inner), max_leaves=5)
USUAL = {
    "time": TIMES,
    "ingested_at": TIMES,
    "severity": SEVERITIES.map(lambda text: f'"{text}"'),
    "value": NUMBERS,
    "record": st.sampled_from(['"event"', '""', "null", '"resolve"', '"configure"', '"evenT"', '"odd"', "1"]),
    **dict.fromkeys(("attributes", "rawPayload", "host", "a"), _objects(VALUES)),
}


@st.composite
def wild_lines(draw: st.DrawFn) -> bytes:
    """A line that is mostly good: required members or their aliases, others of any kind, in any order."""
    required = [("time", TIME), (draw(st.sampled_from(["source", "integrationKey"])), '"s"'), ("type", draw(TEXTS))]
    names = draw(st.lists(NAMES, max_size=6, unique=draw(st.integers(0, 3)) > 0))
    usual = draw(st.integers(0, 3)) > 0
    others = [(name, draw(USUAL.get(name, SCALARS) if usual else VALUES)) for name in names]
    kept = others if usual and draw(st.booleans()) else [(name, value) for name, value in others if name != "time"]
    members = draw(st.permutations(required + kept))
    space = draw(SPACES)
    text = ",".join(f'{space}"{name}"{draw(SPACES)}:{space}{value}{draw(SPACES)}' for name, value in members)
    return f"{draw(SPACES)}{{{text}}}{draw(SPACES)}".replace("\n", " ").encode(errors="surrogatepass")


ODD_BYTES = st.sampled_from(
    [
        *(b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b"-", b" ", b"\x00", b"\x0b"),
        *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xef\xbb\xbf"),
    ]
)


@st.composite
def spoiled_lines(draw: st.DrawFn) -> bytes:
    """A line with bytes changed, lost or inserted anywhere."""
    text = bytearray(draw(wild_lines()))
    place = draw(st.integers(0, len(text)))
    odd = draw(ODD_BYTES)
    text[place : place + draw(st.integers(0, 2))] = odd
    return bytes(text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 4)) == 0 else text)


MAPPINGS = st.sampled_from(
    [
        *[{}] * 4,
        {"source": "$.host", "code": "$.a", "tenant": "$.a"},
        {"source": "$.host.name", "place": "$.a[1]", "tenant": "$.host.a.b"},
        {"attributes": "$.host", "message": "$.host.name", "id": "$.attributes.id"},
        {"attributes": "$.a.b", "value": "$.a.value", "time": "$.time"},
        {"severity": "$.host", "stream": "log", "workspace": "$.nowhere", "record": "$.a"},
        {"severity": " Err ", "code": '$."a_name_of_more_than_sixteen_bytes"', "message": "a literal of some length"},
        {"severity": "odd"},
        {"source": ""},
        {"message": "$"},
        {"value": "5", "attributes": '{"a":1}'},
        {"time": "2026-01-31T08:30:00Z", "no_column": "$.a"},
        {"message": "$[0]", "place": "$.a[0][1]"},
    ]
)
COLUMNS = st.one_of(
    st.just(frozenset(DECODED)),
    st.just(frozenset(DECODED) - {"attributes"}),
    st.frozensets(st.sampled_from([*DECODED])),
)
OPTIONS = st.builds(
    DecodeOptions, columns=COLUMNS, mapping=MAPPINGS, stream=st.sampled_from([None, "a stream of its own"])
)
ENDS = st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n", b"\n \t\r\n"])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(wild_lines(), wild_lines(), spoiled_lines()), ENDS), max_size=5),
    OPTIONS,
    st.booleans(),
)
def test_wild_lines(lines: list[tuple[bytes, bytes]], options: DecodeOptions, ended: bool) -> None:
    """A line that two decoders understand differently would make incidents depend on the size of a chunk."""
    chunk = b"".join(line.replace(b"\n", b"") + end for line, end in lines)
    check(chunk if ended else chunk.rstrip(b"\n"), options)


ODD = [
    *(
        f'"message":"{text}"'
        for text in ("\\ud83d\\ude00", "\\ud800", "\\u0000", "é" * 9, "a" * 12, "a" * 13, "\\n" * 13)
    ),
    *(
        f'"value":{text}'
        for text in ("1e22", "1e23", "0.1", "-0.0", "1e400", "1" * 400, "5e-324", "1e-30", "123.456e5")
    ),
    *(f'"severity":"{text}"' for text in ("ERROR", "odd", " sev1\\t", "ſev1", "i", "informational")),
    *(
        '"attributes":{}',
        '"attributes":{ },"zz":1',
        '"attributes":{"zz":2},"zz":1',
        '"attributes":{"\\u007az":2},"zz":1',
    ),
    *(
        '"attributes":null,"rawPayload":{"a":1}',
        '"attributes":{},"rawPayload":{}',
        '"attributes":[1]',
        '"attributes":""',
    ),
    *('"zz":1,"zz":2', '"zz":1,"\\u007az":2', '"source":"again"', '"integrationKey":"both"', '"integrationKey":null'),
    *('"":""', '"zz":{"a":[{"b":[]},{}],"c":{}}', '"zz":[,]', '"zz":[1,]', '"zz":{,}', '"zz":{"a":1,}', '"zz":{"a"}'),
    *('"zz":' + "[" * depth + "]" * depth for depth in (59, 60, 61, 64, 500, 5000, 100_000)),
    *(
        '"zz":[{]}',
        '"zz":[{"a":1]}',
        '"zz":}',
        '"zz":"a',
        '"id":7',
        '"id":true',
        '"code":{}',
        '"place":[]',
        '"record":1',
    ),
    "," + '"zz":1',
    '"zz":1,',
    ",".join(f'"name{n}":{n}' for n in range(700)),
    '"attributes":{' + ",".join(f'"name{n}":{n}' for n in range(700)) + "}",
    '"attributes":{' + ",".join(f'"name{n}":{n}' for n in range(700)) + '},"name699":1',
]


@pytest.mark.parametrize("members", ODD)
@pytest.mark.parametrize("columns", [frozenset(DECODED), frozenset(DECODED) - {"attributes"}])
def test_odd_lines(members: str, columns: frozenset[str]) -> None:
    """Each is an edge of the scanner: what it takes, and what it leaves."""
    check(line("") + line(members) * 2 + line('"zz":1'), DecodeOptions(columns=columns))


def test_most_lines_need_no_second_look() -> None:
    """Decoding would be right, but a hundred times slower, if the scanner gave up on what producers write every day."""
    usual = [
        '"workspace":"w","stream":"log","id":"a-b-c","code":503,"tenant":"t","severity":"WARN","message":"\\"\\n"',
        '"value":12.3456789012345678,"place":"x","attributes":{"a":{"b":[1,null]},"c":"\\u00e9"},"host":"h","pid":17',
        '"ingested_at":"2026-01-31T08:30:00+01:00","errorCode":"","tenantId":null,"rawPayload":{"zz":1},"zz":2',
        '"emoji":"\\ud83d\\ude00","text":"😀","list":[1,2,[3]],"record":"event"',
        "",
    ]
    found = frames.decode(b"".join(map(line, usual)), ALL)
    assert found is not None
    assert found[1] == []
    mapped = frames.decode(
        line('"host":{"name":"h"},"n":[1,2]'), DecodeOptions(mapping={"tenant": "$.host.name", "code": "$.n[1]"})
    )
    assert mapped is not None
    assert mapped[1] == []


def test_a_line_of_fifty_megabytes() -> None:
    """A producer that attaches a whole file to a record."""
    found = check(line("") + line(f'"message":"{"x" * 50_000_000}","zz":"y"') + line(""), ALL)
    assert found.frame["message"].str.len_bytes().to_list() == [None, 50_000_000, None]


def test_irregular_producers() -> None:
    """Dozens of optional members in any order: `attributes` must list them as they came."""
    rows = [{f"field_{n}": n for n in range(i % 7, 60, 1 + i % 5)} for i in range(300)]
    check(b"".join(line(json.dumps(row)[1:-1]) for row in rows), ALL)


def test_a_small_input_waits_for_no_compiler() -> None:
    """A replay of a few lines must not load a compiler."""
    code = """
import sys
from connectors.formats import jsonl
from connectors.formats.types import DecodeOptions
jsonl.decode(b'{}\\n' * 1000, DecodeOptions())
sys.exit('numba' in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_do_not_depend_on_their_chunk() -> None:
    """Texts are views into the chunk; when it is gone they must not be."""
    parts = [line(f'"message":"a text of more than twelve bytes, number {n}","zz":{n}') for n in range(500)]
    frame = jsonl.decode(b"".join(parts), ALL).frame
    parts.clear()
    assert frame["message"].to_list() == [f"a text of more than twelve bytes, number {n}" for n in range(500)]
    assert [orjson.loads(text) for text in frame["attributes"]] == [{"zz": n} for n in range(500)]
