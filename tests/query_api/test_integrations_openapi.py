"""The OpenAPI document and the service agree, whatever is sent."""

import json
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.query_api.fakes import FakePipeline, fill, make_app

PATHS = {
    "/api/v1/events",
    "/api/v1/incidents",
    "/api/v1/incidents/{id}",
    "/api/v1/incidents/{id}/resolve",
    "/api/v1/incidents/{id}/timeline",
    "/api/v1/patterns",
    "/api/v1/patterns/{id}",
    "/api/v1/stream",
    "/api/v1/workspaces/stats",
    "/api/v1/workspaces/trends",
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pipeline = FakePipeline(tmp_path_factory.mktemp("openapi"))
    found: dict[str, Any] = make_app(pipeline).openapi()
    pipeline.close()
    return found


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A filled service as schemathesis sees it. The stream never ends, so it is not asked."""
    pipeline = FakePipeline(tmp_path_factory.mktemp("service"))
    fill(pipeline)
    app = make_app(pipeline)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    return schema.exclude(path_regex="/stream$")


anything = schemathesis.pytest.from_fixture("loaded")


@anything.parametrize()
@settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    deadline=None,
)
def test_no_request_gets_an_answer_the_document_does_not_know(case: Any) -> None:
    """No 5xx, no undeclared status, and bodies as described: generated clients rely on it."""
    case.headers = {**(case.headers or {}), "X-Api-Key": "mine"}
    checks = [not_a_server_error, status_code_conformance, response_schema_conformance, content_type_conformance]
    case.call_and_validate(checks=checks)


def test_all_of_it_is_described(document: dict[str, Any]) -> None:
    """Every path, every status with an example, every parameter."""
    assert set(document["paths"]) == PATHS
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            for status, answer in operation["responses"].items():
                if status != "422":  # FastAPI's own; the service answers 400
                    assert all("example" in content for content in answer["content"].values()), (method, path, status)


def test_examples_are_what_they_are_examples_of(document: dict[str, Any]) -> None:
    """People copy them."""
    from jsonschema import Draft202012Validator

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/json", {})
                if "example" in content:
                    schema = {**content["schema"], "components": document["components"]}
                    text = json.loads(json.dumps(schema).replace("#/components", "#/components"))
                    errors = [e.message for e in Draft202012Validator(text).iter_errors(content["example"])]
                    assert errors == [], (method, path, status)
