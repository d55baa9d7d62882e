"""OTLP's protobuf encoding: a request as the members of its JSON form, and the answers."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from connectors.formats.paths import Fields
from query_api.ingest_event import NotAcceptable

Json = dict[str, object]


def members(body: bytes) -> Fields:
    """The members of a request. Raises NotAcceptable."""
    try:
        request = ExportLogsServiceRequest.FromString(body)
    except DecodeError as error:
        raise NotAcceptable(f"The body is no ExportLogsServiceRequest: {error}.") from None
    resource_logs = [
        {
            "resource": {"attributes": _pairs(logs.resource.attributes)},
            "scopeLogs": [
                {"scope": {"name": scope.scope.name}, "logRecords": [_record(log) for log in scope.log_records]}
                for scope in logs.scope_logs
            ],
        }
        for logs in request.resource_logs
    ]
    return {"resourceLogs": orjson.dumps(resource_logs)} if resource_logs else {}


def response(rejected: int, reason: str) -> bytes:
    """An ExportLogsServiceResponse."""
    if not rejected:
        return ExportLogsServiceResponse().SerializeToString()
    partial = ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=reason)
    return ExportLogsServiceResponse(partial_success=partial).SerializeToString()


def status_message(code: int, message: str) -> bytes:
    """A google.rpc.Status: field 1 its code, field 2 its message."""
    text = message.encode()
    size = len(text)
    length = bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((0x08, code, 0x12, *length, size)) + text


def _record(log: LogRecord) -> Json:
    return {
        "timeUnixNano": str(log.time_unix_nano),
        "observedTimeUnixNano": str(log.observed_time_unix_nano),
        "severityNumber": log.severity_number,
        "severityText": log.severity_text,
        "eventName": log.event_name,
        "body": _value(log.body),
        "attributes": _pairs(log.attributes),
        "traceId": log.trace_id.hex(),
        "spanId": log.span_id.hex(),
    }


def _pairs(pairs: Iterable[KeyValue]) -> list[Json]:
    return [{"key": pair.key, "value": _value(pair.value)} for pair in pairs]


def _value(value: AnyValue) -> Json | None:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return {"arrayValue": {"values": [_value(item) for item in value.array_value.values]}}
    if kind == "kvlist_value":
        return {"kvlistValue": {"values": _pairs(value.kvlist_value.values)}}
    if kind == "int_value":
        return {"intValue": str(value.int_value)}
    if kind == "bytes_value":
        return {"bytesValue": value.bytes_value.hex()}
    return {kind: getattr(value, kind)}
