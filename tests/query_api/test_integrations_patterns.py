"""Patterns as they hold in a workspace, and how it changes them."""

from collections.abc import Mapping
from typing import Any

import pytest

from operators.settings import NO_SETTINGS, Settings
from query_api.pipeline import Unavailable
from tests.query_api.fakes import MINE, OTHERS, Api, FakePipeline


@pytest.fixture
def configured(pipeline: FakePipeline) -> FakePipeline:
    """A pipeline in which `configure` records take effect, by the same merge as in the dataflow."""
    held: dict[str, Settings] = {}

    def carry(body: Mapping[str, Any], workspace: str) -> None:
        import json

        change = Settings.parse(json.dumps(body["attributes"]))
        held[workspace] = held.get(workspace, NO_SETTINGS).merge(change)
        pipeline.set_settings(workspace, held[workspace].model_dump(mode="json", exclude_unset=True))

    pipeline.carry = carry
    return pipeline


def by_id(api: Api) -> dict[str, dict[str, Any]]:
    return {pattern["patternId"]: pattern for pattern in api.get("/patterns")}


def test_the_twelve_patterns_are_listed_in_the_order_they_are_tried(pipeline: FakePipeline, api: Api) -> None:
    """With their triggers, as the documentation's table has them."""
    found = api.get("/patterns")
    assert [pattern["priority"] for pattern in found] == list(range(1, 13))
    assert found[1] == {
        "patternId": "webhook_failure_spike",
        "name": "Webhook Failure Spike",
        "priority": 2,
        "triggers": {"eventTypes": ["webhook_failed", "webhook_timeout", "webhook_undeliverable"], "errorCodes": []},
        "isEnabled": True,
        "thresholdCount": None,
        "thresholdWindowSeconds": None,
        "openThreshold": {"count": 10, "windowSeconds": 300},
        "severity": "high",
    }
    assert found[0]["openThreshold"] == {"count": 1, "windowSeconds": None}


def test_a_change_is_a_record_and_then_holds(configured: FakePipeline, api: Api, others: Api) -> None:
    """For this workspace and no other."""
    change = {"isEnabled": True, "thresholdCount": 20, "thresholdWindowSeconds": 300}
    status, body = api.call("PATCH", "/patterns/webhook_failure_spike", json=change)
    assert status == 200
    assert {name: body["data"][name] for name in change} == change
    ((workspace, record),) = configured.submitted
    assert (workspace, record["record"]) == (MINE, "configure")
    override = {"enabled": True, "alert": {"count": 20, "window": "5m"}}
    assert record["attributes"] == {"rules": {"webhook_failure_spike": override}}
    assert by_id(api)["webhook_failure_spike"] == body["data"]
    assert by_id(others)["webhook_failure_spike"]["thresholdCount"] is None


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ([{"isEnabled": False}], (False, None, None)),
        ([{"isEnabled": False}, {"isEnabled": None}], (True, None, None)),
        ([{"thresholdCount": 2, "thresholdWindowSeconds": 90}, {"isEnabled": False}], (False, 2, 90)),
        ([{"thresholdCount": 2, "thresholdWindowSeconds": 90}, {"thresholdCount": 3}], (True, 3, 90)),
        ([{"thresholdCount": 2, "thresholdWindowSeconds": 90}, {"thresholdWindowSeconds": 31_536_000}],
         (True, 2, 31_536_000)),
        ([{"thresholdCount": 2, "thresholdWindowSeconds": 90},
          {"thresholdCount": None, "thresholdWindowSeconds": None}], (True, None, None)),
        ([{}], (True, None, None)),
    ],
)  # fmt: skip
def test_changes_add_up_and_null_takes_back(
    configured: FakePipeline, api: Api, changes: list[dict[str, Any]], holds: tuple[Any, ...]
) -> None:
    """What a change does not name stays."""
    for change in changes:
        status, body = api.call("PATCH", "/patterns/auth_failure", json=change)
        assert status == 200
    data = body["data"]
    assert (data["isEnabled"], data["thresholdCount"], data["thresholdWindowSeconds"]) == holds
    assert by_id(api)["auth_failure"] == data
    assert len(configured.submitted) == len([change for change in changes if change])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"thresholdCount": 20}, "thresholdWindowSeconds is required with thresholdCount"),
        ({"thresholdWindowSeconds": 20}, "thresholdCount is required with thresholdWindowSeconds"),
        ({"thresholdCount": 20, "thresholdWindowSeconds": None}, "thresholdWindowSeconds is required"),
        ({"thresholdCount": 0, "thresholdWindowSeconds": 60}, "thresholdCount"),
        ({"thresholdCount": 1, "thresholdWindowSeconds": 31_536_001}, "thresholdWindowSeconds"),
        ({"thresholdCount": True, "thresholdWindowSeconds": 60}, "thresholdCount"),
        ({"thresholdCount": 1.5, "thresholdWindowSeconds": 60}, "thresholdCount"),
        ({"isEnabled": "yes"}, "isEnabled"),
        ({"enabled": True}, "enabled"),
        ([], ""),
        (None, ""),
    ],
)
def test_half_a_threshold_and_other_nonsense_is_refused(
    configured: FakePipeline, api: Api, wrong: Any, says: str
) -> None:
    """A count without a window means nothing; a misspelt field would be a change that does not happen."""
    status, message = api.refused("PATCH", "/patterns/auth_failure", json=wrong)
    assert status == 400
    assert says in message
    assert configured.submitted == []


@pytest.mark.parametrize("ident", ["nope", "auth_failur", "%00", "AUTH_FAILURE"])
def test_an_unknown_pattern_is_not_found(configured: FakePipeline, api: Api, ident: str) -> None:
    """Rather than a setting for a rule that never matches."""
    assert api.refused("PATCH", f"/patterns/{ident}", json={"isEnabled": False}) == (404, "Pattern not found.")


def test_a_slow_pipeline_is_no_lie(configured: FakePipeline, api: Api) -> None:
    """Recorded but not in effect: 202, and the pattern as it still holds."""
    configured.done = False
    status, body = api.call("PATCH", "/patterns/auth_failure", json={"isEnabled": False})
    assert (status, body["data"]["isEnabled"]) == (202, True)


def test_a_full_log_is_said(configured: FakePipeline, api: Api) -> None:
    """Nothing has changed then."""
    configured.refusal = Unavailable("the disk is full")
    assert api.refused("PATCH", "/patterns/auth_failure", json={"isEnabled": False})[0] == 503


def test_settings_of_another_workspace_are_not_mine(configured: FakePipeline, api: Api) -> None:
    """Even where only they have any."""
    configured.set_settings(OTHERS, {"rules": {"auth_failure": {"enabled": False}}})
    assert by_id(api)["auth_failure"]["isEnabled"]
