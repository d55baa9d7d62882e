"""Many events in one request: NDJSON or a JSON array, checked as columns, stored as they came.

A batch is taken apart and decoded in a thread of its own, so that single events do not wait for it. Bad items do not
keep the good ones from being accepted.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache

import msgspec
import polars as pl

from connectors.formats import jsonl
from connectors.formats.types import Decoded
from connectors.log_lines import stamp
from operators.clock import AHEAD
from operators.events import DEFAULT_STREAM
from query_api.envelope import ApiError, ErrorCode
from query_api.ingest_event import IN_THE_FUTURE, NOT_YOURS, OPTIONS, TENANT_REQUIRED, sentence

MOST = 50_000  # events
EMPTY = 16  # bytes: no event is so short
_BOM = b"\xef\xbb\xbf"
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_NO_TIME = "time: missing"


@dataclass(slots=True)
class Checked:
    """A batch after its checks. lines: all of it. good: `offset`, `tenant` of what is acceptable. errors: by index."""

    lines: list[bytes]
    good: pl.DataFrame
    errors: dict[int, str] = field(default_factory=dict)

    @property
    def tenants(self) -> list[str]:
        """Whom it is about, each once."""
        return self.good["tenant"].drop_nulls().unique().to_list()

    @property
    def bodies(self) -> list[bytes]:
        """The lines that are acceptable."""
        if len(self.good) == len(self.lines):
            return self.lines
        return [self.lines[n] for n in self.good["offset"].to_list()]

    def refuse(self, tenants: dict[str, ApiError]) -> None:
        """Take the events of these tenants out."""
        if tenants:
            gone = self.good.filter(pl.col("tenant").is_in(list(tenants)))
            self.errors |= {n: tenants[tenant].message for n, tenant in gone.iter_rows()}
            self.good = self.good.join(gone, on="offset", how="anti")


@cache
def threads() -> ThreadPoolExecutor:
    """Where batches are taken apart: two at a time."""
    return ThreadPoolExecutor(2, thread_name_prefix="ingest")


def check(body: bytes, now: int, spare_id: str | None = None) -> Checked:
    """Find out what of a batch is acceptable. now: µs; spare_id: of which ids are made for events that have none.

    Raises ApiError where it is no batch at all.
    """
    text = body.removeprefix(_BOM)
    lines = elements(text) if text.lstrip()[:1] == b"[" else split(text)
    _check_count(len(lines) - lines.count(b""))
    when = b',"time":"%b"}' % stamp(now).encode()
    lines = _with_time(lines, when)
    decoded = _decoded(lines)
    rejects = decoded.rejects
    frame = decoded.frame
    late = rejects.filter(pl.col("error").str.starts_with(_NO_TIME))["offset"]
    if len(late):  # where a look at the text did not tell
        again = {n: _added(lines[n], when) for n in late.to_list()}
        for n, line in again.items():
            lines[n] = line
        more = _decoded(list(again.values()))
        frame = pl.concat([frame, _moved(more.frame, late)]).sort("offset")
        kept = rejects.filter(~pl.col("offset").is_in(late.implode()))
        rejects = pl.concat([kept, _moved(more.rejects, late)])
    wrong = _wrong(frame, now)
    bad = frame.select("offset", error=wrong).filter(pl.col("error").is_not_null())
    if len(bad):
        frame = frame.join(bad, on="offset", how="anti")
    errors = {n: sentence(error) for n, error in rejects.select("offset", "error").iter_rows()} | dict(bad.iter_rows())
    if spare_id is not None:
        for n in frame.filter(pl.col("id").is_null())["offset"].to_list():
            lines[n] = lines[n][:-1] + b',"id":"%b-%d"}' % (spare_id.encode(), n)
    return Checked(lines, frame.select("offset", "tenant"), errors)


def elements(text: bytes) -> list[bytes]:
    """The elements of a JSON array, each without line breaks. Raises ApiError."""
    try:
        if b"\n" in text:
            text = msgspec.json.format(text, indent=-1)
        lines = [bytes(raw) for raw in _elements.decode(text)]
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiError(ErrorCode.VALIDATION_ERROR, f"The body is not a JSON array: {error}.") from None
    _check_count(len(lines))
    return lines


def _check_count(events: int) -> None:
    if events > MOST:
        raise ApiError(ErrorCode.PAYLOAD_TOO_LARGE, f"A batch has at most {MOST:,} events, this one has {events:,}.")
    if not events:
        raise ApiError(ErrorCode.VALIDATION_ERROR, "The batch is empty.")


def split(text: bytes) -> list[bytes]:
    """JSON lines, each without spaces around it; blank ones stay, as empty ones."""
    lines = text.removesuffix(b"\n").split(b"\n")
    if b"".join([line[-1:] for line in lines]).count(b"}") < len(lines):
        lines = [line.strip(b" \t\r") for line in lines]
    return lines


def _with_time(lines: list[bytes], when: bytes) -> list[bytes]:
    """The lines, with the member added where there plainly is none."""
    whole = b"\n".join([*lines, b""])
    given = whole.count(b'"time"')
    if given >= len(lines):
        return lines
    if not given and b"\\" not in whole and min(map(len, lines)) > EMPTY and whole.count(b"}\n") == len(lines):
        return [line[:-1] + when for line in lines]
    return [line if b'"time"' in line or b"\\" in line else _added(line, when) for line in lines]


def _added(line: bytes, member: bytes) -> bytes:
    """The object with one more member; what is no object, or an empty one, stays as it is."""
    return line[:-1] + member if line[-1:] == b"}" and line[1:-1].strip() else line


def _decoded(lines: Iterable[bytes]) -> Decoded:
    return jsonl.decode(b"\n".join(lines) + b"\n", OPTIONS)


def _moved(frame: pl.DataFrame, places: pl.Series) -> pl.DataFrame:
    """The rows of some lines, with the places these lines have in the batch."""
    return frame.with_columns(places.gather(frame["offset"]).alias("offset"))


def _wrong(frame: pl.DataFrame, now: int) -> pl.Expr:
    """Why an event is not accepted, null where it is. As `ingest_event.check`, for all at once."""
    checks = {
        NOT_YOURS["workspace"]: pl.col("workspace") != OPTIONS.workspace,
        NOT_YOURS["ingested_at"]: pl.col("ingested_at").is_not_null(),
        NOT_YOURS["record"]: pl.col("record").is_not_null(),
        TENANT_REQUIRED: pl.col("tenant").is_null() & (pl.col("stream") == DEFAULT_STREAM),
        IN_THE_FUTURE: pl.col("time").to_physical() > now + AHEAD,
    }
    found = frame.select(pl.any_horizontal(checks.values()).any()).item()
    if not found:
        return pl.lit(None, pl.String)
    return pl.coalesce(pl.when(check).then(pl.lit(why)) for why, check in checks.items())
