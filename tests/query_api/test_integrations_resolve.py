"""Closing an incident by hand."""

from collections.abc import Mapping
from typing import Any

import pytest

from query_api.pipeline import Outcome, Unavailable
from tests.query_api.fakes import MINE, Api, FakePipeline


def closing(pipeline: FakePipeline) -> Any:
    """What the dataflow makes of a `resolve`."""

    def carry(body: Mapping[str, Any], workspace: str) -> None:
        key = body["attributes"]
        pipeline.execute(
            "UPDATE incidents SET status = 'Closed', closed_at = ? "
            "WHERE workspace = ? AND rule_id = ? AND group_key = ?",
            [body["time"], workspace, key["rule_id"], key["group_key"]],
        )

    return carry


@pytest.mark.parametrize("more", [{}, {"json": {}}, {"json": {"reason": "fixed"}}, {"json": None}])
def test_resolving_closes_and_shows_the_incident(filled: FakePipeline, api: Api, more: dict[str, Any]) -> None:
    """With or without a body; the command goes into the log, so that a replay closes it, too."""
    filled.carry = closing(filled)
    status, body = api.call("POST", "/incidents/inc_time/resolve", **more)
    assert status == 200
    assert body["data"]["status"] == "Closed"
    assert body["data"]["closedAt"].endswith("Z")
    assert [tenant["tenantName"] for tenant in body["data"]["affectedTenants"]] == ["beta"]
    ((workspace, record),) = filled.submitted
    assert workspace == MINE
    assert record["record"] == "resolve"
    assert record["attributes"] == {"rule_id": "timeout_spike", "group_key": "orders"}
    assert record["time"].endswith("Z")


def test_closed_is_closed(filled: FakePipeline, api: Api) -> None:
    """A second click is told so, and writes nothing."""
    assert api.refused("POST", "/incidents/inc_auth/resolve") == (409, "The incident is closed already.")
    assert filled.submitted == []


def test_a_slow_pipeline_is_no_lie(filled: FakePipeline, api: Api) -> None:
    """Recorded but not carried out yet: 202, and the incident as it still is."""
    filled.done = False
    status, body = api.call("POST", "/incidents/inc_time/resolve")
    assert (status, body["data"]["status"]) == (202, "Open")
    assert "recorded" in body["message"]


def test_a_full_log_is_said(filled: FakePipeline, api: Api, client: Any) -> None:
    """Nothing was taken, and when to try again."""
    filled.refusal = Unavailable("the disk is full", retry_after=7)
    assert api.refused("POST", "/incidents/inc_time/resolve") == (503, "the disk is full")
    answer = client.post("/api/v1/incidents/inc_time/resolve", headers=api.headers)
    assert answer.headers["Retry-After"] == "7"


def test_a_command_that_cannot_be_carried_out_is_a_conflict(filled: FakePipeline, api: Api) -> None:
    """The rule is gone from the configuration, say: not a success."""
    filled.carry = lambda body, workspace: Outcome(0, "log:0", error="resolve: there is no rule")
    status, message = api.refused("POST", "/incidents/inc_vip/resolve")
    assert status == 409
    assert "there is no rule" in message


def test_a_body_that_is_no_json_is_refused(filled: FakePipeline, api: Api) -> None:
    """And nothing is resolved by it."""
    status, _ = api.refused("POST", "/incidents/inc_time/resolve", content=b"{", params={})
    assert status == 400
    assert filled.submitted == []
