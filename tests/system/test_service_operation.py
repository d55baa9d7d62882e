"""The live service as somebody operates it: stopped, killed, started again and once too often, with other commands
beside it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import httpx
import pytest

from tests.system.runs import COMMAND, PATIENCE, ROOT, environment, fingerprint, query, replay, tocsin, until
from tests.system.service import Service, Team, serving

EVENT = {"integrationKey": "mailer", "eventType": "auth_failed", "tenantId": "acme-corp"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service") / "data") as running:
        yield running


def ids(data: Path, team: Team) -> list[str]:
    """The events that a stopped service has stored, by id."""
    return [one for (one,) in query(data, f"SELECT id FROM events WHERE workspace = '{team.id}' ORDER BY id")]


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_loses_nothing_and_the_next_start_goes_on(service: Service, number: int) -> None:
    """A deployment in the busiest hour: exit code 0; what was acknowledged is there, once; incidents keep their ids."""
    team = service.team(f"Stopped {number}")
    first = service.send(team, EVENT | {"id": "first"})
    with ThreadPoolExecutor(3) as senders:
        acknowledged: list[str] = []
        sending = [senders.submit(_send_on, service.url, team, f"{n}", acknowledged) for n in range(3)]
        assert until(lambda: len(acknowledged) > 100)
        assert service.stop(number) == 0, service.output
        assert {one.result() for one in sending} == {None}
    stored = ids(service.data, team)
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)
    [(before,)] = query(service.data, f"SELECT event_count FROM incidents WHERE id = '{first['incidentId']}'")
    service.start()
    told = service.send(team, EVENT | {"id": "second"})
    assert (told["incidentId"], told["isNewIncident"]) == (first["incidentId"], False)
    assert service.get(team, f"/api/v1/incidents/{told['incidentId']}")["eventCount"] == before + 1
    assert service.send(team, EVENT | {"id": "first"})["duplicate"]


def _send_on(url: str, team: Team, name: str, acknowledged: list[str]) -> None:
    """Send one event after the other until nobody answers any more."""
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        for number in range(1_000_000):
            event = EVENT | {"id": f"{name}-{number}"}
            try:
                answer = client.post("/api/v1/events", headers=team.by_key, json=event)
            except httpx.TransportError:
                return
            assert answer.status_code in (200, 202), answer.text
            acknowledged.append(event["id"])


def test_a_request_under_way_is_answered_before_the_service_ends(service: Service) -> None:
    """A slow sender has handed over half of its event when the deployment begins: it gets its incident all the same,
    and new senders are not let in any more."""
    team = service.team("Under way")
    body = json.dumps(EVENT | {"id": "slow"}).encode()
    head = (
        f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-Api-Key: {team.key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port or 0), PATIENCE) as sender:
        sender.sendall(head.encode())
        assert sender.recv(100).startswith(b"HTTP/1.1 100")  # the request is being served
        sender.sendall(body[:10])
        service.signal(signal.SIGTERM)
        assert until(lambda: _is_refused(address)), "it lets new senders in"
        sender.sendall(body[10:])
        answer = b"".join(iter(lambda: sender.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["data"]["isNewIncident"] is True
    assert service.wait() == 0
    assert ids(service.data, team) == ["slow"]
    service.start()


def _is_refused(address: httpx.URL) -> bool:
    try:
        socket.create_connection((address.host, address.port or 0), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_stopped_service_can_be_read_with_every_tool(service: Service) -> None:
    """An analyst takes the directory of a stopped service: the commands and plain DuckDB show what the API showed."""
    team = service.team("Tools")
    incident = service.send(team, EVENT | {"id": "one"})["incidentId"]
    service.send(team, EVENT | {"id": "two", "tenantId": "beta-ltd"})
    assert service.stop() == 0
    commands = (
        ("incidents", "--workspace", team.id, "--json"),
        ("timeline", incident),
        ("events", "--incident", incident),
    )
    with ThreadPoolExecutor() as several:
        listing, course, events = several.map(lambda command: _done(*command, data=service.data), commands)
    [listed] = json.loads(listing)
    assert (listed["id"], listed["status"], listed["event_count"], listed["tenant_count"]) == (incident, "Open", 2, 2)
    assert "acme-corp" in course
    lines = events.splitlines()
    assert [line for line in lines if "auth_failed" in line] == lines[-2:]
    with duckdb.connect(str(service.data / "store.duckdb"), read_only=True) as con:
        found = con.execute("SELECT id, event_count FROM incidents WHERE workspace = $1", [team.id]).fetchall()
    assert found == [(incident, 2)]
    with duckdb.connect(str(service.data / "analyst.duckdb"), read_only=True) as con:
        assert con.execute("SELECT id FROM events WHERE workspace = $1 ORDER BY id", [team.id]).fetchall() == [
            ("one",),
            ("two",),
        ]
    service.start()


def _done(*args: str | Path, data: Path) -> str:
    """What a command says, in the data directory."""
    done = tocsin(*args, "--data", data)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_told_to_stop_while_it_starts_it_stops(tmp_path: Path) -> None:
    """A supervisor changes its mind at the worst moment: still a whole stop, exit code 0; the next start goes on."""
    service = Service(tmp_path / "data")
    try:
        service.launch()
        assert until(lambda: (tmp_path / "data" / "log").exists())
        assert service.stop(signal.SIGINT) == 0, service.output
        service.start()
        assert service.send(service.team(), EVENT)["isNewIncident"]
    finally:
        service.close()


# ---------------------------------------------------------------- after a crash


def test_what_a_crash_left_at_the_end_of_the_log_is_cut_off(service: Service) -> None:
    """The machine lost power in the middle of a write, twice: half a record, and something that never was one. All
    whole records are there, the service says what it cut off, and new events follow."""
    team = service.team("Torn")
    incident = service.send(team, EVENT | {"id": "one"})["incidentId"]
    for number, torn in enumerate((_half_a_record, b"\0" * 700 + b"garbage")):
        service.kill()
        segment = max((service.data / "log").glob("*.jsonl"))
        whole = segment.read_bytes()
        rest = torn(whole) if callable(torn) else torn
        segment.write_bytes(whole + rest)
        before = len(service.output)
        service.start()
        [line] = [line for line in service.output[before:].splitlines() if "log repaired" in line]
        assert json.loads(line)["cut_bytes"] == len(rest)
        told = service.send(team, EVENT | {"id": f"then-{number}"})
        assert (told["incidentId"], told["isNewIncident"]) == (incident, False)
        assert segment.read_bytes().startswith(whole + b'{"')
    found = service.get(team, "/api/v1/events", incidentId=incident)["items"]
    assert sorted(event["id"] for event in found) == ["one", "then-0", "then-1"]


def _half_a_record(log: bytes) -> bytes:
    last = log.splitlines()[-1]
    return last[: len(last) // 2]


# ---------------------------------------------------------------- other commands beside it


def _refused(*args: str | Path, **environ: str) -> str:
    """A command that is not carried out: one sentence, exit code 2."""
    done = subprocess.run(
        [*COMMAND, *map(str, args)], capture_output=True, text=True, cwd=ROOT, env=environment() | environ,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    [sentence] = done.stderr.splitlines()
    return sentence


def test_a_second_service_or_a_replay_leaves_a_running_one_alone(service: Service, tmp_path: Path) -> None:
    """A unit file started twice, a replay with the wrong --data: a sentence that names the directory, no harm done."""
    team = service.team("Running")
    before = service.send(team, EVENT)["incidentId"]
    (tmp_path / "events.jsonl").write_text(json.dumps(EVENT | {"time": "2025-03-26T08:00:00Z"}) + "\n")
    commands: list[tuple[str | Path, ...]] = [
        ("serve", "--port", "0"),
        ("replay", tmp_path / "events.jsonl", "--overwrite"),
        ("replay", "--resume"),
    ]
    with ThreadPoolExecutor() as several:
        said = set(several.map(lambda command: _refused(*command, "--data", service.data), commands))
    assert said == {f"tocsin: {service.data} is in use by another process: wait for it, or name another directory"}
    assert _refused("serve", "--port", str(httpx.URL(service.url).port), "--data", tmp_path / "other") == (
        f"tocsin: cannot listen on 127.0.0.1:{httpx.URL(service.url).port}: Address already in use"
    )
    assert not (tmp_path / "other").exists()
    assert service.send(team, EVENT)["incidentId"] == before


def test_commands_read_the_lake_beside_a_running_service(tmp_path: Path) -> None:
    """As of the last publication, as the page on the command line has it; before there was one they say what to do."""
    data = tmp_path / "data"
    with serving(data) as service:
        team = service.team()
        incident = service.send(team, EVENT)["incidentId"]
        sentence = _refused("incidents", "--data", data)
        assert "is in use by another process" in sentence
        assert "nothing has been published" in sentence
        assert service.stop() == 0
        service.start()
        service.send(team, EVENT | {"integrationKey": "later"})
        [listed] = json.loads(_done("incidents", "--json", data=data))
        assert listed["id"] == incident
        assert _done("sql", "SELECT count(*) AS n FROM events", "--csv", data=data).splitlines() == ["n", "1"]


def test_the_directory_of_a_replay_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """Hours of results, and the wrong --data: the sentence says what to do instead."""
    events = tmp_path / "events.jsonl"
    events.write_text(json.dumps(EVENT | {"time": "2025-03-26T08:00:00Z"}) + "\n")
    data = replay(tmp_path / "data", events)
    before = fingerprint(data)
    assert _refused("serve", "--port", "0", "--data", data) == (
        f"tocsin: {data} holds the results of a replay: name another directory with --data, or move it away"
    )
    assert fingerprint(data) == before


def test_a_start_that_cannot_work_says_why(tmp_path: Path) -> None:
    """The database of accounts is down: the sentence says so, without a traceback, and without its password."""
    url = "postgresql://tocsin:hunter2@127.0.0.1:1/none"
    said = _refused("serve", "--port", "0", "--data", tmp_path / "data", TOCSIN_CONTROL_URL=url)
    assert "control database" in said
    assert "hunter2" not in said


def test_a_damaged_log_is_not_served(tmp_path: Path) -> None:
    """Acknowledged records that cannot be read are nothing to start over: a person must look, and is told where."""
    with serving(tmp_path / "data") as service:
        team = service.team()
        for number in range(3):
            service.send(team, EVENT | {"id": str(number)})
        service.kill()
    [segment] = (tmp_path / "data" / "log").iterdir()
    first, *others = segment.read_bytes().splitlines(keepends=True)
    before = b"".join([b"x" * (len(first) - 1), b"\n", *others])
    segment.write_bytes(before)
    said = _refused("serve", "--port", "0", "--data", tmp_path / "data")
    assert f"{segment}: damaged behind byte 0" in said
    assert segment.read_bytes() == before
