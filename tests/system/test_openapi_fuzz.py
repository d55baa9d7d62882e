"""Every operation of the OpenAPI document, asked with what the document allows and with what it does not.

Whatever is sent: no answer is a mistake of ours, each is one that the document declares, in the shape it declares, and
nobody gets in without a key. The service is whole, but for the socket. A few examples of each operation by default;
TOCSIN_CHAOS_ROUNDS=20 (`make chaos`) for many.
"""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi import checks as openapi

from connectors.control import Control, Found
from flows.live import LivePipeline
from operators.rollup import warm
from query_api import channels, reading
from query_api.app import create_app
from query_api.logs import make_log
from query_api.settings import ServiceSettings
from tests.system.runs import PATIENCE

ROUNDS = int(os.environ.get("TOCSIN_CHAOS_ROUNDS", "0"))
EXAMPLES = 25 * ROUNDS or 12
GENEROUS = ServiceSettings(
    requests_per_minute=10**7, events_per_minute=10**9, sign_ins_per_minute=10**6, password_attempts=10**6
)
ROTATE = "/api/v1/workspaces/rotate-key"
PERSONAL = ("/api/v1/workspaces", "/api/v1/auth/token")
EMAIL, PASSWORD = "ada@example.com", "correct horse battery"
CHECKS = (
    schemathesis.checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.ignored_auth,
)


class World:
    """The service and what there is to be found in it."""

    def __init__(self, data: Path) -> None:
        warm()
        self.pipeline = LivePipeline.start(data)
        self.control = Control.open(f"sqlite:///{data}/control.sqlite", data / "secret.key")
        with (data / "log.txt").open("w") as out:
            self.app = create_app(self.control, self.pipeline, GENEROUS, log=make_log(out, "json", "error"))
        user = self.control.users.register(EMAIL, PASSWORD, "Ada")
        made = self.control.workspaces.create(user.id, "Fuzz")
        self.workspace, self.key = made.workspace.id, made.api_key
        self.token = self.control.tokens.issue(user.id, self.workspace).text
        self.tenant = self.control.tenants.create(self.workspace, "acme-corp", None).id
        self.limited = self.control.access_keys.create(self.workspace, "Known", ["events:write"]).info.id
        event = {"integrationKey": "mailer", "eventType": "auth_failed", "tenantId": "acme-corp"}
        body = json.dumps(event | {"time": datetime.now(UTC).isoformat()}).encode()
        receipt = asyncio.run(self.pipeline.submit([body], self.workspace, detail=True, timeout=PATIENCE))
        self.incident = receipt.outcomes[0].incident_id
        assert self.incident is not None
        call = {"stream": "tool_call", "source": "search", "type": "passed", "tenant": "session-1", "value": 12.5}
        body = json.dumps(call | {"time": datetime.now(UTC).isoformat()}).encode()
        asyncio.run(self.pipeline.submit([body], self.workspace, detail=False, timeout=PATIENCE))
        rollup = self.control.jobs.create(self.workspace, "rollup", {"start": 0, "end": 60_000_000}).id
        self._identity()
        self.known = {
            "/v1/analytics/nhi-risk-assessment": "nhi_ci",
            "/v1/analytics/nhi-anomalies": "anom_known",
            "/v1/analytics/nhi-risk/detect-anomalies": self.control.jobs.create(
                self.workspace, "nhi_anomalies", {"from": 0, "to": 1}
            ).id,
            "/api/v1/incidents": self.incident,
            "/api/v1/patterns": "auth_failure",
            "/api/v1/tenants": self.tenant,
            "/api/v1/workspaces/me/channels": "pagerduty",
            "/v1/keys": self.limited,
            "/v1/mcp/analytics/sessions": "session-1",
            "/v1/mcp/analytics/rollup": rollup,
        }
        # What no schema can tell.
        self.bodies: dict[str, Any] = {
            "/api/v1/auth/login": {"email": EMAIL, "password": PASSWORD},
            "/api/v1/auth/token": {"workspaceId": self.workspace},
            "/api/v1/workspaces/me/channels/{provider}": {"config": {"routingKey": "0123456789abcdef" * 2}},
            "/v1/analytics/nhi-risk/detect-anomalies": {"from": "2026-05-01T00:00:00Z", "to": "2026-05-02T00:00:00Z"},
            "/v1/mcp/analytics/rollup": {"from": "2026-05-01T00:00:00Z", "to": "2026-05-01T23:59:59Z"},
            "/v1/sql": {"sql": "SELECT id, opened_at FROM incidents", "limit": 10},
        }

    def _identity(self) -> None:
        """An identity, and what was unusual about it."""
        event = {"stream": "identity", "source": "nhi_ci", "type": "tool_attempt", "code": "denied", "id": "denied"}
        body = json.dumps(event | {"time": datetime.now(UTC).isoformat()}).encode()
        asyncio.run(self.pipeline.submit([body], self.workspace, detail=True, timeout=PATIENCE))
        found = Found("anom_known", "nhi_ci", None, "spend_burst", "high", datetime.now(UTC), 0.999, {})
        self.control.anomalies.record(self.workspace, [found])

    def close(self) -> None:
        self.app.state.services.places.close()
        reading.close(self.pipeline)
        self.control.close()
        self.pipeline.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    async def resolve(host: str) -> list[str]:
        return []  # no test asks a resolver

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channels, "_resolve", resolve)
        world = World(tmp_path_factory.mktemp("fuzz") / "data")
        yield world
        world.close()


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=str)
def test_every_answer_is_one_that_is_declared(world: World, mode: schemathesis.GenerationMode) -> None:
    """A client that was generated from the document meets nothing that it cannot handle."""
    document = schemathesis.openapi.from_asgi("/openapi.json", world.app)
    wrong: dict[str, str] = {}
    answers: dict[str, Counter[int]] = {}
    # The stream does not end; tests of the running service follow it.
    for found in document.exclude(path="/api/v1/stream").get_all_operations():
        operation = found.ok()
        try:
            answers[operation.label] = asked(operation, world, mode)
        except Unsatisfiable:  # a request without parameters cannot be wrong
            assert mode == schemathesis.GenerationMode.NEGATIVE
        except BaseExceptionGroup as failure:
            wrong[operation.label] = f"{failure}\n{getattr(failure, 'exceptions', '')}"
    assert not wrong, "\n\n".join(f"{label}: {text[:2_000]}" for label, text in wrong.items())
    if mode == schemathesis.GenerationMode.POSITIVE:  # else it would say little that nothing went wrong
        assert not [label for label, said in answers.items() if not any(200 <= status < 300 for status in said)]
    assert len(answers) >= 20
    assert world.pipeline.health().flow is None


def asked(operation: Any, world: World, mode: schemathesis.GenerationMode) -> Counter[int]:
    """How often which status was the answer."""
    said: Counter[int] = Counter()

    @settings(max_examples=EXAMPLES, derandomize=not ROUNDS, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def is_declared(case: Any) -> None:
        said[ask(case, world, mode)] += 1

    is_declared()
    return said


def ask(case: Any, world: World, mode: schemathesis.GenerationMode) -> int:
    """Send it as somebody who may, every other time about something that is there; the status of the answer."""
    # What is no single segment of a path makes another path.
    segments = [unquote(str(value)) for value in (case.path_parameters or {}).values()]
    assume(all(segment.strip(".") and "/" not in segment for segment in segments))
    chance = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
    if case.path_parameters and chance % 2:
        for path, ident in world.known.items():
            if case.path.startswith(path):
                case.path_parameters = dict.fromkeys(case.path_parameters, ident)
    if mode == schemathesis.GenerationMode.POSITIVE and chance % 4:
        case.body = world.bodies.get(case.path, case.body)
    if case.query and "incidentId" in case.query and chance % 4:
        case.query["incidentId"] = world.incident
    person = chance % 3 == 0 or case.path in PERSONAL
    headers = {"Authorization": f"Bearer {world.token}"} if person else {"X-Api-Key": world.key}
    answer = case.call_and_validate(headers=headers, checks=CHECKS)
    if case.path == ROTATE and answer.status_code == 200:
        world.key = answer.json()["data"]["apiKey"]
    return int(answer.status_code)
