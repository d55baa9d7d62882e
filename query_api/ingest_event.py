"""One event as a client sends it: checked, and as a line of the log.

The meaning of its members is that of `connectors.formats.record`; this adds what only the service can know: who may set
what, which time is ahead of ours, and what the surface requires.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import orjson

from connectors.formats import paths
from connectors.formats.record import ALIASES, Reader, Reject, Row
from connectors.formats.types import DecodeOptions
from connectors.log_lines import stamp
from operators.clock import AHEAD
from operators.events import DEFAULT_STREAM

# `workspace` tells what a client has set from what it has not; only columns that are looked at are made.
OPTIONS = DecodeOptions(workspace="", columns=frozenset({"tenant"}))
NOT_YOURS = {
    "workspace": "workspace may not be set: it is that of your API key.",
    "ingested_at": "ingested_at may not be set: the service says when it accepted an event.",
    "record": "record may not be set: only events are accepted here.",
}
TENANT_REQUIRED = "tenantId is required."
IN_THE_FUTURE = "time is more than 60 s in the future."
_reader = Reader(OPTIONS)


class NotAcceptable(ValueError):
    """An event that is not taken; the text is a sentence for the client."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event as the log takes it, and what the answer needs of it."""

    body: bytes
    tenant: str | None
    id: str | None


def accept(text: bytes, now: int, spare_id: str | None = None) -> Accepted:
    """Check one event. now: µs; spare_id: for an event without an id. Raises NotAcceptable."""
    text = text.strip()
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotAcceptable(f"The body is not valid JSON: {error}.") from None
    if not isinstance(values, dict):
        raise NotAcceptable("A JSON object is expected.")
    behind = b""
    if values.get("time") in (None, ""):
        values["time"] = stamp(now)
        behind = b',"time":"%b"' % values["time"].encode()
    try:
        row = _reader.row(values, lambda: paths.raws(text))
    except Reject as reject:
        raise NotAcceptable(sentence(str(reject))) from None
    except RecursionError:
        raise NotAcceptable("The body is nested too deeply.") from None
    check(row, now)
    if row["id"] is None and spare_id is not None:
        row["id"] = spare_id
        behind += b',"id":%b' % orjson.dumps(spare_id)
    if b"\n" in text:
        text = msgspec.json.format(text, indent=-1)
    tenant, id_ = row["tenant"], row["id"]
    return Accepted(
        text[:-1] + behind + b"}" if behind else text,
        None if tenant is None else str(tenant),
        None if id_ is None else str(id_),
    )


def check(row: Row, now: int) -> None:
    """What the service requires of an event. Raises NotAcceptable."""
    if row["workspace"]:
        raise NotAcceptable(NOT_YOURS["workspace"])
    if row["ingested_at"] is not None:
        raise NotAcceptable(NOT_YOURS["ingested_at"])
    if row["record"] is not None:
        raise NotAcceptable(NOT_YOURS["record"])
    if row["tenant"] is None and row["stream"] == DEFAULT_STREAM:
        raise NotAcceptable(TENANT_REQUIRED)
    check_time(row, now)


def check_time(row: Row, now: int) -> None:
    """Refuse what is ahead of the clock (S4). Raises NotAcceptable."""
    if int(row["time"] or 0) > now + AHEAD:
        raise NotAcceptable(IN_THE_FUTURE)


def body_of(row: Row) -> bytes:
    """A row as a record with the columns' own names. Its workspace, ingest time and kind are the service's to say."""
    members: dict[str, object] = {}
    for name, value in row.items():
        if value is None or name in NOT_YOURS:
            continue
        if name == "time":
            members[name] = stamp(int(value))
        elif name == "attributes":
            members[name] = orjson.Fragment(str(value))
        else:
            members[name] = value
    text = orjson.dumps(members)
    return msgspec.json.format(text, indent=-1) if b"\n" in text else text


def sentence(reject: str) -> str:
    """The reason of a reject in the surface's words."""
    column, found, _ = reject.partition(": missing")
    if column == "time":  # given where there is anything at all, so this is an empty object
        column = "source" if found else column
    if found:
        return f"{ALIASES.get(column, column)} is required."
    return reject if reject.endswith(".") else f"{reject}."
