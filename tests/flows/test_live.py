"""The live pipeline in this process: what callers are told, what happens when something fails, what a restart finds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest

from connectors.live_store import LiveStore
from connectors.log import LogDamaged
from connectors.memtable import Changes
from connectors.pipeline import Outcome, Receipt, Unavailable
from connectors.store import Store, StoreError
from flows import live
from flows.live import LiveOptions, LivePipeline
from flows.replay import ReplayError
from operators.events import SECOND
from tests.system.runs import PATIENCE, until

NOW = 1_800_000_000 * SECOND


class Clock:
    """Time stands still until it is moved, µs."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


class Running:
    """A pipeline with its own event loop and clock."""

    def __init__(self, data: Path, clock: Clock, **options: Any) -> None:
        self.clock = clock
        self.pipeline = LivePipeline.start(data, LiveOptions(clock=clock, epoch=timedelta(seconds=0.2), **options))
        self.loop = asyncio.Runner()

    def close(self) -> None:
        self.pipeline.stop()
        self.loop.close()

    def send(self, *events: dict[str, Any], detail: bool = True, timeout: float = PATIENCE) -> Receipt:
        """Submit events together, of now unless they say when."""
        bodies = [json.dumps({"time": rfc(self.clock.now)} | event).encode() for event in events]
        return self.loop.run(self.pipeline.submit(bodies, "acme", detail=detail, timeout=timeout))

    def told(self, **event: Any) -> Outcome:
        """Submit one event; what became of it."""
        receipt = self.send(failed(**event))
        assert receipt.done
        return receipt.outcomes[0]

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows, as a reader sees them now."""
        with self.pipeline.reading() as con:
            return con.execute(sql).fetchall()


def failed(**event: Any) -> dict[str, Any]:
    """An authentication failure, which opens an incident by itself."""
    return {"integrationKey": "mailer", "eventType": "auth_failed", "tenantId": "a"} | event


def rfc(micros: int) -> str:
    return datetime.fromtimestamp(micros / SECOND, UTC).isoformat()


@contextmanager
def running(data: Path, clock: Clock | None = None, **options: Any) -> Iterator[Running]:
    service = Running(data, clock or Clock(), **options)
    try:
        yield service
    finally:
        service.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "data") as found:
        yield found


def eventually(what: Callable[[], bool]) -> None:
    assert until(what), "it does not happen"


# ---------------------------------------------------------------- answers


def test_the_answer_says_what_became_of_the_event(service: Running) -> None:
    """It opens; the next one joins and widens it; what matches nothing has no incident."""
    first = service.told()
    assert (first.event_id, first.rule_id, first.confidence, first.status) == (
        "log:0",
        "auth_failure",
        "Medium",
        "Open",
    )
    assert (first.is_new, first.tenants, first.duplicate, first.error) == (True, ("a",), False, None)
    second = service.told(tenantId="b", errorCode="401", id="mine")
    assert (second.event_id, second.confidence, second.is_new) == ("mine", "High", False)
    assert (second.incident_id, second.tenants) == (first.incident_id, ("a", "b"))
    other = service.told(eventType="heartbeat")
    assert (other.rule_id, other.incident_id, other.is_new, other.tenants) == (None, None, False, ())


def test_what_was_answered_can_be_read(service: Running) -> None:
    """A dashboard that asks right after the answer shows the incident, with its event."""
    for number in range(20):
        told = service.told(integrationKey=f"source-{number}")
        assert service.ask(f"SELECT status, event_count FROM incidents WHERE id = '{told.incident_id}'") == [
            ("Open", 1)
        ]
        assert service.ask(f"SELECT count(*) FROM events WHERE source = 'source-{number}'") == [(1,)]


def test_below_the_threshold_there_is_a_pattern_and_no_incident(service: Running) -> None:
    """The fifth time-out opens it; those before learn of none, in one request or in several."""
    timeout = failed(eventType="request_timeout")
    told = [*service.send(timeout).outcomes, *service.send(*[timeout] * 5).outcomes]
    assert {outcome.rule_id for outcome in told} == {"timeout_spike"}
    assert [outcome.is_new for outcome in told] == [False, False, False, False, True, False]
    assert told[0].incident_id is None
    assert told[5].incident_id == told[4].incident_id is not None


def test_a_repeated_event_gets_the_first_ones_answer(service: Running) -> None:
    """A producer that was not sure sends again: nothing counts twice, and it learns the incident."""
    first = service.told(id="once")
    again = service.told(id="once", tenantId="b")
    assert (again.duplicate, again.event_id, again.incident_id) == (True, "once", first.incident_id)
    assert again.tenants == ("a",)
    assert service.ask("SELECT event_count FROM incidents") == [(1,)]


def test_an_unusable_record_says_why(service: Running) -> None:
    """It is kept among the dead letters; the others of the request count."""
    receipt = service.send(failed(), {"integrationKey": ["x"], "eventType": "auth_failed"})
    good, bad = receipt.outcomes
    assert good.error is None
    assert bad.error is not None
    assert service.ask('SELECT "offset", error FROM dead_letters') == [(1, bad.error)]


@pytest.mark.parametrize("late", [0, 29, 30, 31, 3_600])
@pytest.mark.parametrize("pause", [0, 2, 600])
def test_a_late_event_learns_its_incident(service: Running, late: int, pause: int) -> None:
    """Also where it is so late that it is final as soon as it comes: it opened an incident all the same."""
    service.told(integrationKey="other")
    service.clock.sleep(pause)
    told = service.told(time=rfc(service.clock.now - late * SECOND))
    assert (told.is_new, told.tenants) == (True, ("a",))
    assert service.ask("SELECT id FROM incidents WHERE source = 'mailer'") == [(told.incident_id,)]


def test_an_event_ahead_of_the_clock_learns_its_incident(service: Running) -> None:
    """Ten seconds fast; the clock catches up, and nothing happens twice."""
    told = service.told(time=rfc(NOW + 10 * SECOND))
    assert told.is_new
    service.clock.sleep(20)
    assert service.told().incident_id == told.incident_id
    assert service.ask("SELECT event_count FROM incidents") == [(2,)]


def test_a_batch_without_details_is_done_when_it_can_be_read(service: Running) -> None:
    """Counts are all it asks for."""
    receipt = service.send(*[failed(id=f"e-{n}") for n in range(3_000)], detail=False)
    assert (receipt.first, receipt.count, receipt.done, receipt.outcomes) == (0, 3_000, True, ())
    assert service.ask("SELECT count(*), count(DISTINCT id) FROM events") == [(3_000, 3_000)]


def test_many_callers_at_once_each_get_their_own_answer(service: Running) -> None:
    """Requests that are processed together are answered apart."""

    async def all_at_once() -> list[Receipt]:
        bodies = [json.dumps(failed(id=f"e-{n}", time=rfc(NOW))).encode() for n in range(200)]
        submit = service.pipeline.submit
        return await asyncio.gather(*(submit([body], "acme", detail=True, timeout=PATIENCE) for body in bodies))

    receipts = service.loop.run(all_at_once())
    assert [receipt.outcomes[0].event_id for receipt in receipts] == [f"e-{n}" for n in range(200)]
    assert sum(receipt.outcomes[0].is_new for receipt in receipts) == 1


# ---------------------------------------------------------------- time


def test_time_alone_recovers_and_closes(service: Running) -> None:
    """Nobody sends anything any more; each step is at its deadline, not when somebody looked."""
    service.told()
    for minutes, status in ((4, "Open"), (2, "Recovering"), (8, "Recovering"), (2, "Closed")):
        service.clock.sleep(minutes * 60)
        eventually(lambda status=status: service.ask("SELECT status FROM incidents") == [(status,)])
    steps = service.ask('SELECT epoch_us("at") FROM transitions ORDER BY n')
    assert [(at - NOW) // (60 * SECOND) for (at,) in steps] == [0, 5, 15]


def test_an_idle_service_writes_nothing(service: Running) -> None:
    """No incident waits for anything: the log does not grow, hour after hour."""
    assert service.send({"integrationKey": "a", "eventType": "heartbeat", "tenantId": "a"}).done
    before = service.pipeline._log.next_offset
    for _ in range(5):
        service.clock.sleep(3_600)
        time.sleep(0.3)  # longer than the source waits for a record
    assert service.pipeline._log.next_offset == before


def test_followers_are_woken_by_news(service: Running) -> None:
    """And not before there are any."""

    async def follow() -> tuple[int, int]:
        end = await service.pipeline.changed(0, 0.05)
        waiting = asyncio.ensure_future(service.pipeline.changed(end, PATIENCE))
        body = json.dumps(failed(time=rfc(NOW))).encode()
        await service.pipeline.submit([body], "acme", detail=False, timeout=PATIENCE)
        return end, await waiting

    assert service.loop.run(follow()) == (0, 2)
    assert service.ask("SELECT kind FROM feed ORDER BY seq") == [("transition",), ("alert",)]


# ---------------------------------------------------------------- stopping and starting


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """Ids that callers know stay; what is open goes on; the log is read once."""
    clock = Clock()
    with running(tmp_path / "data", clock) as service:
        first = service.told(id="one")
        service.told(eventType="request_timeout", id="two")
    clock.sleep(30)
    with running(tmp_path / "data", clock) as service:
        assert service.ask("SELECT id, event_count FROM incidents") == [(first.incident_id, 1)]
        again = service.told(tenantId="b")
        assert (again.incident_id, again.is_new, again.tenants) == (first.incident_id, False, ("a", "b"))
        assert service.told(id="one").duplicate
        assert service.ask("SELECT count(*) FROM events") == [(3,)]
        eventually(lambda: service.ask("SELECT count(*), max(seq) FROM feed") == [(3, 3)])


def test_what_was_accepted_while_it_could_not_be_processed_is_processed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was answered with "stored", and the process ended before more could be said."""
    with monkeypatch.context() as patch:
        patch.setattr(live, "classify", broken)
        with running(tmp_path / "data") as service:
            receipt = service.send(failed(), timeout=0.1)
            assert (receipt.first, receipt.done) == (0, False)
    with running(tmp_path / "data") as service:
        eventually(lambda: service.ask("SELECT event_count FROM incidents") == [(1,)])


def test_a_data_directory_serves_one_process(tmp_path: Path) -> None:
    """A second one would write into the first one's log."""
    with running(tmp_path / "data"), pytest.raises(ReplayError, match=r"data is in use by another process"):
        LivePipeline.start(tmp_path / "data")


def test_the_results_of_a_replay_are_not_overwritten(tmp_path: Path) -> None:
    """They may have taken hours."""
    Store.create(tmp_path / "store.duckdb", shards=1).close()
    with pytest.raises(StoreError, match=r"holds the results of a replay"):
        LivePipeline.start(tmp_path)


# ---------------------------------------------------------------- failing


def broken(*_: Any) -> Any:
    raise RuntimeError("broken")


def test_a_dataflow_that_fails_is_started_again(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are taken meanwhile, and processed once: those before the last snapshot and those behind it."""
    monkeypatch.setattr(live, "RETRY", (0.05, 0.2))
    first = service.told()
    shown = LiveStore.accept
    with monkeypatch.context() as patch:
        patch.setattr(LiveStore, "accept", broken)
        assert not service.send(failed(), timeout=0.1).done
        eventually(lambda: service.pipeline.health().flow == "RuntimeError: broken")
        assert not service.send(failed(), timeout=0.1).done
        assert service.pipeline.health().lag_records == 2
    assert LiveStore.accept is shown
    eventually(lambda: service.pipeline.health().flow is None and service.pipeline.health().lag_records == 0)
    assert service.told().incident_id == first.incident_id
    assert service.ask("SELECT event_count FROM incidents") == [(4,)]
    assert service.ask("SELECT count(*) FROM events") == [(4,)]


def test_a_dataflow_that_fails_is_started_again_while_somebody_reads(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long query must not keep the store from being opened anew, or nothing would be processed ever after. Who asked
    is told to try again."""
    monkeypatch.setattr(live, "RETRY", (0.05, 0.2))
    first = service.told()
    began, told = Flag(), []

    def ask() -> None:
        try:
            with service.pipeline.reading() as con:
                con.execute("SELECT id FROM incidents").fetchall()
                began.set()
                con.execute("SELECT count(*) FROM range(1_000_000_000) a, range(1_000_000_000) b").fetchall()
        except Unavailable as unavailable:
            told.append(unavailable.retry_after)

    asking = Thread(target=ask)
    asking.start()
    assert began.wait(PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr(LiveStore, "accept", broken)
        assert not service.send(failed(), timeout=0.1).done
        asking.join(PATIENCE)
        assert told == [1]
    eventually(lambda: service.pipeline.health().flow is None and service.pipeline.health().lag_records == 0)
    assert service.told().incident_id == first.incident_id
    assert service.ask("SELECT event_count FROM incidents") == [(3,)]


def test_a_store_that_cannot_be_opened_again_is_tried_until_it_can(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing ends the dataflow for good; readers are told to come back, and what is accepted meanwhile is not lost."""
    monkeypatch.setattr(live, "RETRY", (0.05, 0.2))
    first = service.told()
    with monkeypatch.context() as patch:
        patch.setattr(LiveStore, "accept", broken)
        patch.setattr(LiveStore, "open", broken)
        assert not service.send(failed(), timeout=0.1).done
        eventually(lambda: service.pipeline._store._closed)
        with pytest.raises(Unavailable, match="opened again; try again"):
            service.ask("SELECT count(*) FROM incidents")
        assert not service.send(failed(), timeout=0.1).done
        assert service.pipeline.health().flow == "RuntimeError: broken"
    eventually(lambda: service.pipeline.health().flow is None and service.pipeline.health().lag_records == 0)
    assert service.ask("SELECT id, event_count FROM incidents") == [(first.incident_id, 3)]


def test_it_says_when_it_is_still_catching_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a start the log may be hours ahead; a load balancer must not send readers to what is not there yet."""
    with monkeypatch.context() as patch:
        patch.setattr(live, "classify", broken)
        with running(tmp_path / "data") as service:
            assert not service.send(*[failed()] * 3, timeout=0.1).done
    held_up, shown = Flag(), LiveStore.accept

    def slow(store: LiveStore, changes: Changes) -> None:
        if "events" in changes.tables:
            assert held_up.wait(PATIENCE)
        shown(store, changes)

    monkeypatch.setattr(LiveStore, "accept", slow)
    with running(tmp_path / "data") as service:
        eventually(lambda: service.pipeline.health().flow is None)
        assert service.pipeline.health().catching_up == 3
        assert not service.send(failed(), timeout=0.1).done
        assert service.pipeline.health().catching_up == 3  # what comes now is lag
        held_up.set()
        eventually(lambda: service.pipeline.health().catching_up == 0 == service.pipeline.health().lag_records)


def test_a_log_that_lost_its_end_is_not_gone_on_with(tmp_path: Path) -> None:
    """New events would get the offsets of lost ones, and pass for processed. The sentence says what to do; doing it
    works."""
    data = tmp_path / "data"
    with running(data) as service:
        service.told(id="one")
        service.told(id="two")
    [segment] = (data / "log").iterdir()
    segment.write_bytes(segment.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(LogDamaged, match=r"ends before record 1, but .*store.duckdb has what came of 2.*--rebuild"):
        LivePipeline.start(data)
    with running(data, rebuild=True) as service:
        eventually(lambda: service.ask("SELECT id FROM events") == [("one",)])
        assert service.told(id="three").event_id == "three"


@pytest.mark.parametrize("error", [StoreError("disk full"), KeyError("a bug")])
def test_a_store_that_cannot_be_written_ends_neither_answers_nor_the_process(
    service: Running, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Callers get their answers from memory as long as that goes; when there is room again everything is written."""
    monkeypatch.setattr(live, "RETRY", (0.05, 0.2))

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(LiveStore, "_write_out", fail)
        assert service.told().is_new
        eventually(lambda: service.pipeline.health().store is not None)
        eventually(lambda: service.pipeline.health().flow is not None)  # at its next snapshot
    eventually(lambda: service.pipeline.health().store is None and service.pipeline.health().flow is None)
    told = service.told(tenantId="b")
    assert (told.is_new, told.tenants) == (False, ("a", "b"))
    assert service.ask("SELECT event_count FROM incidents") == [(2,)]
    eventually(lambda: service.pipeline.store_waiting == 0)


def test_where_too_much_waits_nothing_more_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log would fill the disk while nobody learns of any incident; callers are told when to come back."""
    monkeypatch.setattr(live, "RETRY", (0.05, 0.2))
    with running(tmp_path / "data", most_lag=10) as service:
        with monkeypatch.context() as patch:
            patch.setattr(LiveStore, "accept", broken)
            assert not service.send(*[failed()] * 11, timeout=0.1).done
            with pytest.raises(Unavailable, match="11 accepted events wait") as refused:
                service.send(failed())
            assert refused.value.retry_after >= 1
        eventually(lambda: service.pipeline.health().lag_records == 0)
        assert service.send(failed()).done
        assert service.ask("SELECT count(*) FROM events") == [(12,)]
