"""OTLP/HTTP logs: POST /v1/logs, JSON and protobuf (https://opentelemetry.io/docs/specs/otlp/#otlphttp).

A log record means what it means in a file (`connectors.formats.otlp`). What cannot be used is counted in
`partial_success` and the rest is stored; whoever gets another answer than 200 may send the same again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson
from fastapi import Response

from connectors.formats import otlp, paths
from connectors.formats.record import Reject, row_of
from connectors.formats.types import DecodeOptions
from connectors.log_lines import stamp
from query_api.envelope import ApiError
from query_api.ingest_event import Accepted, NotAcceptable, body_of, check_time, sentence

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
_OPTIONS = DecodeOptions(workspace="", stream=otlp.STREAM)


@dataclass(slots=True)
class Export:
    """The log records of one request that are accepted, and why others are not."""

    events: list[Accepted] = field(default_factory=list)
    rejected: int = 0
    reason: str = ""

    def refuse(self, tenants: dict[str, ApiError]) -> None:
        """Take the records of these tenants out."""
        kept = [event for event in self.events if event.tenant not in tenants]
        if len(kept) < len(self.events):
            self.rejected += len(self.events) - len(kept)
            self.reason = self.reason or next(iter(tenants.values())).message
            self.events = kept


def read(body: bytes, kind: str, now: int) -> Export:
    """The records of a request. kind: its content type; now: µs. Raises NotAcceptable where it is none."""
    if kind == PROTOBUF:
        from query_api.ingest_otlp_proto import members  # only who uses it pays for it

        return _accepted(members(body), now)
    if kind not in (JSON, ""):
        raise NotAcceptable(f"Content-Type {kind} is not supported; {JSON} and {PROTOBUF} are.")
    try:
        if not isinstance(orjson.loads(body), dict):
            raise NotAcceptable("An ExportLogsServiceRequest is expected, which is a JSON object.")
        return _accepted(paths.members(body), now)
    except orjson.JSONDecodeError as error:
        raise NotAcceptable(f"The body is not valid JSON: {error}.") from None
    except RecursionError:
        raise NotAcceptable("The body is nested too deeply.") from None


def _accepted(fields: paths.Fields, now: int) -> Export:
    export = Export()
    if not fields:
        return export  # an empty request is a valid one
    received = b'"%b"' % stamp(now).encode()
    try:
        for record in otlp.unfold(fields):
            try:
                export.events.append(_event({"time": received, **record}, now))
            except (Reject, NotAcceptable) as wrong:
                export.rejected += 1
                export.reason = export.reason or _reason(str(wrong))
    except Reject as reject:
        raise NotAcceptable(sentence(str(reject))) from None
    return export


def _event(record: paths.Fields, now: int) -> Accepted:
    row = row_of(record, _OPTIONS)
    check_time(row, now)
    tenant, id_ = row["tenant"], row["id"]
    return Accepted(body_of(row), None if tenant is None else str(tenant), None if id_ is None else str(id_))


def _reason(wrong: str) -> str:
    if wrong.startswith("source: missing"):
        return "The resource attribute service.name is required."
    return sentence(wrong)


def answer(export: Export, kind: str) -> Response:
    """The answer to a request whose records are stored, in its encoding."""
    if kind == PROTOBUF:
        from query_api.ingest_otlp_proto import response

        return Response(response(export.rejected, export.reason), media_type=PROTOBUF)
    partial: dict[str, object] = {}
    if export.rejected:
        partial = {"partialSuccess": {"rejectedLogRecords": str(export.rejected), "errorMessage": export.reason}}
    return Response(orjson.dumps(partial), media_type=JSON)


def refusal(error: ApiError, kind: str) -> Response:
    """An error as a google.rpc.Status, in the request's encoding."""
    status = error.code.status
    code = {400: 3, 413: 3, 422: 3, 429: 8, 503: 14, 504: 4}.get(status, 13)
    headers = {"Retry-After": str(error.retry_after or 1)} if status in (429, 503) else None
    if kind == PROTOBUF:
        from query_api.ingest_otlp_proto import status_message

        return Response(status_message(code, error.message), status, headers, media_type=PROTOBUF)
    return Response(orjson.dumps({"code": code, "message": error.message}), status, headers, media_type=JSON)
