"""What OpenAPI says of the ingest endpoints: their bodies are read without a model, so it is written down here."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NULLABLE: Schema = {"type": ["string", "null"]}

EVENT_BODY: Schema = {
    "type": "object",
    "required": ["integrationKey", "eventType", "tenantId"],
    "properties": {
        "integrationKey": {"type": "string", "minLength": 1, "description": "What the event is about (also: source)."},
        "eventType": {"type": "string", "minLength": 1, "description": "What happened (also: type)."},
        "tenantId": {
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "description": "Your customer (also: tenant). Not required where stream is not integration.",
        },
        "errorCode": {"type": ["string", "number", "null"], "description": "Also: code."},
        "rawPayload": {"type": ["object", "null"], "description": "Anything else (also: attributes)."},
        "id": _NULLABLE | {"description": "Yours; one that comes again within 24 hours is a duplicate."},
        "time": _NULLABLE | {"description": "When it happened, RFC 3339; at most 60 s ahead of our clock."},
        "stream": _NULLABLE,
        "severity": _NULLABLE,
        "message": _NULLABLE,
        "value": {"type": ["number", "null"]},
        "place": _NULLABLE,
    },
    "example": {
        "integrationKey": "payments-service",
        "eventType": "token_refresh_failed",
        "errorCode": "401",
        "tenantId": "acme-corp",
        "rawPayload": {"endpoint": "/v2/webhooks/deliver", "durationMs": 12043},
    },
}
_CLOUD_EVENT: Schema = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": dict.fromkeys(("specversion", "id", "source", "type", "time"), _TEXT) | {"data": {}},
    "example": {
        "specversion": "1.0",
        "id": "42",
        "source": "payments-service",
        "type": "token_refresh_failed",
        "data": {"tenantId": "acme-corp", "errorCode": "401"},
    },
}
_OUTCOME: Schema = {
    "type": "object",
    "properties": {
        "eventId": _TEXT,
        "incidentId": _NULLABLE,
        "incidentStatus": {"enum": ["Open", "Recovering", "Closed", None]},
        "patternId": _NULLABLE,
        "confidence": {"enum": ["High", "Medium", None]},
        "isNewIncident": {"type": "boolean"},
        "affectedTenants": {"type": "array", "items": _TEXT},
        "duplicate": {"type": "boolean", "description": "True where the same id came within 24 hours."},
    },
}
_COUNTS: Schema = {
    "type": "object",
    "properties": {
        "accepted": {"type": "integer"},
        "rejected": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"index": {"type": "integer"}, "message": _TEXT}},
        },
        "truncated": {"type": "boolean", "description": "True where there are more errors than are listed."},
    },
}
_PARTIAL: Schema = {
    "type": "object",
    "properties": {
        "partialSuccess": {
            "type": "object",
            "properties": {"rejectedLogRecords": _TEXT, "errorMessage": _TEXT},
        }
    },
}
_STATUS: Schema = {"type": "object", "properties": {"code": {"type": "integer"}, "message": _TEXT}}
_BYTES: Schema = {"type": "string", "format": "binary"}
_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same request with the same key happens once within 24 hours and gets the first answer again.",
}
_FAILURES = {
    400: "Not acceptable; the message says what and why.",
    401: "Missing or invalid API key.",
    403: "Not allowed.",
    413: "Too large.",
    422: "An inactive tenant, or an Idempotency-Key that was used for something else.",
    429: "Too many; Retry-After says when to try again.",
    503: "Not taken, nothing is kept; Retry-After says when to try again.",
    504: "No answer in time.",
}


def _envelope(data: Schema) -> Schema:
    flag, number = {"type": "boolean"}, {"type": "integer"}
    return {"type": "object", "properties": {"isSuccess": flag, "errorCode": number, "message": _TEXT, "data": data}}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _responses(good: dict[int, tuple[str, Schema]], failure: Schema) -> dict[int | str, Schema]:
    said: dict[int | str, Schema] = {}
    for code, (text, content) in ({code: (text, failure) for code, text in _FAILURES.items()} | good).items():
        said[code] = {"description": text, "content": content}
        if code in (429, 503):
            said[code]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return said


def _route(
    content: Schema, good: dict[int, tuple[str, Schema]], failure: Schema, parameters: list[Schema]
) -> dict[str, Any]:
    body = {"required": True, "content": content}
    return {
        "responses": _responses(good, failure),
        "openapi_extra": {"requestBody": body, "parameters": parameters},
    }


_FAILURE = _json(_envelope({}))
_ONE_OR_COUNTS = _json(_envelope({"anyOf": [_OUTCOME, _COUNTS]}))
EVENT = _route(
    {
        "application/json": {"schema": EVENT_BODY},
        "application/cloudevents+json": {"schema": _CLOUD_EVENT},
        "application/cloudevents-batch+json": {"schema": {"type": "array", "items": _CLOUD_EVENT}},
    },
    {200: ("Stored and processed.", _ONE_OR_COUNTS), 202: ("Stored; processing goes on.", _ONE_OR_COUNTS)},
    _FAILURE,
    [_KEY],
)
BATCH = _route(
    {
        "application/x-ndjson": {"schema": _TEXT},
        "application/json": {"schema": {"type": "array", "items": EVENT_BODY, "maxItems": 50_000}},
    },
    {
        200: ("Stored and processed.", _json(_envelope(_COUNTS))),
        202: ("Stored; processing goes on.", _json(_envelope(_COUNTS))),
    },
    _FAILURE,
    [_KEY],
)
LOGS = _route(
    {
        "application/json": {"schema": {"type": "object", "properties": {"resourceLogs": {"type": "array"}}}},
        "application/x-protobuf": {"schema": _BYTES},
    },
    {200: ("Stored.", _json(_PARTIAL) | {"application/x-protobuf": {"schema": _BYTES}})},
    _json(_STATUS) | {"application/x-protobuf": {"schema": _BYTES}, "application/problem+json": {"schema": {}}},
    [],
)
