"""System logs as syslogd writes them, such as /var/log/auth.log.

RFC 3164 lines, `Mar 27 13:06:56 host program[pid]: message`, have neither a year nor a zone: the year is
`options.year`, the time is UTC. It is the same year for all lines, because a line alone cannot tell: a file that runs
over New Year must be cut there. Lines that begin with an RFC 3339 time, the newer default of rsyslog, need no year.

By default the source is the program, the place the host, the type comes from log_types.yaml, and the value says how
often it happened: 1, or n for `message repeated n times: [...]`.
"""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl

from connectors.formats import log_types, text_lines
from connectors.formats.columns import rows_and_rejects, time_of_text
from connectors.formats.types import Decoded, DecodeOptions

STREAM = "log"
DEFAULTS = {"source": "$.program", "place": "$.host"}
NO_PROGRAM = "syslog"

_STAMP = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
HEAD = r"^(?:<(\d{1,3})>)?(?:(" + _STAMP + r")|(\d{4}-\d\d-\d\d[Tt]\S+)) (\S+) (.*)$"
_TAG = r"^([^\s:\[(]+)(?:\([^)]*\))?(?:\[([^\]]*)\])?:(?:\s(.*))?$"
_REPEATED = r"^message repeated (\d+) times: \[ ?(.*)\]$"
_SEVERITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
_NEEDS_YEAR = re.compile(rb"^(?:<\d{1,3}>)?" + _STAMP.encode(), re.MULTILINE)


def needs_year(head: bytes) -> bool:
    """Whether lines of `head`, the beginning of a file, have times without a year."""
    return _NEEDS_YEAR.search(head) is not None


def decode(chunk: bytes, options: DecodeOptions) -> Decoded:
    """The events of whole lines."""
    found = text_lines.split(chunk)
    parsed = found.frame.with_columns(head=pl.col("raw").str.extract_groups(HEAD)).unnest("head")
    parsed.columns = ["offset", "raw", "priority", "stamp", "full", "host", "rest"]
    parsed = parsed.with_columns(time=pl.coalesce(_time(options.year), time_of_text(pl.col("full"))))
    is_good = pl.col("time").is_not_null()
    rejects = text_lines.rejected(parsed.filter(~is_good), _reason(options.year))
    table = _fields(parsed.filter(is_good))
    rules = log_types.rules_of("syslog", options.mapping.get("syslog"))
    table = log_types.typed(table, rules).drop("message").rename({"text": "message"})
    mapping = {**DEFAULTS, **options.mapping}
    options = replace(options, mapping=mapping, stream=options.stream or STREAM)
    frame, more = rows_and_rejects(table.drop("offset", "raw"), options, table["offset"], table["raw"])
    return Decoded(frame, pl.concat([found.rejects, rejects, more]).sort("offset"), found.records)


def _time(year: int | None) -> pl.Expr:
    if year is None:
        return pl.lit(None, pl.Datetime("us", "UTC"))
    text = pl.concat_str(pl.lit(f"{year:04} "), pl.col("stamp").str.replace("  ", " 0", literal=True))
    return text.str.to_datetime("%Y %b %d %H:%M:%S", time_unit="us", strict=False).dt.replace_time_zone("UTC")


def _reason(year: int | None) -> pl.Expr:
    line = pl.lit('not a syslog line; "Mar 27 13:06:56 host program[pid]: message" is expected')
    stamp = pl.col("stamp").fill_null("")
    dated = pl.lit("time: the line has no year; name it with --year")
    if year is not None:
        dated = pl.format(f'time: "{{}}" is not a time of the year {year}', stamp)
    other = pl.format('time: "{}" is not a time such as 2026-01-31T08:30:00Z', pl.col("full").fill_null(""))
    return pl.when(pl.col("rest").is_null()).then(line).when(stamp != "").then(dated).otherwise(other)


def _fields(parsed: pl.DataFrame) -> pl.DataFrame:
    """The fields of good lines. `text` is the message as logged, `message` the one that rules match."""
    split = parsed.with_columns(tag=pl.col("rest").str.extract_groups(_TAG)).unnest("tag")
    tagged = pl.col("1").is_not_null()
    text = pl.when(tagged).then(pl.col("3").fill_null("")).otherwise(pl.col("rest"))
    priority = pl.col("priority").cast(pl.Int64)
    severity = (priority % 8).replace_strict(range(8), _SEVERITIES, default=None, return_dtype=pl.String)
    fields = split.select(
        *("offset", "raw", "time", "host"),
        program=pl.col("1").fill_null(NO_PROGRAM),
        pid=pl.col("2"),
        text=text,
        facility=priority // 8,
        severity=severity,
        repeated=pl.when(text.str.starts_with("message repeated ")).then(text).str.extract_groups(_REPEATED),
    ).unnest("repeated")
    inner = pl.coalesce("2", "text").alias("message")
    return fields.with_columns(inner, value=pl.col("1").fill_null("1")).drop("1", "2")
