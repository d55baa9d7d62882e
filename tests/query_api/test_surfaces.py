"""Every surface says errors in its own shape, whoever notices them: endpoint, router, middleware."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from starlette.responses import Response

from connectors.control import Full
from query_api.envelope import ANALYTICS, ENVELOPE, PROBLEM, ApiError, ErrorCode, Shape, shape_of
from query_api.openapi import document, responses
from query_api.pipeline import Unavailable
from tests.query_api.service import Service, serving

WORDS = {
    400: "validation_error",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "payload_too_large",
    422: "unprocessable_entity",
    429: "rate_limited",
    500: "internal_error",
    503: "unavailable",
    504: "timeout",
}


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/api/v1", ENVELOPE),
        ("/api/v1/events", ENVELOPE),
        ("/api/v10/events", PROBLEM),
        ("/v1/analytics", ANALYTICS),
        ("/v1/analytics/nhi-risk-assessment/{id}", ANALYTICS),
        ("/v1/analytics/query", PROBLEM),
        ("/v1/analytics/query/", PROBLEM),
        ("/v1/analytics/query-plans", ANALYTICS),
        ("/v1/analyticsx", PROBLEM),
        ("/v1/mcp/analytics/summary", ANALYTICS),
        ("/v1/keys", PROBLEM),
        ("/health", PROBLEM),
        ("", PROBLEM),
    ],
)
def test_a_path_belongs_to_one_surface(path: str, shape: Shape) -> None:
    """The nearest prefix counts, segment by segment."""
    assert shape_of(path) is shape


@pytest.mark.parametrize("code", [code for code in ErrorCode if code is not ErrorCode.SUCCESS])
@pytest.mark.parametrize("path", ["/v1/analytics/fail", "/v1/mcp/analytics/fail"])
def test_the_analytics_surface_names_its_errors(service: Service, path: str, code: ErrorCode) -> None:
    """Dashboards switch on `error.code`."""

    @service.app.get(path)
    async def fail(request: Request) -> Response:
        raise ApiError(code, "A sentence.")

    answer = service.get(path)
    assert answer.status_code == code.status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"error": {"code": WORDS[code.status], "message": "A sentence."}}
    assert answer.headers.get("Retry-After") == ("1" if code.status in (429, 503) else None)
    assert answer.headers.get("WWW-Authenticate") == ("Bearer" if code.status == 401 else None)


def test_whatever_goes_wrong_has_the_surfaces_shape(service: Service) -> None:
    """Also what no endpoint raised itself."""

    @service.app.get("/v1/analytics/{kind}")
    async def fail(kind: str, limit: int) -> Response:
        if kind == "full":
            raise Full("Too many.")
        raise {"crash": RuntimeError("insides"), "unavailable": Unavailable("Later.", retry_after=7)}[kind]

    def code(method: str, path: str) -> tuple[int, str]:
        answer = service.ask(method, path)
        assert answer.json().keys() == {"error"}
        assert answer.json()["error"].keys() == {"code", "message"}
        assert "insides" not in answer.text
        return answer.status_code, answer.json()["error"]["code"]

    assert code("GET", "/v1/analytics/x?limit=a") == (400, "validation_error")
    assert code("GET", "/v1/analytics/full?limit=1") == (429, "rate_limited")
    assert code("GET", "/v1/analytics/crash?limit=1") == (500, "internal_error")
    assert code("GET", "/v1/analytics/unavailable?limit=1") == (503, "unavailable")
    assert code("POST", "/v1/analytics/x") == (405, "method_not_allowed")
    assert code("GET", "/v1/analytics") == (404, "not_found")
    assert code("GET", "/v1/mcp/analytics/nothing/at/all") == (404, "not_found")


def test_bounds_answer_in_the_surfaces_shape(tmp_path: Path) -> None:
    """Before any endpoint is reached."""
    with serving(tmp_path, body_limit_bytes=1_024, deadline_seconds=0.05) as service:

        @service.app.post("/v1/mcp/slow")
        async def slow(request: Request) -> Response:
            import asyncio

            await asyncio.sleep(5)
            raise AssertionError

        large, late = service.post("/v1/mcp/slow", content=b"x" * 2_000), service.post("/v1/mcp/slow")
        assert (large.status_code, large.json()["error"]["code"]) == (413, "payload_too_large")
        assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
        native = service.post("/v1/analytics/query", content=b"x" * 2_000)
        assert native.headers["Content-Type"] == "application/problem+json"


def test_the_document_has_the_shape_of_each_surface(service: Service) -> None:
    """Generated clients read errors, too."""
    for path in ("/api/v1/thing/{id}", "/v1/analytics/thing/{id}", "/v1/analytics/query/{id}"):

        @service.app.get(path, summary="A thing", tags=["Things"], responses=responses(409, 422))
        async def thing(id: str) -> None:
            raise NotImplementedError

    made = document(service.app)

    def schemas(path: str) -> dict[str, Any]:
        said = made["paths"][path]["get"]["responses"]
        assert {"409", "422"} <= said.keys()
        return {kind: one["schema"]["$ref"] for status, answer in said.items() if status >= "400"
                for kind, one in answer["content"].items()}  # fmt: skip

    prefix = "#/components/schemas/"
    assert schemas("/api/v1/thing/{id}") == {"application/json": f"{prefix}Failure"}
    assert schemas("/v1/analytics/thing/{id}") == {"application/json": f"{prefix}AnalyticsFailure"}
    assert schemas("/v1/analytics/query/{id}") == {"application/problem+json": f"{prefix}Problem"}
    shown = made["components"]["schemas"]
    assert shown["Problem"]["properties"].keys() == {"type", "title", "status", "detail"}
    assert shown["AnalyticsFailure"]["properties"]["error"] == {"$ref": f"{prefix}AnalyticsError"}
    assert shown["AnalyticsError"]["properties"].keys() == {"code", "message"}
    assert "$defs" not in str(shown)
