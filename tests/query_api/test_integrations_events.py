"""The events behind an incident."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.query_api.fakes import MINE, Api, FakePipeline
from tests.stores import event, incident, t


def test_an_event_is_shown_with_what_it_said(filled: FakePipeline, api: Api) -> None:
    """The payload comes back as the object it was, not as text."""
    answer = api.get("/events", incidentId="inc_auth")
    assert answer["items"][0] == {
        "id": "e0",
        "incidentId": "inc_auth",
        "integrationKey": "payments",
        "eventType": "auth_failed",
        "errorCode": "401",
        "tenantId": "acme",
        "severity": None,
        "message": None,
        "value": None,
        "confidence": "High",
        "happenedAt": "2025-03-26T08:00:00Z",
        "occurredAt": "2025-03-26T08:00:00Z",
        "receivedAt": "2025-03-26T08:00:00Z",
        "isLate": False,
        "rawPayload": {"endpoint": "/v2", "durationMs": 12043},
    }
    # The other workspace's event of the same service, minute and pattern is none of mine.
    assert [item["id"] for item in answer["items"]] == ["e0", "e1", "p:12"]
    assert (answer["items"][2]["rawPayload"], answer["total"]) == (None, 3)


def test_events_of_a_rule_beside_others_are_found_by_its_claims(filled: FakePipeline, api: Api) -> None:
    """Their rule_id names the exclusive rule that took them; the second claim stands in a table of its own."""
    items = api.get("/events", incidentId="inc_vip")["items"]
    assert [(item["id"], item["confidence"]) for item in items] == [("e5", "Medium"), ("e6", "Medium")]


@pytest.mark.parametrize("ident", ["inc_others", "inc_nobody", "nul\x00"])
def test_events_of_what_is_not_mine_are_not_there(filled: FakePipeline, api: Api, ident: str) -> None:
    """Another workspace's incident answers as one that does not exist."""
    assert api.refused("GET", "/events", params={"incidentId": ident}) == (404, "Incident not found.")


@pytest.mark.parametrize(
    "wrong",
    [{}, {"incidentId": ""}, {"incidentId": "inc_auth", "pageSize": 101}, {"incidentId": "inc_auth", "cursor": "!"},
     {"incidentId": "inc_auth", "cursor": "WzEsIngiLDFd"}],
)  # fmt: skip
def test_a_question_without_an_incident_is_refused(filled: FakePipeline, api: Api, wrong: dict[str, Any]) -> None:
    """All events of a workspace are nothing to page through."""
    assert api.refused("GET", "/events", params=wrong)[0] == 400


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seconds=st.lists(st.integers(0, 4), min_size=1, max_size=30),
    size=st.integers(1, 7),
    by=st.sampled_from(["page", "cursor"]),
    claims=st.booleans(),
)
def test_walking_gives_every_event_once(
    pipeline: FakePipeline, api: Api, seconds: list[int], size: int, by: str, claims: bool
) -> None:
    """However many happened at the same instant; a second rule's claims on other events come in between."""
    for table in ("events", "incidents", "claims"):
        pipeline.execute(f"DELETE FROM {table}")
    own = [not claims or i % 3 > 0 for i in range(len(seconds))]
    rows = [
        event(i, at / 60, "s", "x", "r" if own[i] else "other", workspace=MINE, partition=f"p{i % 2}")
        for i, at in enumerate(seconds)
    ]
    pipeline.add("events", *rows, event(99, 0, "elsewhere", "x", "r", workspace=MINE))
    for i, is_own in enumerate(own):
        if not is_own:
            pipeline.add("claims", {"partition": f"p{i % 2}", "offset": i, "workspace": MINE, "rule_id": "r",
                                    "group_key": "s", "confidence": "High"})  # fmt: skip
    pipeline.add("incidents", incident("inc_r", "r", "s", 0, 1, len(seconds), workspace=MINE, first_event_at=t(0)))
    wanted = sorted(range(len(seconds)), key=lambda i: (seconds[i], i % 2, i))
    found: list[str] = []
    step: dict[str, Any] = {}
    for number in range(1, 100):
        answer = api.get("/events", incidentId="inc_r", pageSize=size, **step)
        found += [item["id"] for item in answer["items"]]
        assert (answer["page"], answer["total"]) == (number, len(seconds))
        if not answer["hasMore"]:
            break
        step = {"page": number + 1} if by == "page" else {"cursor": answer["nextCursor"]}
    assert found == [f"e{i}" for i in wanted]
