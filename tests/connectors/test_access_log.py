"""Web server logs: what of a request ends up in which column, and that no line is lost."""

import json
import re
from collections import Counter

import polars as pl
import pytest

from connectors.formats import FORMATS
from connectors.formats.types import DecodeOptions
from connectors.mapping import load
from operators.events import DECODED
from tests.connectors.splitting import REAL_DATA, assert_split_does_not_show

FORM = FORMATS["access_log"]
OPTIONS = DecodeOptions()
COMBINED = (
    '203.0.113.9 - alice [17/May/2015:10:05:03 +0200] "GET /a?b=\\"c\\" HTTP/1.1" 503 2326 '
    '"http://example.com/" "Mozilla/5.0 (X11)"'
)


def decode(line: str, options: DecodeOptions = OPTIONS) -> dict[str, object]:
    (row,) = FORM.decode(line.encode() + b"\n", options).frame.to_dicts()
    return row


def error(line: str) -> str:
    decoded = FORM.decode(line.encode() + b"\n", OPTIONS)
    assert decoded.frame.is_empty()
    return str(decoded.rejects["error"].item())


def test_a_combined_line_fills_the_documented_columns() -> None:
    row = decode(COMBINED)
    assert str(row["time"]) == "2015-05-17 08:05:03+00:00"
    assert (row["stream"], row["source"], row["type"], row["code"]) == ("log", "http", "http_5xx", "503")
    assert (row["message"], row["value"]) == ('GET /a?b=\\"c\\" HTTP/1.1', 2326.0)
    assert json.loads(str(row["attributes"])) == {
        "client": "203.0.113.9",
        "user": "alice",
        "referrer": "http://example.com/",
        "agent": "Mozilla/5.0 (X11)",
        "method": "GET",
        "path": '/a?b=\\"c\\"',
        "protocol": "HTTP/1.1",
    }


def test_a_common_line_has_no_referrer_and_no_agent() -> None:
    row = decode('::1 - - [01/Jan/2024:00:00:00 +0000] "-" 408 -')
    assert (row["code"], row["type"], row["value"], row["message"]) == ("408", "http_4xx", None, None)
    assert row["attributes"] == '{"client":"::1"}'


def test_what_a_server_appends_is_kept() -> None:
    assert json.loads(str(decode(COMBINED + " 0.012 upstream=a")["attributes"]))["extra"] == "0.012 upstream=a"


def test_a_user_agent_cut_short_does_not_cost_the_request() -> None:
    assert decode(COMBINED[:-4])["code"] == "503"


def test_bad_lines_say_why() -> None:
    assert error("hello") == "not a line of the combined or common log format"
    assert error(COMBINED.replace("17/May", "32/May")).startswith('time: "32/May/2015:10:05:03 +0200" is not a time')
    invalid = FORM.decode(COMBINED.encode().replace(b"alice", b"al\xffce"), OPTIONS)
    assert invalid.rejects["error"].item() == "not valid UTF-8: byte 0xff at position 16"


def test_columns_nobody_reads_stay_empty() -> None:
    row = decode(COMBINED, DecodeOptions(columns=frozenset({"code"})))
    assert (row["code"], row["message"], row["value"], row["attributes"]) == ("503", None, None, None)
    assert row["source"] == "http"


def test_a_mapping_moves_fields_and_overrides_types() -> None:
    rules = load(
        "columns: {source: $.path, tenant: $.user}\naccess_log: [{match: '^503$', type: overloaded}]", "m.yaml"
    )
    row = decode(COMBINED, DecodeOptions(mapping=rules, stream="deploy"))
    assert (row["source"], row["tenant"], row["type"], row["stream"]) == (
        '/a?b=\\"c\\"',
        "alice",
        "overloaded",
        "deploy",
    )
    rules = load("access_log: [{match: login, field: path, type: login, code: bad}]", "m.yaml")
    row = decode(COMBINED.replace("/a?", "/login?"), DecodeOptions(mapping=rules))
    assert (row["type"], row["code"]) == ("login", "bad")
    assert decode(COMBINED, DecodeOptions(mapping=rules))["code"] == "503"


def test_the_result_does_not_depend_on_chunks() -> None:
    lines = [COMBINED, "", "broken", COMBINED.replace("503", "200") + "\r", COMBINED[:-3], COMBINED + " x"]
    found = assert_split_does_not_show(FORM, "\n".join(lines * 3).encode(), OPTIONS)
    assert (len(found.frame), len(found.rejects), found.records) == (12, 3, 18)


@pytest.mark.skipif(not REAL_DATA.exists(), reason="no real data beside the repository")
def test_ten_thousand_real_requests() -> None:
    content = (REAL_DATA / "access_log" / "apache_combined.log").read_bytes()
    decoded = FORM.decode(content, OPTIONS)
    assert decoded.rejects.is_empty()
    assert dict(decoded.frame.schema) == DECODED
    lines = content.decode().splitlines()
    assert Counter(decoded.frame["code"]) == Counter(line.split('" ')[1].split()[0] for line in lines)
    clients = decoded.frame["attributes"].str.json_path_match("$.client")
    assert clients.to_list() == [line.split()[0] for line in lines]
    stamps = [re.search(r"\[(\d+)/May/2015:([\d:]+) \+0000\]", line) for line in lines]
    expected = [f"2015-05-{stamp[1]} {stamp[2]}" for stamp in stamps if stamp]
    assert decoded.frame["time"].dt.strftime("%Y-%m-%d %H:%M:%S").to_list() == expected
    sizes = [line.split('" ')[1].split()[1] for line in lines]
    assert decoded.frame["value"].sum() == sum(int(size) for size in sizes if size != "-")
    assert decoded.frame.select(pl.col("offset").is_sorted()).item()
