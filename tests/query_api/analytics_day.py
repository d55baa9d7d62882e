"""A day of verdicts and tool calls, written down in plain Python, and the figures that follow from it by counting."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from flows.live import LivePipeline
from query_api import reading
from query_api.analytics_numbers import warm
from query_api.settings import ServiceSettings
from tests.query_api.service import Service, Team

START = datetime(2026, 4, 30, tzinfo=UTC)
DAY = {"from": "2026-04-30T00:00:00Z", "to": "2026-05-01T00:00:00Z"}
GUARDIANS = {"gov_pii": "PII-Redactor", "gov_secrets": "Secret-Guard", "gov_quiet": None}
CODES = {"corrected": ("pii_exposure", "tone", None), "blocked": ("credential_leak", "pii_exposure"), "error": ("503",)}
TOOLS = ("stripe.create_refund", "postgres.query", "search", "mail.send")
ENVIRONMENTS = ("live", "test", "dev", None)
_NUMBERS = itertools.count()
TAGS = ("payments", "support", None)


@dataclass(frozen=True)
class Event:
    """What is sent, and what is counted. seconds: into the day; session: of a tool call."""

    seconds: float
    stream: str
    source: str
    type: str
    guardian: str
    value: float | None
    code: str | None = None
    environment: str | None = None
    tag: str | None = None
    session: str | None = None
    label: str | None = None
    number: int = 0

    @property
    def time(self) -> datetime:
        """When it happened."""
        return START + timedelta(seconds=self.seconds)

    def body(self) -> dict[str, Any]:
        """As it is sent."""
        said = {"environment": self.environment, "tag": self.tag}
        said |= {"guardian_name": self.label} if self.stream == "verdict" else {"guardian_id": self.guardian}
        base = {"time": stamp(self.time), "stream": self.stream, "source": self.source, "type": self.type}
        rest = {"value": self.value, "code": self.code, "tenant": self.session, "id": f"e{self.number}"}
        attributes = {name: value for name, value in said.items() if value is not None}
        return {name: value for name, value in (base | rest | {"attributes": attributes}).items() if value is not None}


def script(seed: int = 7, verdicts: int = 900, calls: int = 700) -> list[Event]:
    """The day: busy hours, an hour with nothing (from 05:00 on), and what does not count."""
    chance = random.Random(seed)
    found: list[Event] = []

    def when() -> float:
        while True:
            seconds = round(chance.uniform(0, 86_400), 3)
            if not 5 * 3_600 <= seconds < 6 * 3_600:
                return seconds

    for _ in range(verdicts):
        guardian = chance.choices(list(GUARDIANS), (6, 3, 1))[0]
        kind = chance.choices(("passed", "corrected", "blocked", "error"), (80, 12, 5, 3))[0]
        label = GUARDIANS[guardian]
        seconds = when()
        if guardian == "gov_secrets" and seconds < 43_200:
            label = "Old name"
        found.append(
            Event(
                seconds, "verdict", guardian, kind, guardian,
                None if chance.random() < 0.05 else round(chance.lognormvariate(4.6, 0.6), 2),
                chance.choice(CODES.get(kind, (None,))), chance.choice(ENVIRONMENTS), chance.choice(TAGS), label=label,
            )
        )  # fmt: skip
    for _ in range(calls):
        session = f"sess_{chance.randrange(40):02}"
        guardian = chance.choices(list(GUARDIANS), (5, 3, 2))[0]
        found.append(
            Event(
                when(), "tool_call", chance.choices(TOOLS, (2, 6, 3, 1))[0],
                chance.choices(("passed", "corrected", "blocked"), (88, 8, 4))[0], guardian,
                round(chance.lognormvariate(3.2, 0.9), 3), None, chance.choice(ENVIRONMENTS), chance.choice(TAGS),
                session,
            )
        )  # fmt: skip
    # Neither a verdict nor a call, and outside the day.
    found += [
        Event(3_600, "verdict", "gov_pii", "considered", "gov_pii", 1.0),
        Event(3_600, "tool_call", "search", "listed", "gov_pii", 1.0, session="sess_00"),
        Event(3_600, "detection", "camera", "passed", "gov_pii", 1.0),
        Event(-0.001, "verdict", "gov_pii", "passed", "gov_pii", 77.0),
        Event(86_400, "verdict", "gov_pii", "passed", "gov_pii", 77.0),
        Event(-0.001, "tool_call", "search", "passed", "gov_pii", 77.0, session="sess_early"),
        Event(86_400, "tool_call", "search", "passed", "gov_pii", 77.0, session="sess_late"),
    ]
    return [Event(**{**vars(one), "number": n}) for n, one in enumerate(found)]


def stamp(time: datetime) -> str:
    """A time as answers say it: no fraction where there is none."""
    return time.replace(tzinfo=None).isoformat() + "Z"


def within(events: Sequence[Event], window: dict[str, str], stream: str, types: Sequence[str]) -> list[Event]:
    """What counts in a window."""
    start, end = (datetime.fromisoformat(window[name]) for name in ("from", "to"))
    return [one for one in events if one.stream == stream and one.type in types and start <= one.time < end]


def counted(events: Sequence[Event], types: Sequence[str]) -> dict[str, int]:
    """How many there are of each type; errors in the plural."""
    found = Counter(one.type for one in events)
    return {"errors" if kind == "error" else kind: found[kind] for kind in types}


def nearest(events: Sequence[Event], rank: float) -> float | None:
    """The percentile of the nearest rank."""
    values = sorted(one.value for one in events if one.value is not None)
    return values[max(0, math.ceil(rank * len(values)) - 1)] if values else None


def average(events: Sequence[Event]) -> float | None:
    """The mean."""
    values = [one.value for one in events if one.value is not None]
    return sum(values) / len(values) if values else None


def same_keys(found: Any, example: Any, place: str = "answer") -> None:
    """The same members, in the same order, of the same kinds; of lists each entry is like the example's first."""
    if isinstance(example, dict):
        assert list(found) == list(example), place
        for name, each in example.items():
            same_keys(found[name], each, f"{place}.{name}")
    elif isinstance(example, list):
        assert found, place
        for each in found:
            same_keys(each, example[0], f"{place}[]")
    elif isinstance(example, int | float):
        assert isinstance(found, int | float), place
        assert not isinstance(found, bool), place
    else:
        assert isinstance(found, type(example)), place


def close(found: float | None, expected: float | None) -> bool:
    """Within 1 %, and the rounding to four digits."""
    if found is None or expected is None:
        return found is expected
    return abs(found - expected) <= 0.0106 * abs(expected)


def is_mean(found: float | None, events: Sequence[Event]) -> bool:
    """The mean, but for the rounding to four digits."""
    expected = average(events)
    if found is None or expected is None:
        return found is expected
    return abs(found - expected) <= 6e-4 * expected


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """The shape of every error; its sentence."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    body = answer.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["code", "message"]
    assert body["error"]["code"] == code, body
    message: str = body["error"]["message"]
    return message


@dataclass(frozen=True)
class World:
    """The service, whose day it is, and another workspace that had a day of its own."""

    service: Service
    mine: Team
    others: Team
    events: list[Event]

    def get(self, path: str, **parameters: Any) -> Any:
        """Ask as mine; what succeeded."""
        found = self.ask("GET", path, params=parameters)
        assert found.status_code == 200, found.text
        return found.json()

    def ask(self, method: str, path: str, team: Team | None = None, **request: Any) -> httpx.Response:
        """Ask as somebody."""
        return self.service.ask(method, path, headers=(team or self.mine).by_key, **request)

    def scoped(self, scope: str) -> dict[str, str]:
        """The header of a new key of mine that is limited to a scope."""
        body = {"name": f"{scope} {next(_NUMBERS)}", "scopes": [scope]}
        made = self.ask("POST", "/v1/keys", json=body)
        assert made.status_code == 201, made.text
        return {"Authorization": f"Bearer {made.json()['key']}"}

    def filtered(self, keep: Callable[[Event], bool]) -> list[Event]:
        """Some of the events."""
        return [one for one in self.events if keep(one)]


def send(service: Service, team: Team, events: Sequence[Event]) -> None:
    """Ingest, as a client does."""
    for at in range(0, len(events), 500):
        bodies = [one.body() for one in events[at : at + 500]]
        done = service.post("/api/v1/events/batch", headers=team.by_key, json=bodies)
        assert (done.status_code, done.json()["data"]["rejected"]) == (200, 0), done.text


@contextmanager
def world_of(directory: Path) -> Iterator[World]:
    """A service with the real pipeline, after the day."""
    warm()
    pipeline = LivePipeline.start(directory)
    service = Service(directory, ServiceSettings(sign_ins_per_minute=10_000, requests_per_minute=100_000), pipeline)
    try:
        mine, others = service.team("Mine"), service.team("Others")
        events = script()
        send(service, mine, events)
        send(service, others, [one for one in script(99) if one.session not in ("sess_01", "sess_early")])
        yield World(service, mine, others, events)
    finally:
        service.close()
        reading.close(pipeline)
        pipeline.stop()
