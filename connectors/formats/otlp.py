"""OpenTelemetry logs in JSON: one ExportLogsServiceRequest a line, as the collector's file exporter writes them.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding. Every log record is an event. Attributes keep their
dotted names; those of the resource come first, so that a record's own value counts where both have one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson

from connectors.formats import records
from connectors.formats.paths import Fields
from connectors.formats.record import SEVERITY_WORDS, Reject
from connectors.formats.types import Decoded, DecodeOptions

STREAM = "log"
DEFAULT_TYPE = "log"
TYPES = ("event.name", "exception.type")
CODES = ("error.code", "http.response.status_code", "http.status_code", "rpc.grpc.status_code")
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEVELS = ("info", "info", "info", "medium", "high", "critical")  # trace, debug, info, warn, error, fatal


def decode(chunk: bytes, options: DecodeOptions) -> Decoded:
    """The log records of whole lines."""
    return records.decode(chunk, replace(options, stream=options.stream or STREAM), unfold)


def unfold(fields: Fields) -> Iterator[Fields]:
    """The log records of one export request, each as the fields of an event. Raises Reject, also in the middle."""
    if "resourceLogs" not in fields:
        raise Reject('"resourceLogs" is missing: a line is expected to be one ExportLogsServiceRequest')
    for resource_logs in _objects(orjson.loads(fields["resourceLogs"]), "resourceLogs"):
        resource = _attributes(_object(resource_logs.get("resource"), "resource").get("attributes"))
        for scope_logs in _objects(resource_logs.get("scopeLogs"), "scopeLogs"):
            scope = _object(scope_logs.get("scope"), "scope").get("name")
            for log in _objects(scope_logs.get("logRecords"), "logRecords"):
                yield _record(log, resource, scope)


def _record(log: Mapping[str, object], resource: dict[str, object], scope: object) -> Fields:
    own = resource | _attributes(log.get("attributes"))
    event = {
        "time": _time(log.get("timeUnixNano")) or _time(log.get("observedTimeUnixNano")),
        "id": own.get("log.record.uid"),
        "source": own.get("service.name"),
        "type": _first(log.get("eventName"), *(own.get(name) for name in TYPES)) or DEFAULT_TYPE,
        "code": _first(*(own.get(name) for name in CODES)),
        "tenant": own.get("tenant.id"),
        "severity": _severity(log.get("severityText"), log.get("severityNumber")),
        "message": _message(_value(log.get("body"))),
        "attributes": own | _given(scope=scope, traceId=log.get("traceId"), spanId=log.get("spanId")),
    }
    return {name: orjson.dumps(value) for name, value in event.items() if value is not None}


def _time(nanoseconds: object) -> str | None:
    """RFC 3339, or the value itself where it is none, to be refused with its reason. 0 means unknown."""
    try:
        since = timedelta(microseconds=int(str(nanoseconds or 0)) // 1000)
        return (_EPOCH + since).isoformat() if since else None
    except (ValueError, OverflowError):
        return str(nanoseconds)


def _severity(text: object, number: object) -> object:
    """The text where it is a known word, else the number's level: 1 to 24, in steps of four."""
    if isinstance(text, str) and text.strip().lower() in SEVERITY_WORDS:
        return text
    if isinstance(number, int) and 1 <= number <= 24:
        return _LEVELS[(number - 1) // 4]
    return text


def _message(body: object) -> str | None:
    return body if body is None or isinstance(body, str) else orjson.dumps(body).decode()


def _first(*values: object) -> object:
    return next((value for value in values if value not in (None, "")), None)


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value not in (None, "")}


def _attributes(pairs: object) -> dict[str, object]:
    """Key and value pairs as a plain object."""
    return {str(pair.get("key")): _value(pair.get("value")) for pair in _objects(pairs, "attributes")}


def _value(any_value: object) -> object:
    """An AnyValue as plain JSON."""
    for kind, value in _object(any_value, "value").items():
        if kind == "intValue":
            return int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else value
        if kind == "arrayValue":
            return [_value(item) for item in _objects(_object(value, kind).get("values"), kind)]
        if kind == "kvlistValue":
            return _attributes(_object(value, kind).get("values"))
        return value
    return None


def _object(value: object, name: str) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Reject(f"{name}: an object is expected")
    return value


def _objects(values: object, name: str) -> Iterator[Mapping[str, object]]:
    if values is None:
        return
    if not isinstance(values, list):
        raise Reject(f"{name}: a list is expected")
    for value in values:
        yield _object(value, name)
