"""POST /v1/logs: JSON and protobuf mean the same; what cannot be used is a partial success."""

import asyncio
import gzip

import orjson
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from connectors.formats import otlp
from connectors.formats.types import DecodeOptions
from query_api.pipeline import Unavailable
from tests.query_api.ingest_fakes import NOW, NOW_TEXT, Service

LOGS = "/v1/logs"
JSON = "application/json"
PROTOBUF = "application/x-protobuf"
NANO = (NOW - 1_000_000) * 1000


@pytest.fixture
def service() -> Service:
    return Service()


def pair(key: str, value: object) -> dict[str, object]:
    return {"key": key, "value": {"intValue" if isinstance(value, int) else "stringValue": value}}


def log(**more: object) -> dict[str, object]:
    attributes = [pair("tenant.id", "acme"), pair("http.response.status_code", 503)]
    return (
        {"timeUnixNano": str(NANO), "body": {"stringValue": "no luck"}, "severityNumber": 17}
        | {"attributes": attributes}
        | more
    )


def request(*logs: dict[str, object], service: str | None = "checkout") -> dict[str, object]:
    resource = {"attributes": [pair("service.name", service)] if service else []}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": {"name": "s"}, "logRecords": list(logs)}]}]}


def test_json_is_stored_as_from_a_file(service: Service) -> None:
    answer = service.post(LOGS, request(log(), log()), Content_Type=JSON)
    assert (answer.status_code, answer.json()) == (200, {})
    rows = service.pipeline.frame().drop("ingested_at", "workspace")
    file = otlp.decode(orjson.dumps(request(log(), log())), DecodeOptions()).frame.drop("ingested_at", "workspace")
    assert rows.drop("attributes").equals(file.drop("attributes"))
    assert [orjson.loads(text) for text in rows["attributes"]] == [orjson.loads(text) for text in file["attributes"]]
    assert rows["stream"].to_list() == ["log", "log"]
    assert rows["severity"].to_list() == ["high", "high"]


def test_protobuf_means_the_same_as_json(service: Service) -> None:
    nested = AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue(double_value=0.5), AnyValue()]))
    more = AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="b", value=AnyValue(bool_value=True))]))
    record = LogRecord(
        time_unix_nano=NANO,
        severity_number=17,
        body=AnyValue(string_value="no luck"),
        trace_id=bytes(range(16)),
        span_id=bytes(8),
        event_name="payment.failed",
        attributes=[
            KeyValue(key="tenant.id", value=AnyValue(string_value="acme")),
            KeyValue(key="list", value=nested),
            KeyValue(key="map", value=more),
            KeyValue(key="bytes", value=AnyValue(bytes_value=b"\x01\xff")),
        ],
    )
    logs = ResourceLogs(scope_logs=[ScopeLogs(log_records=[record])])
    logs.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="checkout")))
    body = ExportLogsServiceRequest(resource_logs=[logs]).SerializeToString()
    answer = service.post(LOGS, gzip.compress(body), Content_Type=PROTOBUF, Content_Encoding="gzip")
    assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF)
    assert ExportLogsServiceResponse.FromString(answer.content) == ExportLogsServiceResponse()
    (row,) = service.pipeline.frame().to_dicts()
    assert (row["source"], row["type"], row["tenant"]) == ("checkout", "payment.failed", "acme")
    assert (row["severity"], row["message"]) == ("high", "no luck")
    attributes = orjson.loads(row["attributes"])
    assert attributes["traceId"] == "000102030405060708090a0b0c0d0e0f"
    assert (attributes["list"], attributes["map"]) == ([1, 0.5, None], {"b": True})


def test_what_cannot_be_used_is_counted_and_the_rest_stored(service: Service) -> None:
    future = log(timeUnixNano=str((NOW + 61_000_000) * 1000))
    inactive = log(attributes=[pair("tenant.id", "inactive")])
    answer = service.post(LOGS, request(log(), future, inactive), Content_Type=JSON)
    assert answer.status_code == 200
    partial = answer.json()["partialSuccess"]
    assert partial == {"rejectedLogRecords": "2", "errorMessage": "time is more than 60 s in the future."}
    assert len(service.pipeline.frame()) == 1


def test_a_partial_success_in_protobuf(service: Service) -> None:
    body = ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=[LogRecord(time_unix_nano=NANO)])])]
    ).SerializeToString()
    answer = service.post(LOGS, body, Content_Type=PROTOBUF)
    partial = ExportLogsServiceResponse.FromString(answer.content).partial_success
    assert (partial.rejected_log_records, partial.error_message) == (
        1,
        "The resource attribute service.name is required.",
    )
    assert service.pipeline.records == []


def test_records_without_any_time_happened_when_they_came(service: Service) -> None:
    service.post(LOGS, request(log(timeUnixNano="0")), Content_Type=JSON)
    assert service.pipeline.frame()["time"].dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_list() == [NOW_TEXT]


@pytest.mark.parametrize("body", [b"{}", b'{"resourceLogs":[]}', orjson.dumps(request())])
def test_an_empty_request_is_a_success(service: Service, body: bytes) -> None:
    assert service.post(LOGS, body, Content_Type=JSON).status_code == 200
    assert service.post(LOGS, b"", Content_Type=PROTOBUF).status_code == 200
    assert service.pipeline.calls == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"{", JSON), (b"[]", JSON), (b'{"resourceLogs":7}', JSON), (b"\xff\xff", PROTOBUF), (b"{}", "text/plain")],
)
def test_what_is_no_request_is_a_status_in_its_encoding(service: Service, body: bytes, kind: str) -> None:
    answer = service.post(LOGS, body, Content_Type=kind)
    assert answer.status_code == 400
    if kind == PROTOBUF:
        assert answer.content[:2] == b"\x08\x03"
        assert b"The body is no ExportLogsServiceRequest" in answer.content
    else:
        assert answer.json()["code"] == 3


def test_an_exporter_is_told_to_come_back(service: Service) -> None:
    service.pipeline.unavailable = Unavailable("the flow lags", 7)
    for kind, body in ((JSON, orjson.dumps(request(log()))),):
        answer = service.post(LOGS, body, Content_Type=kind)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer sg_123"}, 200),
        ({"Authorization": "bearer sg_123"}, 200),
        ({"X-Api-Key": "sg_123"}, 200),
        ({}, 401),
    ],
)
def test_the_key_may_come_as_a_bearer_token(service: Service, headers: dict[str, str], status: int) -> None:
    async def run() -> int:
        async with service.client() as client:
            answer = await client.post(LOGS, json=request(log()), headers=headers)
            return answer.status_code

    assert asyncio.run(run()) == status
    if status == 200:
        assert service.pipeline.calls[0][1] == "sg_123"
