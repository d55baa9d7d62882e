"""A dashboard that follows the live feed while the service is restarted and killed under it."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx

from tests.system.follower import following
from tests.system.runs import query, until
from tests.system.service import Service, Team, serving

_WINDOWS = {"recoveryWindowSeconds": 1, "closeWindowSeconds": 1, "cooldownWindowSeconds": 3600}


def test_a_follower_sees_every_step_once_and_in_order_through_restarts(tmp_path: Path) -> None:
    """A pager that reconnects with the last id it saw pages neither twice nor never, however the service went down:
    told to stop, or killed with news on their way."""
    with serving(tmp_path / "data") as service:
        team, other = service.team("Acme"), service.team("Globex")
        service.data_of(service.client.patch("/api/v1/workspaces/me", headers=team.by_key, json=_WINDOWS))
        port = httpx.URL(service.url).port or 0
        with following(service, team) as follower:
            _happen(service, team, other, "one")
            follower.wait_for(1)
            assert service.stop(signal.SIGTERM) == 0
            service.start(port=port)
            _happen(service, team, other, "two")
            service.kill()
            service.start(port=port)
            _happen(service, team, other, "three")
            assert until(lambda: not service.get(team, "/api/v1/incidents")["total"]), "timers do not fire"
            # Three incidents, each opened, widened by a tenant, recovering, closed: three steps and three alerts.
            follower.wait_for(18)
            assert follower.connections >= 3
        assert service.stop() == 0
    told = [(news.id, news.kind) for news in follower.news]
    feed = f"FROM feed WHERE workspace = '{team.id}'"
    assert told == query(tmp_path / "data", f"SELECT seq, kind {feed} ORDER BY seq")
    names = [
        (news.data["incidentId"], news.data.get("toStatus") or news.data["kind"], news.data.get("tenantId"))
        for news in follower.news
    ]
    assert sorted(names, key=str) == sorted(_happened(tmp_path / "data", team), key=str)
    assert len(set(names)) == 18
    for incident in {name[0] for name in names}:
        assert [state for one, state, _ in names if one == incident] == [
            "Open", "opened", "blast_radius_expanded", "Recovering", "Closed", "resolved",
        ]  # fmt: skip


def _happen(service: Service, team: Team, other: Team, source: str) -> None:
    """An incident that hits two tenants at once; next door something happens, too."""
    events = [{"integrationKey": source, "eventType": "auth_failed", "tenantId": tenant} for tenant in ("a", "b")]
    for one in (team, other):
        service.data_of(service.client.post("/api/v1/events/batch", headers=one.by_key, json=events))


def _happened(data: Path, team: Team) -> list[tuple[str | None, ...]]:
    """All transitions and alerts of a workspace, as the store has them."""
    return query(
        data,
        "SELECT t.incident_id, t.to_status, NULL FROM transitions t JOIN incidents i ON i.id = t.incident_id "
        f"WHERE i.workspace = '{team.id}' UNION ALL "
        f"SELECT incident_id, kind, tenant FROM alerts WHERE workspace = '{team.id}'",
    )
