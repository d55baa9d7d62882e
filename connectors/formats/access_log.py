"""Apache's and nginx's access logs, combined and common format.

https://httpd.apache.org/docs/2.4/logs.html#combined. What else a server appends to the line is kept as `extra`.
By default the source is `http`, the code the status, the type `http_5xx` and so on, the message the request line and
the value the size in bytes.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from connectors.formats import log_types, text_lines
from connectors.formats.columns import rows_and_rejects
from connectors.formats.types import Decoded, DecodeOptions

STREAM = "log"
DEFAULTS = {"source": "http", "code": "$.status", "message": "$.request", "value": "$.bytes"}
PARTS = ("client", "ident", "user", "time", "request", "status", "bytes", "referrer", "agent", "extra")

_QUOTED = r'"((?:[^"\\]|\\.)*)'
# The last quote is missing where a server cut a long user agent: what matters of such a line is there.
LINE = rf'^(\S+) (\S+) (.*?) \[([^\]]*)\] {_QUOTED}" (\d{{3}}) (\d+|-)(?: {_QUOTED}" {_QUOTED}(?:"|$))?(.*)$'
_REQUEST = r"^(\S+) (\S+)(?: (\S+))?$"


def decode(chunk: bytes, options: DecodeOptions) -> Decoded:
    """The events of whole lines."""
    found = text_lines.split(chunk)
    parsed = found.frame.with_columns(groups=pl.col("raw").str.extract_groups(LINE)).unnest("groups")
    parsed.columns = ["offset", "raw", *PARTS]
    parsed = parsed.with_columns(
        pl.col(PARTS).str.strip_chars().replace({"-": None, "": None}),
        stamp=pl.col("time").str.to_datetime("%d/%b/%Y:%H:%M:%S %z", time_unit="us", strict=False),
    )
    is_line = pl.col("status").is_not_null()
    is_good = is_line & pl.col("stamp").is_not_null()
    no_time = pl.format('time: "{}" is not a time such as 17/May/2015:10:05:03 +0000', pl.col("time").fill_null(""))
    reason = pl.when(is_line).then(no_time).otherwise(pl.lit("not a line of the combined or common log format"))
    rejects = text_lines.rejected(parsed.filter(~is_good), reason)
    good = parsed.filter(is_good).drop("time").rename({"stamp": "time"})
    good = good.with_columns(request_parts=pl.col("request").str.extract_groups(_REQUEST)).unnest("request_parts")
    good = good.rename({"1": "method", "2": "path", "3": "protocol"})
    table, defaults = _typed(good, options)
    mapping = {**defaults, **options.mapping}
    options = replace(options, mapping=mapping, stream=options.stream or STREAM)
    frame, more = rows_and_rejects(table.drop("offset", "raw"), options, table["offset"], table["raw"])
    return Decoded(frame, pl.concat([found.rejects, rejects, more]).sort("offset"), found.records)


def _typed(good: pl.DataFrame, options: DecodeOptions) -> tuple[pl.DataFrame, dict[str, str]]:
    """The lines with their types, and the mapping for them: a rule's code goes before the status."""
    rules = log_types.rules_of("access_log", options.mapping.get("access_log"))
    table = log_types.typed(good, rules)
    if not any(rule.code for rule in rules):
        return table.drop("code"), DEFAULTS
    return table.with_columns(code=pl.coalesce("code", "status")), DEFAULTS | {"code": "$.code"}
