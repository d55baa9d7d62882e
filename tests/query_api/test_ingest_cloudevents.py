"""CloudEvents over HTTP mean what they mean in a file, in every mode."""

import orjson
import pytest

from connectors.formats import cloudevents
from connectors.formats.types import DecodeOptions
from tests.query_api.ingest_fakes import NOW_TEXT, Service

EVENTS = "/api/v1/events"
KIND = "application/cloudevents+json"
EVENT = {
    "specversion": "1.0",
    "id": "42",
    "source": "payments",
    "type": "auth_failed",
    "time": "2026-01-31T08:29:00Z",
    "subject": "s",
    "data": {"tenantId": "acme", "errorCode": 401, "value": 2, "workspace": "theirs", "record": "their own", "n": 1},
}


@pytest.fixture
def service() -> Service:
    return Service()


def test_structured_binary_and_batch_are_stored_alike_and_as_from_a_file(service: Service) -> None:
    answer = service.post(EVENTS, EVENT, Content_Type=f"{KIND}; charset=utf-8")
    assert answer.json()["data"]["eventId"] == "42"
    headers = {f"ce_{name}": str(value) for name, value in EVENT.items() if name != "data"}
    service.post(EVENTS, EVENT["data"], Content_Type="application/json", **headers)
    counts = service.post(EVENTS, [EVENT], Content_Type="application/cloudevents-batch+json")
    assert counts.json()["data"] == {"accepted": 1, "rejected": 0, "errors": []}
    rows = service.pipeline.frame().drop("offset", "ingested_at").to_dicts()
    plain = EVENT | {"data": {k: v for k, v in EVENT["data"].items() if k not in ("workspace", "record")}}  # type: ignore[attr-defined]
    (file,) = cloudevents.decode(orjson.dumps(plain), DecodeOptions()).frame.drop("offset", "ingested_at").to_dicts()
    for row in rows:
        attributes, expected = orjson.loads(row.pop("attributes")), orjson.loads(file["attributes"])
        assert attributes == expected | {"workspace": "theirs", "record": "their own"}
        assert row == {k: v for k, v in file.items() if k != "attributes"} | {"workspace": "ws"}


def test_without_time_it_happened_when_it_came(service: Service) -> None:
    service.post(EVENTS, {k: v for k, v in EVENT.items() if k != "time"}, Content_Type=KIND)
    assert service.pipeline.frame()["time"].dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_list() == [NOW_TEXT]


@pytest.mark.parametrize("data", [b"plain text\nof two lines", b"[1,\n2]", b""])
@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
def test_binary_data_of_any_kind_is_kept(service: Service, data: bytes, kind: str) -> None:
    headers = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "a%20b", "ce_type": "t", "Content_Type": kind}
    answer = service.post(EVENTS, data, **headers)
    if kind == "application/json" and data.startswith(b"plain"):
        assert answer.json()["message"].startswith("The data is not valid JSON")
        return
    (row,) = service.pipeline.frame().to_dicts()
    assert row["source"] == "a b"
    kept = orjson.loads(row["attributes"]).get("data")
    assert kept == (data.decode() if kind == "text/plain" and data else orjson.loads(data or b"null"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "id is required."),
        ({"source": ""}, "source is required."),
        ({"specversion": None}, "specversion is required."),
        ({"workspace": "w"}, "workspace may not be set: it is that of your API key."),
        ({"record": "resolve"}, "record may not be set: only events are accepted here."),
        ({"time": "2027-01-01T00:00:00Z"}, "time is more than 60 s in the future."),
    ],
)
def test_what_is_wrong_is_said(service: Service, change: dict[str, object], message: str) -> None:
    answer = service.post(EVENTS, EVENT | change, Content_Type=KIND)
    assert (answer.status_code, answer.json()["message"]) == (400, message)
    batch = service.post(EVENTS, [EVENT, EVENT | change], Content_Type="application/cloudevents-batch+json").json()
    assert batch["data"] == {"accepted": 1, "rejected": 1, "errors": [{"index": 1, "message": message}]}


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"7", b"{"])
def test_what_is_no_event_is_refused(service: Service, body: bytes) -> None:
    assert service.post(EVENTS, body, Content_Type=KIND).status_code == 400
    assert service.post(EVENTS, body, Content_Type="application/cloudevents-batch+json").status_code == 400


def test_an_inactive_tenant_in_the_data_is_refused(service: Service) -> None:
    answer = service.post(EVENTS, EVENT | {"data": {"tenantId": "inactive"}}, Content_Type=KIND)
    assert answer.status_code == 422
