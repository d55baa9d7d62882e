"""CSV: cells and columns, quoting, and the agreement of the columnar path with the definition of a record."""

import csv
import io
import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from connectors.chunks import pieces
from connectors.formats import FORMATS
from connectors.formats import csv as csv_format
from connectors.formats.columns import _one_by_one
from connectors.formats.types import DecodeOptions
from tests.connectors.splitting import REAL_DATA, assert_split_does_not_show, joined

FORM = FORMATS["csv"]
OPTIONS = DecodeOptions()
HEADER = b"time,source,type,message,value,extra\n"
GOOD = b"2024-01-01 00:00:00,s,t,"


def decode(body: bytes, options: DecodeOptions = OPTIONS, header: bytes = HEADER) -> pl.DataFrame:
    decoded = FORM.decode(header + body, options)
    assert decoded.rejects.is_empty()
    return decoded.frame


def errors(body: bytes, header: bytes = HEADER) -> list[tuple[int, str]]:
    return FORM.decode(header + body, OPTIONS).rejects.select("offset", "error").rows()


def test_cells_become_columns_and_the_rest_attributes() -> None:
    row = decode(GOOD + b"hello,1.5,x\n").row(0, named=True)
    assert (row["source"], row["type"], row["message"], row["value"]) == ("s", "t", "hello", 1.5)
    assert row["attributes"] == '{"extra":"x"}'
    assert decode(GOOD + b",,\n").row(0, named=True)["attributes"] is None


def test_quoted_cells_hold_delimiters_marks_and_newlines() -> None:
    frame = decode(GOOD + b'"a,b ""c""\nd",2,x\n' + GOOD + b"plain,3,\n")
    assert frame["message"].to_list() == ['a,b "c"\nd', "plain"]
    assert frame["offset"].to_list() == [0, 1]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_the_header_tells_the_delimiter(delimiter: str) -> None:
    body = (GOOD + b"a.b,1.5,\n").replace(b",", delimiter.encode())
    assert decode(body, header=HEADER.replace(b",", delimiter.encode()))["message"].to_list() == ["a.b"]


def test_timestamp_and_value_with_constants_is_enough() -> None:
    options = DecodeOptions(mapping={"source": "ec2", "type": "cpu"})
    row = decode(b"2014-04-01 00:05:00,20.5\n", options, b"timestamp,value\n").row(0, named=True)
    assert (str(row["time"]), row["source"], row["type"], row["value"]) == (
        "2014-04-01 00:05:00+00:00",
        "ec2",
        "cpu",
        20.5,
    )
    assert row["attributes"] is None


def test_a_mapped_column_is_moved_not_copied() -> None:
    options = DecodeOptions(mapping={"source": "$.service", "value": "$.latency"})
    row = decode(b"2024-01-01T00:00:00Z,api,own,t,12\n", options, b"time,service,source,type,latency\n").row(
        0, named=True
    )
    assert (row["source"], row["value"], row["attributes"]) == ("api", 12.0, '{"source":"own"}')


def test_bad_rows_say_why_and_cost_nothing_else() -> None:
    body = (
        GOOD
        + b"a,x1,\n"
        + b"nonsense\n"
        + GOOD
        + b'"b"c,1,\n'
        + GOOD
        + b"ok,1,\n"
        + GOOD.replace(b"s", b"")
        + b"d,1,\n"
    )
    assert errors(body) == [
        (0, 'value: "x1" is a text, a number is expected'),
        (1, "not valid CSV: 1 cells, but the header has 6"),
        (2, "not valid CSV: ',' expected after '\"'"),
        (4, 'source: missing, "source" or "integrationKey" is expected'),
    ]
    assert errors(GOOD + b"\xff,1,\n") == [(0, "not valid UTF-8: byte 0xff at position 24")]


def test_a_stray_mark_costs_its_own_line_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_format, "MAX_RECORD", 200)
    body = GOOD + b'5" disk,1,\n' + b"".join(GOOD + b"ok,%d,\n" % n for n in range(20)) + GOOD + b'"two\nlines",1,\n'
    decoded = FORM.decode(HEADER + body, OPTIONS)
    assert decoded.rejects.rows() == [
        (0, (GOOD + b'5" disk,1,').decode(), "not valid CSV: a quotation mark is not closed")
    ]
    assert len(decoded.frame) == 21
    assert decoded.frame["message"][-1] == "two\nlines"


@pytest.mark.parametrize("seed", range(40))
def test_the_cut_never_splits_a_record(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_format, "MAX_RECORD", 120)
    monkeypatch.setattr("connectors.chunks.FIRST", 16)
    draw = random.Random(seed)
    cells = ["plain", '"quo,ted"', '"two\nlines"', '"a""b\n\n\n"', '5" disk', '"open', "", '"' + "long\n" * 30 + '"']
    body = b"".join(GOOD + draw.choice(cells).encode() + b",1,\n" for _ in range(40))
    whole = FORM.decode(HEADER + body, OPTIONS)
    stream = io.BytesIO(body)
    chunks = [HEADER + piece.data for piece in pieces(stream.read, FORM.cut, largest=draw.randint(16, 300))]
    split = joined(FORM, chunks, OPTIONS)
    assert_frame_equal(split.frame, whole.frame)
    assert_frame_equal(split.rejects, whole.rejects)
    assert split.records == whole.records


def test_the_result_does_not_depend_on_chunks() -> None:
    body = (GOOD + b"a,1,x\n" + b"\n" + b"broken\n" + GOOD + b'"q,",2,\r\n' + GOOD + b"b,,\n") * 3
    found = assert_split_does_not_show(FORM, body, OPTIONS, HEADER)
    assert (len(found.frame), len(found.rejects), found.records) == (9, 3, 15)


TEXTS = st.one_of(st.text(st.characters(codec="utf-8"), max_size=8), st.sampled_from(["", " ", "null"]))
TIMES = (
    *("2024-01-01T00:00:00Z", "2024-01-01t00:00:00z", "2024-01-01 00:00:00.123456789+02:00", "", "infinity"),
    *("1700000000", "2024-02-30 00:00:00", "9999-12-31T23:59:59-01:00", "1969-12-31T23:59:59Z", "2024-01-01T00:00:60Z"),
)
OBJECTS = (
    *("", "{}", "{ }", '{"a":1}', '{"extra":2}', '{"\\u0065xtra":2}', '{"a":{"b":[{"c":1}]}}'),
    *('{"a":', "[1]", "x", '{"a":1,}', '{"a":"\\ud800"}', '{"a":NaN}', '{"a":01}', '{"a":"\t"}'),
)
MAPPINGS: tuple[dict[str, str], ...] = (
    *({}, {"source": "$.other"}, {"source": "x", "type": "$.code"}, {"value": "$.extra"}, {"attributes": "$.extra"}),
)
CELLS: dict[str, st.SearchStrategy[str]] = {
    "time": st.sampled_from(TIMES),
    "source": TEXTS,
    "integrationKey": TEXTS,
    "type": TEXTS,
    "code": TEXTS,
    "severity": st.sampled_from(["", "ERROR", " warn ", "odd", "info"]),
    "value": st.sampled_from(["", "1", "-1.5e3", "01", "nan", "1e999", "true", "x", " 1"]),
    "record": st.sampled_from(["", "", "event", "resolve", "other"]),
    "attributes": st.sampled_from(OBJECTS),
    "extra": TEXTS,
    "other": TEXTS,
}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_columns_agree_with_the_definition_of_a_record(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(list(CELLS)), min_size=1, unique=True))
    rows = data.draw(st.lists(st.tuples(*(CELLS[name] for name in names)), min_size=1, max_size=12))
    mapping = data.draw(st.sampled_from(MAPPINGS))
    columns = data.draw(st.sampled_from([OPTIONS.columns, frozenset({"code"}), frozenset({"attributes", "value"})]))
    options = DecodeOptions(mapping=mapping, columns=columns)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([names, *rows])
    decoded = FORM.decode(buffer.getvalue().encode(), options)
    table = pl.DataFrame([list(row) for row in rows], schema=dict.fromkeys(names, pl.String), orient="row")
    offsets = pl.arange(len(rows), eager=True, dtype=pl.Int64)
    raws = pl.Series([""] * len(rows))
    frame, rejects = _one_by_one(table, options, offsets, raws)
    assert_frame_equal(decoded.frame, frame)
    assert_frame_equal(decoded.rejects.drop("raw"), rejects.drop("raw"))


@pytest.mark.skipif(not REAL_DATA.exists(), reason="no real data beside the repository")
def test_every_real_series_is_read_completely() -> None:
    options = DecodeOptions(mapping={"source": "nab", "type": "measurement"})
    for path in sorted(REAL_DATA.glob("nab/data/*/*.csv")):
        with path.open(newline="") as file:
            expected = [float(row["value"]) for row in csv.DictReader(file)]
        decoded = FORM.decode(path.read_bytes(), options)
        assert decoded.rejects.is_empty()
        assert decoded.frame["value"].to_list() == pytest.approx(expected, rel=1e-15)
