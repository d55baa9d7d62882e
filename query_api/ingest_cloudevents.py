"""CloudEvents over HTTP: structured and binary mode, and batches.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md. An event means what it
means in a file (`connectors.formats.cloudevents`), with one difference: `data` is the producer's own affair, so nothing
in it can be taken for what only the service may set.
"""

from __future__ import annotations

from urllib.parse import unquote

import orjson
import polars as pl
from starlette.datastructures import Headers

from connectors.formats import cloudevents, paths
from connectors.formats.paths import Fields
from connectors.formats.record import Reject
from connectors.formats.types import DecodeOptions
from connectors.log_lines import stamp
from query_api.ingest_batch import Checked, elements
from query_api.ingest_event import (
    NOT_YOURS,
    Accepted,
    NotAcceptable,
    body_of,
    check_time,
    sentence,
)

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
PREFIX = "ce-"
REQUIRED = ("specversion", "id", "source", "type")
_OPTIONS = DecodeOptions(workspace="")
_LIFTED = tuple(name for name in cloudevents.LIFTED if name not in NOT_YOURS)


def is_binary(headers: Headers) -> bool:
    """Whether a request carries an event in binary mode."""
    return "ce-specversion" in headers


def structured(text: bytes, now: int) -> Accepted:
    """An event in the JSON format. now: µs. Raises NotAcceptable."""
    try:
        if not isinstance(orjson.loads(text), dict):
            raise NotAcceptable("A CloudEvent is expected, which is a JSON object.")
        return accept(paths.members(text), now)
    except orjson.JSONDecodeError as error:
        raise NotAcceptable(f"The body is not valid JSON: {error}.") from None
    except RecursionError:
        raise NotAcceptable("The body is nested too deeply.") from None


def binary(headers: Headers, body: bytes, now: int) -> Accepted:
    """An event whose attributes are headers and whose data is the body. now: µs. Raises NotAcceptable."""
    fields = {
        name[len(PREFIX) :]: orjson.dumps(unquote(value, errors="replace"))
        for name, value in headers.items()
        if name.startswith(PREFIX)
    }
    if body:
        fields["data"] = _data(headers.get("content-type", ""), body)
    return accept(fields, now)


def batch(body: bytes, now: int) -> Checked:
    """The events of a JSON array. now: µs. Raises ApiError where it is none."""
    events: list[Accepted] = []
    offsets: list[int] = []
    errors: dict[int, str] = {}
    lines = elements(body)
    for n, line in enumerate(lines):
        try:
            event = structured(line, now)
        except NotAcceptable as wrong:
            errors[n] = str(wrong)
        else:
            lines[n] = event.body
            offsets.append(n)
            events.append(event)
    tenants = pl.Series([event.tenant for event in events], dtype=pl.String)
    good = pl.DataFrame({"offset": pl.Series(offsets, dtype=pl.Int64), "tenant": tenants})
    return Checked(lines, good, errors)


def accept(fields: Fields, now: int) -> Accepted:
    """Check the members of an event. Raises NotAcceptable."""
    for name in REQUIRED:
        if fields.get(name, b"null") in (b"null", b'""'):
            raise NotAcceptable(f"{name} is required.")
    for name, why in NOT_YOURS.items():
        if fields.get(name, b"null") not in (b"null", b'""'):
            raise NotAcceptable(why)
    if fields.get("time", b"null") in (b"null", b'""'):
        fields = {**fields, "time": b'"%b"' % stamp(now).encode()}
    try:
        row = cloudevents.row(fields, _OPTIONS, _LIFTED)
    except Reject as reject:
        raise NotAcceptable(sentence(str(reject))) from None
    check_time(row, now)
    tenant = row["tenant"]
    return Accepted(body_of(row), None if tenant is None else str(tenant), str(row["id"]))


def _data(content_type: str, body: bytes) -> bytes:
    """The data as JSON: itself, or a text."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("", "application/json", "text/json") or kind.endswith("+json"):
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise NotAcceptable(f"The data is not valid JSON: {error}.") from None
        return body.strip()
    try:
        return orjson.dumps(body.decode())
    except UnicodeDecodeError:
        raise NotAcceptable("The data is neither JSON nor UTF-8 text; send it as JSON.") from None
