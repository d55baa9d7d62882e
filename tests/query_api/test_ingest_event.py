"""POST /api/v1/events: what is taken, what is refused with which sentence, and what the sender is told."""

import asyncio
import gzip
import uuid

import orjson
import pytest

from query_api.ingest_event import accept
from query_api.pipeline import Unavailable
from tests.query_api.ingest_fakes import EVENT, KEY, NOW, NOW_TEXT, Service, send

EVENTS = "/api/v1/events"
SECOND = 1_000_000


@pytest.fixture
def service() -> Service:
    return Service()


def test_the_event_of_the_seed_gets_its_incident(service: Service) -> None:
    service.pipeline.outcome = {
        "rule_id": "auth_failure",
        "confidence": "High",
        "incident_id": "inc_1",
        "status": "Open",
        "is_new": True,
        "tenants": ("acme",),
    }
    answer = service.post(EVENTS, EVENT | {"errorCode": "401", "rawPayload": {"endpoint": "/v2"}})
    assert answer.status_code == 200
    assert answer.json() == {
        "isSuccess": True,
        "errorCode": 0,
        "message": "",
        "data": {
            "eventId": "log:0",
            "incidentId": "inc_1",
            "incidentStatus": "Open",
            "patternId": "auth_failure",
            "confidence": "High",
            "isNewIncident": True,
            "affectedTenants": ["acme"],
        },
    }
    (row,) = service.pipeline.frame().to_dicts()
    assert (row["source"], row["type"], row["code"], row["tenant"]) == ("payments", "auth_failed", "401", "acme")
    assert row["attributes"] == '{"endpoint":"/v2"}'
    assert row["workspace"] == "ws"


def test_an_event_of_no_incident_has_nulls(service: Service) -> None:
    data = service.post(EVENTS, EVENT).json()["data"]
    assert data == {
        "eventId": "log:0",
        "incidentId": None,
        "incidentStatus": None,
        "patternId": None,
        "confidence": None,
        "isNewIncident": False,
        "affectedTenants": [],
    }


def test_an_event_without_time_happened_when_it_came(service: Service) -> None:
    for absent in ({}, {"time": None}, {"time": ""}):
        service.post(EVENTS, EVENT | absent)
    assert service.pipeline.frame()["time"].dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_list() == [NOW_TEXT] * 3


def test_all_native_names_are_taken_and_nothing_is_lost(service: Service) -> None:
    native = {
        "source": "s", "type": "t", "tenant": "x", "code": 503, "time": "2026-01-31T08:29:59Z", "id": "i",
        "stream": "detection", "severity": "high", "message": "m", "value": 1.5, "place": "p", "other": [1, 2],
    }  # fmt: skip
    answer = service.post(EVENTS, native)
    assert answer.json()["data"]["eventId"] == "i"
    (row,) = service.pipeline.frame().to_dicts()
    expected = {**native, "code": "503", "attributes": '{"other":[1,2]}'}
    assert {name: row[name] for name in (*native, "attributes") if name not in ("time", "other")} == {
        name: value for name, value in expected.items() if name not in ("time", "other")
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"integrationKey": None}, "integrationKey is required."),
        ({"integrationKey": ""}, "integrationKey is required."),
        ({"eventType": None}, "eventType is required."),
        ({"tenantId": None}, "tenantId is required."),
        ({"tenantId": "  "}, "tenantId is required."),
        ({"tenantId": "x" * 256}, "tenantId must have at most 255 characters."),
        ({"tenantId": "a\u0007"}, "tenantId must not have control characters."),
        ({"time": "yesterday"}, 'time: "yesterday" is not a time; RFC 3339 is expected, such as 2026-01-31T08:30:00Z.'),
        ({"value": "much"}, 'value: "much" is a text, a number is expected.'),
        ({"eventType": ["a"]}, 'type: ["a"] is a list, a text or a number is expected.'),
        ({"workspace": "other"}, "workspace may not be set: it is that of your API key."),
        ({"ingested_at": NOW_TEXT}, "ingested_at may not be set: the service says when it accepted an event."),
        ({"record": "resolve"}, "record may not be set: only events are accepted here."),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(service: Service, change: dict[str, object], message: str) -> None:
    answer = service.post(EVENTS, EVENT | change)
    assert answer.status_code == 400
    assert answer.json() == {"isSuccess": False, "errorCode": 4, "message": message}
    assert service.pipeline.records == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'{"a":1}}', b"\xff", b'{"a":"\\ud800"}', b"[" * 5000])
def test_what_is_no_json_object_is_refused(service: Service, body: bytes) -> None:
    answer = service.post(EVENTS, body)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("work\\u0073pace", "other"), ("\\u0072ecord", "configure"), ("ingested\\u005fat", NOW_TEXT)],
)
def test_an_escaped_name_is_no_way_around(service: Service, name: str, value: str) -> None:
    body = orjson.dumps(EVENT)[:-1] + f',"{name}":"{value}"}}'.encode()
    assert "may not be set" in service.post(EVENTS, body).json()["message"]


@pytest.mark.parametrize(("ahead", "status"), [(60 * SECOND, 200), (60 * SECOND + 1, 400), (-86_400 * SECOND, 200)])
def test_a_time_may_be_60_seconds_ahead_and_any_time_behind(service: Service, ahead: int, status: int) -> None:
    from connectors.log_lines import stamp

    answer = service.post(EVENTS, EVENT | {"time": stamp(NOW + ahead)})
    assert answer.status_code == status


def test_a_pretty_printed_body_is_one_line_of_the_log(service: Service) -> None:
    body = orjson.dumps(EVENT | {"rawPayload": {"a": [1, {"b": "x\ny"}]}, "value": 1}, option=orjson.OPT_INDENT_2)
    service.post(EVENTS, b"\n " + body.replace(b'"value": 1', b'"value": 1.50') + b"\r\n")
    (row,) = service.pipeline.frame().to_dicts()
    assert orjson.loads(row["attributes"]) == {"a": [1, {"b": "x\ny"}]}
    assert service.pipeline.records[0].count(b"\n") == 1
    assert b"1.50" in service.pipeline.records[0]  # as it was written


def test_an_inactive_tenant_is_refused_with_a_clear_sentence(service: Service) -> None:
    answer = service.post(EVENTS, EVENT | {"tenantId": "inactive"})
    assert answer.status_code == 422
    assert answer.json()["errorCode"] == 10
    assert answer.json()["message"] == 'The tenant "inactive" is inactive: activate it to send its events.'


def test_only_the_first_event_of_a_tenant_waits_for_the_database(service: Service) -> None:
    for _ in range(3):
        assert service.post(EVENTS, EVENT).status_code == 200
    assert service.control.waits == 1


def test_other_streams_have_no_tenants_to_name(service: Service) -> None:
    assert service.post(EVENTS, {"source": "ci", "type": "deployed", "stream": "deploy"}).status_code == 200


def test_what_is_not_processed_in_time_is_stored_nevertheless(service: Service) -> None:
    service.pipeline.done = False
    for event, id_ in ((EVENT, "log:0"), (EVENT | {"id": "mine"}, "mine")):
        answer = service.post(EVENTS, event)
        assert answer.status_code == 202
        assert answer.json()["data"]["eventId"] == id_
        assert answer.json()["data"]["incidentId"] is None
    assert len(service.pipeline.records) == 2


def test_a_full_log_is_503_with_a_time_to_come_back(service: Service) -> None:
    service.pipeline.unavailable = Unavailable("the disk is full", 5)
    answer = service.post(EVENTS, EVENT)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {"isSuccess": False, "errorCode": 8, "message": "the disk is full"}


def test_a_repeated_id_is_told_as_a_duplicate(service: Service) -> None:
    first, second = (service.post(EVENTS, EVENT | {"id": "a"}).json()["data"] for _ in range(2))
    assert "duplicate" not in first
    assert second == first | {"duplicate": True}


def test_without_a_key_nothing_is_read(service: Service) -> None:
    async def run() -> int:
        async with service.client() as client:
            return (await client.post(EVENTS, content=b"{}")).status_code

    assert asyncio.run(run()) == 401


# --- size ------------------------------------------------------------------------------------------------------------


def test_gzip_is_undone(service: Service) -> None:
    body = orjson.dumps(EVENT)
    packed = gzip.compress(body[:9]) + gzip.compress(body[9:])  # members one after the other are one content
    assert service.post(EVENTS, packed, Content_Encoding="gzip").status_code == 200


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(b" " * (1 << 20) + orjson.dumps(EVENT)), "gzip", 413),
        (gzip.compress(b" " * (1 << 28)), "gzip", 413),
        (b" " * ((1 << 20) + 1), "identity", 413),
        (gzip.compress(orjson.dumps(EVENT))[:-9], "gzip", 400),
        (b"not gzip", "gzip", 400),
        (b"{}", "br", 400),
    ],
    ids=["just too large", "a bomb", "plain", "cut short", "no gzip", "another encoding"],
)
def test_no_body_grows_beyond_the_limit(service: Service, body: bytes, encoding: str, status: int) -> None:
    assert service.post(EVENTS, body, Content_Encoding=encoding).status_code == status


# --- Idempotency-Key -------------------------------------------------------------------------------------------------


def test_the_same_request_with_a_key_happens_once_and_is_answered_alike(service: Service) -> None:
    answers = [service.post(EVENTS, EVENT, Idempotency_Key="k") for _ in range(3)]
    assert len({answer.content for answer in answers}) == 1
    assert len(service.pipeline.records) == 1
    assert service.post(EVENTS, EVENT, Idempotency_Key="k2").json() != answers[0].json()


def test_a_key_used_for_something_else_is_422(service: Service) -> None:
    service.post(EVENTS, EVENT, Idempotency_Key="k")
    answer = service.post(EVENTS, EVENT | {"errorCode": "1"}, Idempotency_Key="k")
    assert (answer.status_code, answer.json()["errorCode"]) == (422, 10)
    other_workspace = service.post(EVENTS, EVENT | {"errorCode": "1"}, Idempotency_Key="k", X_Api_Key="other")
    assert other_workspace.status_code == 200


def test_requests_with_one_key_at_the_same_time_happen_once(service: Service) -> None:
    service.pipeline.delay = 0.05

    async def run() -> list[bytes]:
        async with service.client() as client:
            asked = (send(client, EVENTS, EVENT, Idempotency_Key="k") for _ in range(5))
            return [answer.content for answer in await asyncio.gather(*asked)]

    assert len(set(asyncio.run(run()))) == 1
    assert len(service.pipeline.records) == 1


def test_a_refused_request_may_be_repeated_with_its_key(service: Service) -> None:
    service.pipeline.unavailable = Unavailable("busy")
    assert service.post(EVENTS, EVENT, Idempotency_Key="k").status_code == 503
    service.pipeline.unavailable = None
    assert service.post(EVENTS, EVENT, Idempotency_Key="k").status_code == 200


def test_after_a_restart_the_derived_id_makes_it_a_duplicate(service: Service) -> None:
    """Memory is gone then; the log is not."""
    first = service.post(EVENTS, EVENT, Idempotency_Key="k").json()["data"]
    uuid.UUID(first["eventId"])
    del service.app.state.answers
    again = service.post(EVENTS, EVENT, Idempotency_Key="k").json()["data"]
    assert again == first | {"duplicate": True}
    assert service.pipeline.frame()["id"].to_list() == [first["eventId"]] * 2


def test_a_202_is_not_the_last_word_of_a_key(service: Service) -> None:
    service.pipeline.done = False
    assert service.post(EVENTS, EVENT, Idempotency_Key="k").status_code == 202
    service.pipeline.done = True
    assert service.post(EVENTS, EVENT, Idempotency_Key="k").status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_none_is_refused(service: Service, key: str) -> None:
    assert service.post(EVENTS, EVENT, Idempotency_Key=key).status_code == 400


def test_an_id_of_the_sender_is_kept_with_a_key(service: Service) -> None:
    assert service.post(EVENTS, EVENT | {"id": "mine"}, Idempotency_Key="k").json()["data"]["eventId"] == "mine"


def test_acceptance_changes_no_byte_where_nothing_is_missing() -> None:
    body = b'{ "time":"2026-01-31T08:30:00Z","source" :"s","type":"t","tenant":"x","value":1.0e1}'
    assert accept(body, NOW).body == body


def test_openapi_shows_what_is_read_by_hand(service: Service) -> None:
    paths = service.app.openapi()["paths"]
    body = paths[EVENTS]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["integrationKey", "eventType", "tenantId"]
    assert {"200", "202", "400", "401", "413", "422", "429", "503"} <= set(paths[EVENTS]["post"]["responses"])
    assert KEY
