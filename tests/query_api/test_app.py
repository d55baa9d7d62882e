"""The application as a whole: errors in the shape of the surface, health, metrics, the OpenAPI document."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import Response

from query_api.app import create_app
from query_api.envelope import ApiError, ErrorCode
from query_api.openapi import document
from query_api.pipeline import Unavailable
from query_api.services import services
from query_api.settings import ServiceSettings
from query_api.validation import sentence
from tests.query_api.service import WELL, Service, Submitted


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1", 404, 1),
        ("GET", "/api/v1/nothing", 404, 1),
        ("GET", "/api/v1/tenants/", 404, 1),
        ("GET", "/api/v1/%00%ff", 404, 1),
        ("DELETE", "/api/v1/auth/login", 405, 12),
        ("TRACE", "/api/v1/tenants", 405, 12),
        ("BREW", "/api/v1/tenants", 405, 12),
    ],
)
def test_what_is_not_there_has_the_envelope(service: Service, method: str, path: str, status: int, code: int) -> None:
    """Clients always find `isSuccess`."""
    answer = service.ask(method, path)
    assert answer.status_code == status
    assert answer.json().keys() == {"isSuccess", "errorCode", "message"}
    assert (answer.json()["isSuccess"], answer.json()["errorCode"]) == (False, code)
    assert ("Allow" in answer.headers) is (status == 405)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/v1/tenants", "GET, POST"),
        ("/api/v1/workspaces/me/channels/slack", "DELETE, PUT"),
        ("/health", "GET, HEAD"),
    ],
)
def test_405_names_all_methods_of_the_path(service: Service, path: str, methods: str) -> None:
    """Not only those of the function that happened to be found first."""
    assert service.ask("OPTIONS", path).headers["Allow"] == methods


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/health", 405)])
def test_elsewhere_errors_are_problems(service: Service, method: str, path: str, status: int) -> None:
    """RFC 9457."""
    answer = service.ask(method, path)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["status"], answer.json()["type"]) == (status, status, "about:blank")
    assert answer.json().keys() == {"type", "title", "status", "detail"}


@pytest.mark.parametrize("code", [code for code in ErrorCode if code is not ErrorCode.SUCCESS])
def test_every_error_code_has_its_status(service: Service, code: ErrorCode) -> None:
    """In both shapes."""

    async def fail(request: Request) -> Response:
        raise ApiError(code, "A sentence.", retry_after=9 if code is ErrorCode.UNAVAILABLE else None)

    for path in ("/api/v1/fail", "/fail"):
        service.app.add_api_route(path, fail)
    answer, problem = service.get("/api/v1/fail"), service.get("/fail")
    assert answer.status_code == problem.status_code == code.status
    assert (answer.json()["errorCode"], answer.json()["message"]) == (int(code), "A sentence.")
    assert problem.json()["detail"] == "A sentence."
    expected = {503: "9", 429: "1"}.get(code.status)
    assert answer.headers.get("Retry-After") == problem.headers.get("Retry-After") == expected


def test_a_pipeline_that_takes_nothing_is_503(service: Service) -> None:
    """Wherever an endpoint meets it."""

    @service.app.get("/api/v1/fail")
    async def fail(request: Request) -> Response:
        raise Unavailable("The flow lags by 12 s.", retry_after=12)

    answer = service.get("/api/v1/fail")
    assert (answer.status_code, answer.json()["message"]) == (503, "The flow lags by 12 s.")
    assert answer.headers["Retry-After"] == "12"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"type": "missing", "loc": ("body", "integrationKey")}, "integrationKey is required."),
        ({"type": "missing", "loc": ("body", "events", 3, "tenantId")}, "events[3].tenantId is required."),
        ({"type": "x", "loc": ("query", "page"), "msg": "Input should be a valid integer"}, "page must be a valid"),
        (
            {"type": "x", "loc": ("body", "a"), "msg": "List should have at least 1 item"},
            "a must have at least 1 item.",
        ),
        ({"type": "value_error", "loc": ("body",), "msg": "Value error, Both at once."}, "Both at once."),
        ({"type": "json_invalid", "loc": ("body", 17), "msg": "x"}, "The body is not valid JSON."),
        ({"type": "x", "loc": ("body", "a"), "msg": "Strange"}, "a is not valid: strange."),
    ],
)
def test_validation_errors_are_sentences(error: Any, expected: str) -> None:
    """Those of the documentation among them."""
    assert sentence([error]).startswith(expected)
    assert sentence([]) == "The request is not valid."


def test_it_is_ready_when_everything_is(service: Service) -> None:
    """A load balancer asks; HEAD does, too."""
    answer = service.get("/-/ready")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    assert service.ask("HEAD", "/-/ready").status_code == 200
    assert service.get("/health").json() == {"status": "ok"}
    assert service.ask("HEAD", "/health").status_code == 200


@pytest.mark.parametrize(
    ("part", "reason"),
    [("flow", "The flow has stopped."), ("log", "The disk is full."), ("store", "The store is closed.")],
)
def test_it_is_not_ready_when_a_part_is_not(service: Service, part: str, reason: str) -> None:
    """And says which, while it is still alive."""
    service.pipeline.condition = replace(WELL, **{part: reason})
    answer = service.get("/-/ready")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert (answer.json()["ready"], answer.json()[part]) == (False, reason)
    assert service.get("/health").status_code == 200


def test_it_is_not_ready_when_the_flow_lags(service: Service) -> None:
    """At 30 s, by default; one below is fine."""
    service.pipeline.condition = replace(WELL, lag_records=5, lag_seconds=30.0)
    assert service.get("/-/ready").status_code == 200
    service.pipeline.condition = replace(WELL, lag_records=5, lag_seconds=30.1)
    answer = service.get("/-/ready")
    assert (answer.status_code, answer.json()["flow"]) == (503, "5 records wait, the oldest for 30.1 s.")


def test_who_takes_events_for_others_is_ready_while_these_are_behind(service: Service) -> None:
    """All API nodes of a cluster would be taken away at once, and with them what they could accept."""
    behind = replace(WELL, takes=True, flow="The workers have said nothing for 20 s.", lag_records=5, lag_seconds=31.0)
    service.pipeline.condition = behind
    answer = service.get("/-/ready")
    assert (answer.status_code, answer.json()["flow"]) == (200, "The workers have said nothing for 20 s.")
    service.pipeline.condition = replace(behind, flow=None, catching_up=3)
    assert service.get("/-/ready").status_code == 503, "what was shown before may be missing"
    service.pipeline.condition = replace(behind, log="Kafka does not answer.")
    assert service.get("/-/ready").status_code == 503


def test_it_is_not_ready_without_its_control_database(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could log in."""
    from connectors.control import ControlUnavailable

    def down() -> None:
        raise ControlUnavailable("x")

    monkeypatch.setattr(service.control, "ping", down)
    answer = service.get("/-/ready")
    assert (answer.status_code, answer.json()["control"]) == (503, "The control database does not answer.")


def test_metrics_count_requests_by_route_and_status(service: Service) -> None:
    """By the route's pattern: whatever clients send, there are few series."""
    team = service.team()
    for n in range(3):
        service.ask("DELETE", f"/api/v1/tenants/unknown-{n}", headers=team.by_key)
        service.get(f"/api/v1/nothing-{n}")
        service.ask("BREW", f"/nothing-{n}")
    families = {family.name: family for family in text_string_to_metric_families(service.get("/metrics").text)}
    counts = {
        (one.labels["method"], one.labels["route"], one.labels["status"]): one.value
        for one in families["tocsin_http_request_seconds"].samples
        if one.name.endswith("_count")
    }
    assert counts["DELETE", "/api/v1/tenants/{tenant}", "404"] == 3
    assert counts["GET", "unmatched", "404"] == 3
    assert counts["other", "unmatched", "404"] == 3
    assert "process_resident_memory_bytes" in families


def test_other_parts_register_their_metrics(tmp_path: Path, service: Service) -> None:
    """The pipeline has its own; there is no registry of the whole process."""
    registry = CollectorRegistry()
    Counter("tocsin_events", "Events.", registry=registry).inc(3)
    app = create_app(service.control, Submitted(), ServiceSettings(), registry=registry)
    assert services(Request({"type": "http", "app": app})).registry is registry
    service.client._transport.app = app  # type: ignore[attr-defined]
    assert "tocsin_events_total 3.0" in service.get("/metrics").text


def test_the_page_of_the_operations_needs_nothing_from_elsewhere(service: Service) -> None:
    """Where there is no way to the Internet it would stay empty."""
    page = service.get("/docs").text
    parts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(parts) == 3
    for part in parts:
        answer = service.get(part)
        assert (answer.status_code, len(answer.content) > 1_000) == (200, True), part
    assert "://" not in page.replace("window.location.protocol + '//'", "")


def test_every_operation_is_documented_with_what_it_may_answer(service: Service) -> None:
    """A client generator makes a type for each; nothing undeclared is ever sent."""
    made = document(service.app)
    assert made == service.get("/openapi.json").json()
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["tags"], where
            if not path.startswith("/api/v1") and not operation.get("security"):
                continue
            statuses = set(operation["responses"])
            assert statuses >= {"500", "503", "504"}, where
            assert "HTTPValidationError" not in str(operation), where
            if operation.get("security"):
                assert statuses >= {"401", "403", "429"}, where
            if "requestBody" in operation:
                assert statuses >= {"400", "413"}, where
            if "{" in path:
                assert "404" in statuses, where
            assert "Retry-After" in operation["responses"]["503"]["headers"], where


def test_the_document_shows_examples_and_how_to_authenticate(service: Service) -> None:
    """What one pastes first should work."""
    made = document(service.app)
    assert set(made["components"]["securitySchemes"]) == {"ApiKey", "Bearer"}
    create = made["paths"]["/api/v1/workspaces"]["post"]
    assert create["security"] == [{"Bearer": []}]
    assert made["components"]["schemas"]["Creation"]["properties"]["name"]["examples"] == ["My Team"]
    assert made["paths"]["/api/v1/tenants"]["get"]["security"] == [{"ApiKey": []}, {"Bearer": []}]
