"""The OpenAPI document and the service agree, whatever is sent."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
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


@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
def test_no_request_gets_an_answer_the_document_does_not_know(tmp_path: Path, mode: GenerationMode) -> None:
    """No 5xx, no undeclared status, and bodies as described, whether the request is as described or not.

    The stream is left out: it has no end.
    """
    pipeline = FakePipeline(tmp_path)
    fill(pipeline)
    loaded = schemathesis.openapi.from_asgi("/openapi.json", make_app(pipeline)).exclude(path_regex="/stream$")
    checks = [not_a_server_error, status_code_conformance, response_schema_conformance, content_type_conformance]
    tried = 0
    for found in loaded.get_all_operations():
        operation = found.ok()

        @settings(max_examples=40, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def answers_as_described(case: Any) -> None:
            case.headers = {**(case.headers or {}), "X-Api-Key": "mine"}
            case.call_and_validate(checks=checks)

        try:
            answers_as_described()
            tried += 1
        except Unsatisfiable:  # a request without parameters cannot be wrong
            assert mode == GenerationMode.NEGATIVE
    assert tried >= 7
    pipeline.close()


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
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/json", {})
                if "example" not in content:
                    continue
                validator = jsonschema_rs.validator_for({**content["schema"], "components": document["components"]})
                wrong = [error.message for error in validator.iter_errors(content["example"])]
                # FastAPI leaves null members out of examples.
                assert [said for said in wrong if "required" not in said] == [], (method, path, status)
