"""The service's data directory: of which version it is, and how all of it is made anew from the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.pipeline import Health
from connectors.store import StoreError
from flows import live_data
from flows.live import LiveOptions, LivePipeline
from flows.replay import ReplayError
from tests.flows.test_live import Clock, Running, failed, running
from tests.system.runs import replay, until

READY = Health(flow=None, log=None, store=None, lag_records=0, lag_seconds=0.0)
SHOWN = {
    "incidents": "SELECT id, status, epoch_us(opened_at), event_count, reopen_count FROM incidents ORDER BY ALL",
    "transitions": 'SELECT incident_id, n, to_status, epoch_us("at") FROM transitions ORDER BY ALL',
    "tenants": "SELECT incident_id, tenant, event_count FROM incident_tenants ORDER BY ALL",
    "events": 'SELECT id, type, tenant, rule_id, "offset" FROM events ORDER BY ALL',
}


def shown(service: Running) -> dict[str, list[tuple[object, ...]]]:
    return {name: service.ask(sql) for name, sql in SHOWN.items()}


def filled(data: Path, clock: Clock) -> dict[str, list[tuple[object, ...]]]:
    """What a service shows after half an hour in which two incidents opened and one was over."""
    with running(data, clock) as service:
        for number in range(6):
            service.send(failed(tenantId=f"t{number % 3}", id=f"e{number}"))
            clock.sleep(20)
        clock.sleep(1_800)
        service.send(failed(integrationKey="other"))
        return shown(service)


def test_snapshots_of_another_version_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update somebody reads what to do, and the old version can still go on."""
    clock = Clock()
    before = filled(tmp_path, clock)
    with monkeypatch.context() as patch:
        patch.setattr(live_data, "VERSION", live_data.VERSION + 1)
        with pytest.raises(ReplayError, match="--rebuild"):
            LivePipeline.start(tmp_path, LiveOptions(clock=clock))
    with running(tmp_path, clock) as service:
        assert until(lambda: service.pipeline.health() == READY)
        assert shown(service) == before


def test_rebuilding_brings_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The incidents of the new version are those of the old one, by the same ids, and new events go on from there."""
    clock = Clock()
    before = filled(tmp_path, clock)
    monkeypatch.setattr(live_data, "VERSION", live_data.VERSION + 1)
    with running(tmp_path, clock, rebuild=True) as service:
        assert until(lambda: service.pipeline.health() == READY)
        assert shown(service) == before
        assert len(before["incidents"]) == 2
        assert service.told(integrationKey="other").incident_id in {row[0] for row in before["incidents"]}
    with running(tmp_path, clock) as service:  # from now on it is this version's
        assert len(shown(service)["events"]) == len(before["events"]) + 1


def test_nothing_is_rebuilt_where_the_log_does_not_reach_back(tmp_path: Path) -> None:
    """Whoever archives old segments keeps what they led to."""
    before = filled(tmp_path, Clock())
    (segment,) = (tmp_path / "log").glob("*.jsonl")
    segment.rename(segment.with_name(f"{40:020}.jsonl"))
    with pytest.raises(ReplayError, match="begins with record 40"):
        LivePipeline.start(tmp_path, LiveOptions(rebuild=True))
    segment.with_name(f"{40:020}.jsonl").rename(segment)
    with running(tmp_path, Clock()) as service:
        assert shown(service)["events"] == before["events"]


def test_a_replay_is_not_rebuilt(tmp_path: Path) -> None:
    """Somebody named the wrong directory."""
    (tmp_path / "events.jsonl").write_text('{"time":"2026-01-31T08:30:00Z","source":"mailer","type":"auth_failed"}\n')
    data = replay(tmp_path / "data", tmp_path / "events.jsonl")
    with pytest.raises(StoreError, match="results of a replay"):
        LivePipeline.start(data, LiveOptions(rebuild=True))
    assert (data / "store.duckdb").exists()
    assert any((data / "lake").rglob("*.parquet"))
