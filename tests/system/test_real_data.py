"""Data that nobody of this project wrote, with figures that plain Python derives from it beside the engine.

The data is not part of the project; without it these tests are skipped.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.system.runs import counts, query, replay

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ACCESS_LOG = DATA / "access_log" / "apache_combined.log"
AUTH_LOG = DATA / "auth_log" / "auth.log"
STATUS_PAGE = DATA / "status_page" / "incidents_2022_2024.jsonl"
SERIES = DATA / "nab" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data is not in this checkout: {DATA} is missing")

MIN, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RULES = """\
rules:
  - {id: server_error, name: Server errors, stream: log, match: {type: http_5xx}}
  - id: not_found
    name: A client that looks for what is not there
    stream: log
    match: {code: "404"}
    group_by: [attributes.client]
    threshold: {event_count: {gte: 5, window: 10m}}
  - id: guessing
    name: Passwords are tried out
    stream: log
    match: {type: auth_failed}
    group_by: [attributes.client]
    threshold: {event_count: {gte: 5, window: 10m}}
  - id: trouble
    name: A public incident
    match: {type: [Investigating, Update]}
    group_by: [tenant]
    lifecycle: {recovery: 2h, close: 6h, cooldown: 1d}
  - {id: busy, name: A busy machine, match: {type: sample, where: {"value|gt": 0.2}}}
"""
MAPPING = """\
explode: $.updates
keep: {incident: $.id, impact: $.impact}
columns: {time: $.at, source: status-page, type: $.status, code: $.impact, tenant: $.incident}
"""


class Episode(NamedTuple):
    """An incident as plain Python finds it."""

    key: str
    opened: datetime
    first: datetime
    last: datetime
    events: int
    reopened: int
    status: str


def effective(times: Sequence[datetime]) -> dict[int, datetime]:
    """S2 to S4 for history, one record at a time: index -> effective time, of those that count."""
    at: dict[int, datetime] = {}
    clock: datetime | None = None
    for n, time in enumerate(times):
        jump = clock is None or time > clock + DAY
        if jump and n + 1 < len(times) and times[n + 1] < time - DAY:
            continue  # a lone outlier
        at[n] = time if clock is None else max(time, clock - timedelta(seconds=30))
        clock = time if clock is None else max(clock, time)
    return at


def episodes(
    hits: Iterable[tuple[str, datetime]], end: datetime, count: int, window: timedelta,
    lifecycle: tuple[timedelta, timedelta, timedelta] = (5 * MIN, 10 * MIN, 15 * MIN),
) -> list[Episode]:  # fmt: skip
    """Incidents of (key, at) in order: `count` within `window` open one, and gaps say what becomes of it (S8, S9)."""
    recovery, close, cooldown = lifecycle
    by_key: dict[str, list[datetime]] = defaultdict(list)
    for key, when in hits:
        by_key[key].append(when)
    found = []
    for key, times in by_key.items():
        waiting: list[datetime] = []
        open_: Episode | None = None
        for when in sorted(times):
            if open_ is not None and when - open_.last < recovery + close + cooldown:
                again = when - open_.last >= recovery + close
                open_ = open_._replace(last=when, events=open_.events + 1, reopened=open_.reopened + again)
                continue
            if open_ is not None:
                found.append(open_)
                open_, waiting = None, []
            waiting = [each for each in waiting if each > when - window] + [when]
            if len(waiting) >= count:
                open_ = Episode(key, when, waiting[0], when, len(waiting), 0, "")
        found += [open_] if open_ is not None else []

    def status(last: datetime) -> str:
        return "Closed" if end - last >= recovery + close else "Recovering" if end - last >= recovery else "Open"

    return sorted(each._replace(status=status(each.last)) for each in found)


def incidents(data: Path, rule: str) -> list[Episode]:
    """The same of the store."""
    rows = query(
        data,
        "SELECT group_key, opened_at, first_event_at, last_event_at, event_count, reopen_count, status "
        f"FROM incidents WHERE rule_id = '{rule}' ORDER BY ALL",
    )
    return [Episode(*row) for row in rows]


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(RULES)
    return ["--rules", file]


# ---------------------------------------------------------------- access log


@pytest.fixture(scope="module")
def access(rules: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return replay(tmp_path_factory.mktemp("access") / "data", ACCESS_LOG, *rules)


def requests() -> list[tuple[datetime, str, str, str]]:
    """Time, client, status and size of each line, taken apart by blanks and quotes."""
    found = []
    for line in ACCESS_LOG.read_text().splitlines():
        client = line.split(" ", 1)[0]
        time = datetime.strptime(line.split("[", 1)[1].split("]", 1)[0], "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC)
        status, size = re.search(r'" (\d{3}) (\d+|-)', line).groups()  # type: ignore[union-attr]
        found.append((time, client, status, size))
    return found


def test_access_log_requests(access: Path) -> None:
    """An SRE counts requests by status with awk first; if Tocsin counted otherwise nobody would believe the rest."""
    lines = requests()
    assert len(lines) == 10_000
    assert counts(access)["dead_letters"] == 0
    by_status = Counter(status for _, _, status, _ in lines)
    assert dict(query(access, "SELECT code, count(*) FROM events GROUP BY ALL")) == by_status
    by_class = Counter(f"http_{status[0]}xx" for _, _, status, _ in lines)
    assert dict(query(access, "SELECT type, count(*) FROM events GROUP BY ALL")) == by_class
    clients = query(access, "SELECT count(DISTINCT attributes->>'client') FROM events")
    assert clients == [(len({client for _, client, _, _ in lines}),)]
    assert query(access, "SELECT sum(value) FROM events") == [(sum(int(s) for *_, s in lines if s != "-"),)]


def test_access_log_incidents(access: Path) -> None:
    """ "What incidents would this have been?": too many page somebody at night for nothing, too few hide an outage."""
    lines = requests()
    at = effective([time for time, *_ in lines])
    end = max(at.values())
    errors = [("http", at[n]) for n, (_, _, status, _) in enumerate(lines) if status[0] == "5"]
    assert incidents(access, "server_error") == episodes(errors, end, 1, MIN)
    missing = [(client, at[n]) for n, (_, client, status, _) in enumerate(lines) if status == "404"]
    expected = episodes(missing, end, 5, 10 * MIN)
    assert len(expected) > 0
    assert incidents(access, "not_found") == expected


# ---------------------------------------------------------------- auth log

YEAR = 2016
FAILED = re.compile(
    r"^(\w{3} [ \d]\d [\d:]{8}) \S+ sshd\[\d+\]: (?:message repeated (\d+) times: \[ )?"
    r"Failed password for (invalid user )?.* from (\S+) port \d+"
)


@pytest.fixture(scope="module")
def auth(rules: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return replay(tmp_path_factory.mktemp("auth") / "data", AUTH_LOG, "--year", str(YEAR), *rules)


def stamp(line: str) -> datetime:
    return datetime.strptime(f"{YEAR} {line[:15]}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC)


def test_auth_log_failures(auth: Path) -> None:
    """Every failed password is one, also the repeated ones that syslog folds into a line, and nothing else is."""
    lines = AUTH_LOG.read_text().splitlines()
    assert counts(auth)["events"] == len(lines) == 7_121
    failed = [found.groups() for line in lines if (found := FAILED.match(line))]
    assert len(failed) > 500
    times = sum(int(repeated or 1) for _, repeated, _, _ in failed)
    by_code = Counter("invalid_user" if invalid else None for _, _, invalid, _ in failed)
    sshd = "FROM events WHERE source = 'sshd' AND type = 'auth_failed'"
    assert query(auth, f"SELECT count(*), sum(value) {sshd}") == [(len(failed), times)]
    assert dict(query(auth, f"SELECT code, count(*) {sshd} GROUP BY ALL")) == by_code
    by_client = Counter(client for *_, client in failed)
    assert dict(query(auth, f"SELECT attributes->>'client', count(*) {sshd} GROUP BY ALL")) == by_client
    accepted = sum(": Accepted " in line for line in lines)
    assert query(auth, "SELECT count(*) FROM events WHERE type = 'auth_accepted' AND source = 'sshd'") == [(accepted,)]


def test_auth_log_attacks(auth: Path) -> None:
    """Each address that tries passwords out is an incident, as long as it goes on; a forgotten password is none."""
    lines = AUTH_LOG.read_text().splitlines()
    at = effective([stamp(line) for line in lines])
    hits = [(found[4], at[n]) for n, line in enumerate(lines) if (found := FAILED.match(line))]
    hits += [("", at[n]) for n, line in enumerate(lines) if re.search(r" sudo: .* incorrect password attempt", line)]
    expected = episodes(hits, max(at.values()), 5, 10 * MIN)
    assert len(expected) > 10
    assert incidents(auth, "guessing") == expected


# ---------------------------------------------------------------- status page


@pytest.fixture(scope="module")
def status(rules: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("status")
    (folder / "mapping.yaml").write_text(MAPPING)
    return replay(folder / "data", STATUS_PAGE, "--mapping", folder / "mapping.yaml", *rules)


def updates() -> list[dict[str, Any]]:
    """Every update with the incident around it, in the order of the file."""
    pages = [json.loads(line) for line in STATUS_PAGE.read_text().splitlines()]
    assert len(pages) == 399
    return [
        {**update, "when": datetime.fromisoformat(update["at"]), "incident": page["id"], "impact": page["impact"]}
        for page in pages
        for update in page["updates"]
    ]


def test_status_page_updates(status: Path) -> None:
    """One event an update, in the words of somebody else's format, by a mapping alone. One update lies more than a
    day ahead of those around it: by S2 it is set aside, and said so, rather than drag the clock."""
    all_updates = updates()
    at = effective([update["when"] for update in all_updates])
    aside = [n for n in range(len(all_updates)) if n not in at]
    assert query(status, 'SELECT "offset" FROM dead_letters ORDER BY ALL') == [(n,) for n in aside]
    kept = [all_updates[n] for n in at]
    for column, field in (("type", "status"), ("code", "impact"), ("tenant", "incident"), ("message", "message")):
        wanted = Counter(update[field] for update in kept)
        assert dict(query(status, f"SELECT {column}, count(*) FROM events GROUP BY ALL")) == wanted, column
    late = sum(at[n] > update["when"] for n, update in enumerate(all_updates) if n in at)
    assert counts(status)["late"] == late > 0


def test_status_page_incidents(status: Path) -> None:
    """A vendor's incidents with their updates become ours, one to one but for those that were silent for a day."""
    all_updates = updates()
    at = effective([update["when"] for update in all_updates])
    hits = [(all_updates[n]["incident"], when) for n, when in at.items()
            if all_updates[n]["status"] in ("Investigating", "Update")]  # fmt: skip
    expected = episodes(hits, max(at.values()), 1, MIN, (2 * HOUR, 6 * HOUR, DAY))
    assert len(expected) > 380
    assert incidents(status, "trouble") == expected


# ---------------------------------------------------------------- series


def test_series_of_measurements(rules: list[str | Path], tmp_path: Path) -> None:
    """34 CSV files from a monitoring system, a partition each: no sample is lost, and a threshold on one is exact."""
    files = sorted(SERIES.rglob("*.csv"))
    samples = {str(file.relative_to(SERIES)): list(csv.DictReader(file.open())) for file in files}
    assert len(files) == 34
    as_events = ["--map", "source=nab", "--map", "type=sample", *rules]
    data = replay(tmp_path / "all", SERIES, *as_events)
    assert counts(data)["dead_letters"] == 0
    found = query(data, "SELECT partition, count(*), round(sum(value), 3) FROM events GROUP BY ALL")
    assert len(found) == 34
    for partition, count, total in found:
        values = [float(row["value"]) for row in samples[partition]]
        assert (count, total) == (len(values), pytest.approx(sum(values), abs=0.01)), partition


def test_a_threshold_on_measurements(rules: list[str | Path], tmp_path: Path) -> None:
    """Every excursion of a CPU is one incident, with the first and last sample above the line."""
    file = SERIES / "realAWSCloudwatch" / "ec2_cpu_utilization_24ae8d.csv"
    rows = list(csv.DictReader(file.open()))
    at = effective([datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC) for row in rows])
    hits = [("nab", at[n]) for n, row in enumerate(rows) if float(row["value"]) > 0.2]
    expected = episodes(hits, max(at.values()), 1, MIN)
    assert len(expected) > 5
    data = replay(tmp_path / "one", file, "--map", "source=nab", "--map", "type=sample", *rules)
    assert incidents(data, "busy") == expected
