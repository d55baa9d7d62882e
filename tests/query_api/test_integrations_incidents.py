"""Lists, single incidents and timelines of the Integrations API."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.query_api.fakes import MINE, OTHERS, Api, FakePipeline, many
from tests.stores import incident

SUMMARY = {
    "id": "inc_auth",
    "workspaceId": MINE,
    "integrationKey": "payments",
    "patternId": "auth_failure",
    "patternName": "Auth Failure",
    "status": "Closed",
    "confidence": "High",
    "openedAt": "2025-03-26T08:00:00Z",
    "recoveringAt": None,
    "closedAt": "2025-03-26T08:23:00Z",
    "reopenedAt": None,
    "reopenCount": 0,
    "eventCount": 3,
    "tenantCount": 2,
    "isChronic": False,
}


def walk(api: Api, by: str, size: int, **filters: Any) -> list[str]:
    """The ids of all pages, by `page` or by `cursor`."""
    ids: list[str] = []
    step: dict[str, Any] = {}
    for number in range(1, 10_000):
        answer = api.get("/incidents", pageSize=size, **filters, **step)
        ids += [item["id"] for item in answer["items"]]
        assert answer["hasMore"] == (answer["nextCursor"] is not None)
        assert answer["page"] == number
        assert len(answer["items"]) <= size
        if not answer["hasMore"]:
            return ids
        step = {"page": number + 1} if by == "page" else {"cursor": answer["nextCursor"]}
    raise AssertionError("the walk has no end")


def test_the_list_shows_what_is_active_newest_first(filled: FakePipeline, api: Api) -> None:
    """What somebody on call wants to see without asking for it."""
    answer = api.get("/incidents")
    assert [item["id"] for item in answer["items"]] == ["inc_time", "inc_vip"]
    assert {k: v for k, v in answer.items() if k != "items"} == {
        "page": 1, "pageSize": 25, "total": 2, "hasMore": False, "nextCursor": None,
    }  # fmt: skip


def test_an_incident_has_the_shape_clients_were_written_for(filled: FakePipeline, api: Api) -> None:
    """Names, order and null: a client of the documented object must not notice anything."""
    assert api.get("/incidents", status="closed")["items"] == [SUMMARY]
    detail = api.get("/incidents/inc_auth")
    tenants = detail.pop("affectedTenants")
    assert list(detail) == list(SUMMARY)
    assert detail == SUMMARY
    assert tenants == [
        {"tenantId": "t-1", "tenantName": "Acme Corp", "eventCount": 2, "firstSeenAt": "2025-03-26T08:00:00Z",
         "lastSeenAt": "2025-03-26T08:01:00Z"},
        {"tenantId": "beta", "tenantName": "beta", "eventCount": 1, "firstSeenAt": "2025-03-26T08:08:00Z",
         "lastSeenAt": "2025-03-26T08:08:00Z"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"status": "all"}, ["inc_time", "inc_vip", "inc_auth"]),
        ({"status": "active"}, ["inc_time", "inc_vip"]),
        ({"status": "open"}, ["inc_time"]),
        ({"status": "recovering"}, ["inc_vip"]),
        ({"status": "closed"}, ["inc_auth"]),
        ({"status": "all", "integrationKey": "orders"}, ["inc_time", "inc_vip"]),
        ({"status": "all", "patternId": "auth_failure"}, ["inc_auth"]),
        ({"status": "all", "tenantId": "beta"}, ["inc_time", "inc_auth"]),
        ({"status": "all", "chronic": "true"}, ["inc_time"]),
        ({"status": "all", "chronic": "false"}, ["inc_time", "inc_vip", "inc_auth"]),
        ({"status": "all", "from": "2025-03-26T08:06:12Z", "to": "2025-03-26T08:06:24Z"}, ["inc_vip"]),
        ({"status": "all", "to": "2025-03-26T10:06:12+02:00"}, ["inc_auth"]),
        ({"status": "all", "from": "0001-01-01T00:00:00+14:00", "to": "9999-12-31T23:59:59-14:00"}, None),
        ({"status": "all", "integrationKey": "", "patternId": "", "tenantId": "", "from": "", "to": ""}, None),
        ({"status": "all", "integrationKey": "x' OR '1'='1"}, []),
        ({"status": "all", "tenantId": "nul\x00"}, []),
        ({"status": "all", "patternId": "\U0001f514"}, []),
        ({"status": "all", "page": 1_000_000_000, "pageSize": 100}, []),
        ({"status": "all", "page": 2}, []),
    ],
)
def test_filters(filled: FakePipeline, api: Api, filters: dict[str, Any], ids: list[str] | None) -> None:
    """Each filter; from inclusive, to exclusive; odd values find nothing and break nothing."""
    found = [item["id"] for item in api.get("/incidents", **filters)["items"]]
    assert found == (["inc_time", "inc_vip", "inc_auth"] if ids is None else ids)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"pageSize": 0}, "pageSize"),
        ({"pageSize": -1}, "pageSize"),
        ({"pageSize": 101}, "pageSize"),
        ({"page": 0}, "page"),
        ({"page": 10**30}, "page"),
        ({"page": "x"}, "page"),
        ({"status": "Opened"}, "status"),
        ({"chronic": "perhaps"}, "chronic"),
        ({"from": "yesterday"}, "from: expected an RFC 3339 time"),
        ({"to": "2025-13-01T00:00:00Z"}, "to: expected an RFC 3339 time"),
        ({"cursor": "abc"}, "cursor"),
        ({"cursor": "é\x00"}, "cursor"),
        ({"cursor": "WzEsMiwzXQ"}, "cursor"),  # [1,2,3]
        ({"cursor": "WzksIngiLDBd"}, "cursor"),  # [9,"x",0]
        ({"cursor": "WzQ2MTE2ODYwMTg0MjczODc5MDQsIngiLDFd"}, "cursor"),  # a time beyond all
    ],
)
def test_what_cannot_be_meant_is_refused(filled: FakePipeline, api: Api, wrong: dict[str, Any], says: str) -> None:
    """With a sentence that names the parameter, not with an empty list that looks like good news."""
    status, message = api.refused("GET", "/incidents", params=wrong)
    assert status == 400
    assert says in message


@pytest.mark.parametrize(
    ("path", "method"),
    [("/incidents/{}", "GET"), ("/incidents/{}/timeline", "GET"), ("/incidents/{}/resolve", "POST")],
)
@pytest.mark.parametrize("ident", ["inc_others", "inc_nobody", "inc_aut", "%00", "a%ff", "%ED%A0%80", "x'--"])
def test_what_is_not_mine_is_not_there(filled: FakePipeline, api: Api, path: str, method: str, ident: str) -> None:
    """Another workspace's incident answers exactly as one that does not exist."""
    assert api.refused(method, path.format(ident)) == (404, "Incident not found.")
    assert filled.submitted == []


def test_two_workspaces_share_nothing(filled: FakePipeline, others: Api) -> None:
    """The same service and pattern on both sides, and still two worlds."""
    answer = others.get("/incidents", status="all", integrationKey="payments")
    assert [item["id"] for item in answer["items"]] == ["inc_others"]
    assert answer["total"] == 1
    assert others.get("/incidents", status="all", tenantId="beta")["total"] == 0
    # The tenant is named Acme Corp in my workspace, and in mine only.
    assert others.get("/incidents/inc_others")["affectedTenants"][0]["tenantName"] == "acme"
    assert others.refused("GET", "/incidents/inc_auth")[0] == 404


def test_a_cursor_of_another_workspace_opens_nothing(filled: FakePipeline, api: Api, others: Api) -> None:
    """A cursor says where to go on, never whose incidents."""
    cursor = api.get("/incidents", status="all", pageSize=1)["nextCursor"]
    answer = others.get("/incidents", status="all", cursor=cursor)
    assert [item["id"] for item in answer["items"]] == ["inc_others"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    minutes=st.lists(st.integers(0, 6), min_size=1, max_size=40),
    size=st.integers(1, 9),
    by=st.sampled_from(["page", "cursor"]),
)
def test_walking_gives_every_incident_once(
    pipeline: FakePipeline, api: Api, minutes: list[int], size: int, by: str
) -> None:
    """However many opened at the same instant, and wherever the pages break."""
    pipeline.execute("DELETE FROM incidents")
    pipeline.store.flush({"incidents": many(len(minutes), MINE, minutes.__getitem__)}, {})
    pipeline.store.flush({"incidents": many(7, OTHERS, lambda i: i)}, {})
    wanted = sorted(range(len(minutes)), key=lambda i: (-minutes[i], i))
    assert walk(api, by, size, status="all") == [f"inc_{MINE}_{i:05}" for i in wanted]
    assert api.get("/incidents", status="all", pageSize=size)["total"] == len(minutes)


def test_a_cursor_is_not_moved_by_what_opens_meanwhile(pipeline: FakePipeline, api: Api) -> None:
    """Pages by number repeat a row when something new comes on top; pages by cursor must not."""
    pipeline.store.flush({"incidents": many(10, MINE, lambda i: i)}, {})
    first = api.get("/incidents", status="all", pageSize=4)
    pipeline.add("incidents", incident("inc_new", "auth_failure", "payments", 50, 50, 1, workspace=MINE))
    second = api.get("/incidents", status="all", pageSize=4, cursor=first["nextCursor"])
    seen = [item["id"] for item in first["items"] + second["items"]]
    assert seen == [f"inc_{MINE}_{i:05}" for i in range(9, 1, -1)]
    assert (second["page"], second["total"]) == (2, 11)


def test_the_timeline_is_told_in_order(filled: FakePipeline, api: Api) -> None:
    """An array, each step with its cause; what the window held, where an event caused it."""
    steps = api.get("/incidents/inc_auth/timeline")
    assert [(s["fromStatus"], s["toStatus"], s["reason"], s["occurredAt"], s["windowCount"]) for s in steps] == [
        (None, "Open", "Pattern matched: auth_failure", "2025-03-26T08:00:00Z", 1),
        ("Open", "Recovering", "No events for 5 min", "2025-03-26T08:06:00Z", None),
        ("Recovering", "Open", "New event during recovery", "2025-03-26T08:08:00Z", 1),
        ("Open", "Recovering", "No events for 5 min", "2025-03-26T08:13:00Z", None),
        ("Recovering", "Closed", "Stable for 10 min", "2025-03-26T08:23:00Z", None),
    ]
    assert {s["ruleVersion"] for s in steps} == {"v"}


def test_an_incident_that_hit_everyone_is_cut(pipeline: FakePipeline, api: Api) -> None:
    """A thousand tenants fill any page; the rest is counted, and the answer says that it is cut."""
    pipeline.add("incidents", incident("inc_all", "auth_failure", "payments", 0, 1, 1, workspace=MINE,
                                       tenant_count=1_001))  # fmt: skip
    pipeline.execute(
        "INSERT INTO incident_tenants SELECT 'inc_all', 'tenant-' || i, i, now(), now() FROM range(1, 1002) r(i)"
    )
    detail = api.get("/incidents/inc_all")
    assert (len(detail["affectedTenants"]), detail["truncated"], detail["tenantCount"]) == (1_000, True, 1_001)
    assert detail["affectedTenants"][0]["tenantId"] == "tenant-1001"


def test_a_wrong_key_is_told_so(api: Api) -> None:
    """On every route, in the envelope."""
    api.headers = {"X-Api-Key": "stolen"}
    for path in ("/incidents", "/incidents/x", "/incidents/x/timeline", "/events?incidentId=x", "/patterns",
                 "/workspaces/stats", "/workspaces/trends", "/stream"):  # fmt: skip
        assert api.refused("GET", path)[0] == 401
    assert api.refused("POST", "/incidents/x/resolve")[0] == 401
    assert api.refused("PATCH", "/patterns/auth_failure", json={})[0] == 401
