"""Random streams that gather where the semantics have their edges."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from operators.policy import Policy
from operators.rules import ThresholdSpec
from tests.harness import (
    START,
    D,
    M,
    Row,
    S,
    anomaly,
    event_count,
    policy,
    ratio,
    record,
    split,
    value_avg,
    value_count,
    value_percentile,
    value_sum,
)
from tests.oracle import MATCH, RESOLVE, WITNESS, Match
from tests.oracle_clock import OracleClock, stamp, without_duplicates

# ---------------------------------------------------------------- records of one partition

LATENESS = st.sampled_from([0, 1, 30 * S, 10 * M])
WALL = START + 5 * D
JITTER = st.sampled_from([-1, 0, 0, 1])
NEAR = [0, 0, 1, 5, 30 * S, M, 10 * M, D, 2 * D]


@st.composite
def histories(draw: st.DrawFn, size: int = 25) -> list[Row]:
    """Records without `ingested_at`: steps of up to a little over a day, lone outliers, and a far future."""
    steps = draw(st.lists(st.tuples(st.sampled_from(NEAR), JITTER, st.integers(0, 19)), max_size=size))
    out, now = [], START
    for offset, (step, jitter, fate) in enumerate(steps):
        time = now + step + jitter
        if fate == 0:
            time += 3 * D  # an outlier: `now` stays
        elif fate == 1:
            time -= step + 40 * S
        elif fate == 2:
            time = WALL + 60 * S + jitter
        elif fate == 3:
            time = START - 30 * D
        elif fate < 16:
            now = time
        out.append(record(offset, time))
    return out


@st.composite
def segments(draw: st.DrawFn, size: int = 25) -> list[Row]:
    """Records the log has stamped: `time` around every bound of S4, ingest times that may step back."""
    lateness = draw(LATENESS)
    edges = [0, 0, 1, lateness, 2 * lateness, -60 * S, -2 * M, M]
    item = st.tuples(st.sampled_from([-M, 0, 0, 1, S, 30 * S, D]), st.sampled_from(edges), JITTER)
    out, now = [], START
    for offset, (step, lag, jitter) in enumerate(draw(st.lists(item, max_size=size))):
        now += step
        out.append(record(offset, now - lag + jitter, now))
    return out


@st.composite
def repeated(draw: st.DrawFn, records: list[Row]) -> list[Row]:
    """The same records under few ids, sources and workspaces."""
    some: Any = st.tuples(
        st.sampled_from([None, "a", "b", "c", ""]), st.sampled_from(["s", "t", None]), st.sampled_from(["w", "v"])
    )
    names = draw(st.lists(some, min_size=len(records), max_size=len(records)))
    return [r | {"id": i, "source": s, "workspace": w} for r, (i, s, w) in zip(records, names, strict=True)]


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    """Where a sequence is cut into batches; a repeated cut makes an empty batch."""
    return st.lists(st.integers(0, size), max_size=5)


# ---------------------------------------------------------------- policies

LIFECYCLES = [(5 * M, 10 * M, 15 * M), (1, 1, 1), (2, 3, 5), (7, 1, 2), (1, 8, 1), (3, 2, 9), (M, 1, 10 * M)]


@st.composite
def thresholds(draw: st.DrawFn, windows: list[int]) -> ThresholdSpec | None:
    window = draw(st.sampled_from(windows))
    count = draw(st.sampled_from([1, 2, 3, 4]))
    level = draw(st.sampled_from([-1.0, 0.0, 0.3, 1.0, 2.5, 3.0]))
    share = draw(st.sampled_from([0.1, 0.3, 0.5, 2 / 3, 1.0]))
    kinds = [
        None,
        event_count(count, window),
        value_count(count, window),
        value_sum(level, window),
        value_avg(level, window, count),
        value_percentile(draw(st.sampled_from([1.0, 50.0, 90.0, 99.9, 100.0])), level, window, count),
        ratio(share, count, window),
        anomaly(window, (count + 3) * window, share / 2, draw(st.integers(1, count)), draw(st.integers(1, 3))),
    ]
    # Half of all rules count events: the other types share everything but the condition.
    return kinds[draw(st.sampled_from([0, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 7]))]


@st.composite
def policies(draw: st.DrawFn, rule: str) -> list[Policy]:
    """One or two versions of a rule, and with them the durations the stream's times gather around."""
    lifecycle = draw(st.sampled_from(LIFECYCLES))
    out = []
    for version in range(draw(st.sampled_from([1, 1, 2]))):
        if version and draw(st.booleans()):
            lifecycle = draw(st.sampled_from(LIFECYCLES))
        recovery, close, cooldown = lifecycle
        whole = recovery + close + cooldown
        spans = [1, 2, recovery, recovery + 1, recovery + close, whole - 1, whole, whole + 1, 3 * whole]
        alert = draw(st.none() | st.tuples(st.sampled_from([1, 2, 3, 4]), st.sampled_from(spans)))
        out.append(
            policy(
                draw(thresholds(spans)),
                rule,
                f"{version:08x}",
                recovery=recovery,
                close=close,
                cooldown=cooldown,
                alert_count=alert[0] if alert else None,
                alert_window=alert[1] if alert else None,
                severity=draw(st.sampled_from([None, None, "low", "critical"])),
                stream=draw(st.sampled_from(["integration", "*"])),
            )
        )
    return out


def landmarks(versions: list[Policy]) -> list[int]:
    """The gaps at which something can change for a key of this rule."""
    out = [0, 0, 1]
    for each in versions:
        recovery, close, cooldown = each.recovery, each.close, each.cooldown
        out += [recovery, recovery + close, recovery + close + cooldown, cooldown, close]
        out += [1 + recovery // 3, 2 * (recovery + close + cooldown)]
        out += [each.threshold.window] if each.threshold else []
        out += [each.alert_window] if each.alert_window else []
    return out


# ---------------------------------------------------------------- streams of matches


@dataclass(frozen=True)
class Scenario:
    """Records of several partitions and what each of them is claimed as.

    `claims[partition][offset]` are Match fields without `at`; a record may be claimed by several rules or by none.
    """

    lateness: int
    records: dict[str, list[Row]]
    claims: dict[str, list[list[Row]]] = field(repr=False)

    def claimed(self, partition: str, stamped: list[Row]) -> list[Match]:
        """The matches of stamped records of one partition."""
        out = []
        for row in stamped:
            for fields in self.claims[partition][row["offset"]]:
                out.append(Match(at=row["at"], partition=partition, offset=row["offset"], **fields))
        return out

    def stamped(self, partition: str) -> list[Row]:
        """A partition's records as the oracle's clock accepts them, without duplicates."""
        return without_duplicates(stamp(self.records[partition], self.lateness, WALL).stamped)

    @property
    def matches(self) -> list[Match]:
        return [m for name in self.records for m in self.claimed(name, self.stamped(name))]

    @property
    def end(self) -> int:
        """Where the input ends: the last `at`, or a watermark beyond it, up to which timers may have fired already."""
        ats = [row["at"] for name in self.records for row in self.stamped(name)]
        marks = [stamp(records, self.lateness, WALL).watermark for records in self.records.values()]
        latest: int = max([START, *ats, *(mark for mark in marks if mark is not None)])
        return latest

    def __repr__(self) -> str:
        lines = [f"lateness {self.lateness}"]
        lines += sorted({str(fields["policy"]) for claims in self.claims.values() for c in claims for fields in c})
        for m in sorted(self.matches, key=lambda m: m.order):
            text = re.sub(r"policy=Policy\(rule_id='(\w+)', version='(\w+)'.*?\), w", r"\1/\2 w", str(m))
            lines.append(f"{m.at - START} {text}")
        return "\n".join(lines)


TENANTS = [None, "a", "b", "c"]
MEASURES = [None, float("nan"), float("inf"), 0.0, 0.1, 0.2, 1.0, -1.0, 2.5, 3.0, 100.0, 1e-7, 0.3000004, 9e12]
ITEMS = [None, "x", "y", "z", ""]
GROUPS = ["g", "h", '["ключ",null]']


@st.composite
def scenarios(draw: st.DrawFn, size: int = 30, ids: bool = False) -> Scenario:
    """Events of a few keys at gaps around their deadlines, spread over partitions with delays around the lateness."""
    rules = [draw(policies(f"r{n}")) for n in range(draw(st.integers(1, 2)))]
    marks = [landmarks(versions) for versions in rules]
    lateness = draw(st.sampled_from([0, 2, 30 * S, 5 * M]))
    partitions = [f"p{n}" for n in range(draw(st.integers(1, 3)))]
    delays = [0, 0, 0, 0, 1, lateness, lateness + 1, max(lateness - 1, 0), 3 * lateness + 2, -60 * S, -60 * S - 1]
    item: st.SearchStrategy[Row] = st.fixed_dictionaries(
        {
            "rule": st.integers(0, len(rules) - 1),
            "version": st.integers(0, 1),
            "group": st.sampled_from([0, 0, 0, 1, 2]),
            "mark": st.integers(0, 50),
            "jitter": st.sampled_from([-1, 0, 0, 0, 1]),
            "delay": st.sampled_from(delays),
            "partition": st.sampled_from(partitions),
            "kind": st.sampled_from([MATCH] * 12 + [RESOLVE, WITNESS, WITNESS]),
            "tenant": st.sampled_from(TENANTS),
            "detail": st.integers(0, 3 * 6 * 2 - 1),
            "measure": st.sampled_from(MEASURES),
            "item": st.sampled_from(ITEMS),
            "extra": st.sampled_from([0] * 8 + [1, 2]),
            "id": st.sampled_from([None, None, "1", "2", "3"]) if ids else st.none(),
        }
    )
    live = draw(st.booleans())  # the log stamped the records; else a historical file
    now: dict[tuple[int, int], int] = {}
    arrivals: dict[str, list[tuple[int, Row, list[Row]]]] = {name: [] for name in partitions}
    for each in draw(st.lists(item, min_size=draw(st.sampled_from([0, size // 2, size])), max_size=size)):
        rule, group = each["rule"], each["group"]
        versions = rules[rule]
        gap = marks[rule][each["mark"] % len(marks[rule])] + each["jitter"]
        time = now[rule, group] = now.get((rule, group), START + rule) + max(gap, 0)
        held = versions[each["version"] % len(versions)]
        detail = each["detail"]
        fields: Row = {
            "policy": held,
            "workspace": "default" if group < 2 else "other",
            "group_key": GROUPS[group],
            "source": ("api", "web", "")[detail % 3],
            "tenant": each["tenant"],
            "severity": detail // 3 % 6 - 1,
            "confidence": 1 + detail // 18,
            "measure": each["measure"],
            "item": each["item"],
            "kind": each["kind"],
        }
        claims = [fields] if each["extra"] != 1 else []
        if each["extra"] == 2 and len(rules) == 2:
            claims.append(fields | {"policy": rules[1 - rule][0]})
        arrival = time + each["delay"]
        row = record(0, time, arrival if live else None, id=each["id"])
        arrivals[each["partition"]].append((arrival, row, claims))
    records, claimed = {}, {}
    for name, some in arrivals.items():
        some.sort(key=lambda one: one[0])
        records[name] = [row | {"offset": offset} for offset, (_, row, _) in enumerate(some)]
        claimed[name] = [claims for _, _, claims in some]
    return Scenario(lateness, records, claimed)


# ---------------------------------------------------------------- how they arrive

NEVER, FOREVER = -(2**63), 2**62


@dataclass(frozen=True)
class Step:
    """A batch of a partition, and what happens after it. `watermark` is the partition's behind the batch."""

    partition: str
    rows: list[Row]
    watermark: int
    settle: bool
    restart: bool
    ask: int | None  # ask for provisional output: 0 up to the lowest watermark, else as long after the last `at`

    def __repr__(self) -> str:
        which = [row["offset"] for row in self.rows]
        return f"{self.partition}{which} w={self.watermark - START} {self.settle=} {self.restart=} {self.ask=}"


@st.composite
def arrivals(draw: st.DrawFn, scenario: Scenario, stamped: bool = True) -> list[Step]:
    """The scenario's records cut into batches and interleaved; each step with luck settles, restarts or asks.

    `stamped`: rows as the oracle's clock accepts them; else the raw records, and `watermark` means nothing.
    """
    pieces: dict[str, Iterator[Any]] = {}
    for name, raw in scenario.records.items():
        items = scenario.stamped(name) if stamped else raw
        pieces[name] = iter(list(split(items, draw(cuts(len(items))))))
    marks = {name: OracleClock(scenario.lateness).watermark for name in pieces}
    often = draw(st.sampled_from(["always", "sometimes", "never"]))
    out = []
    order = draw(st.lists(st.integers(0, 5), max_size=24))
    while pieces:
        name = list(pieces)[(order.pop() if order else 0) % len(pieces)]
        batch = next(pieces[name], None)
        if batch is None:
            del pieces[name]
            if pieces and len(order) % 2:  # it has ended and holds the others back no longer
                out.append(Step(name, [], FOREVER, True, False, None))
            continue
        if batch and stamped:
            marks[name] = batch[-1]["ingested_at"] - scenario.lateness
        luck = draw(st.integers(0, 11))
        settle = often == "always" or (often == "sometimes" and luck % 2 == 0)
        ask = draw(st.sampled_from([None, None, None, 0, 1, 2, 6 * M, D]))
        mark = marks[name]
        out.append(Step(name, list(batch), NEVER if mark is None else mark, settle, luck % 3 == 0, ask))
    return out
