"""Why did a rule not open an incident for a source around an instant?

The stored events around it are classified again by that one rule, and its threshold is measured at every match, so the
answer names the best that was reached. Counting starts afresh: what an earlier incident had used up is counted again,
hence `reached` is an upper bound; such an incident is named.
"""

from datetime import datetime, timedelta
from typing import Literal

import polars as pl
from duckdb import DuckDBPyConnection
from pydantic import BaseModel

from operators.classify import Classifier
from operators.events import MINUTE
from operators.matches import MATCH
from operators.rules import EventCount, Rule
from query_api.fetch import QueryError, fetch
from query_api.incidents import Incident
from query_api.reach import Reached, best_reached
from query_api.rules import rule_in_effect, threshold_text

# Keeps an answer within seconds and memory on a busy workspace.
MOST_EVENTS = 500_000
_NO_WINDOW = 5 * MINUTE

_EVENTS = """
    SELECT e.*, coalesce(e.rule_id = $rule, false) OR EXISTS (
        FROM claims c WHERE c.partition = e.partition AND c."offset" = e."offset" AND c.rule_id = $rule) AS claimed
    FROM events e
    WHERE e.workspace = $workspace AND e."at" > $start AND e."at" <= $end AND ($source IS NULL OR e.source = $source)
    ORDER BY e."at", e.partition, e."offset" LIMIT $limit
"""
_INCIDENTS = """
    SELECT * FROM incidents
    WHERE workspace = $workspace AND rule_id = $rule AND list_contains($keys, group_key)
      AND first_event_at <= $end AND coalesce(closed_at, last_event_at) >= $start
    ORDER BY opened_at
"""
_WORKSPACES = "SELECT DISTINCT workspace FROM events WHERE source = $source ORDER BY workspace"

Verdict = Literal[
    "opened", "disabled", "no_events", "no_match", "shadowed", "not_claimed", "below_threshold", "reached"
]


class WhyNot(BaseModel):
    """The answer. Times are effective times; `start` exclusive, `end` inclusive: where windows were looked at."""

    workspace: str
    source: str
    rule_id: str
    rule_version: str
    at: datetime
    start: datetime
    end: datetime
    threshold: str
    verdict: Verdict
    sentence: str
    events: int  # of the source
    matching: int  # of these, those that the rule matches
    claimed: int  # of these, those that it got
    taken_by: dict[str, int]  # matching events that an exclusive rule tried earlier took
    best: Reached | None
    incidents: list[Incident]


def why_not(con: DuckDBPyConnection, source: str, rule_id: str, at: datetime, workspace: str | None = None) -> WhyNot:
    """Return why `rule_id` opened nothing for `source` around `at`. Raises QueryError where that cannot be asked."""
    workspace = workspace or _only_workspace(con, source)
    version, rule = rule_in_effect(con, rule_id, workspace, at)
    spec = rule.threshold.spec if rule.threshold else None
    window = timedelta(microseconds=spec.window if spec else _NO_WINDOW)
    start, end = at - window, at + window
    # Events a window earlier too: the first window looked at ends just after `start`.
    found = fetch(
        con,
        _EVENTS,
        workspace=workspace,
        rule=rule_id,
        start=start - window,
        end=end,
        source=source if rule.group_by == ("source",) else None,
        limit=MOST_EVENTS + 1,
    )
    if found.height > MOST_EVENTS:
        raise QueryError(f"more than {MOST_EVENTS:,} events of workspace {workspace} lie around {at}")
    matches = _matches(rule, found)
    near_by = (pl.col("source") == source) & pl.col("at").is_between(start, end, "right")
    near = found.filter(near_by)
    mine = matches.filter(near_by, pl.col("kind") == MATCH)
    keys = mine["group_key"].unique().to_list()
    taken = mine.filter(~pl.col("claimed") & pl.col("rule_id").is_not_null())
    counted = matches.filter(pl.col("group_key").is_in(keys) & ((pl.col("kind") != MATCH) | pl.col("claimed")))
    best = best_reached(counted, spec, start, end)
    incidents = fetch(con, _INCIDENTS, workspace=workspace, rule=rule_id, keys=keys, start=start, end=end)
    answer = WhyNot(
        workspace=workspace,
        source=source,
        rule_id=rule_id,
        rule_version=version,
        at=at,
        start=start,
        end=end,
        threshold=threshold_text(spec),
        verdict="reached",
        sentence="",
        events=near.height,
        matching=mine.height,
        claimed=mine.filter("claimed").height,
        taken_by=dict(taken["rule_id"].value_counts(sort=True).iter_rows()),
        best=best,
        incidents=[Incident(**row) for row in incidents.to_dicts()],
    )
    verdict, sentence = _verdict(answer, rule)
    return answer.model_copy(update={"verdict": verdict, "sentence": sentence})


def _only_workspace(con: DuckDBPyConnection, source: str) -> str:
    names = fetch(con, _WORKSPACES, source=source)["workspace"].to_list()
    if not names:
        raise QueryError(f"no stored event has the source {source} (were events stored?)")
    if len(names) > 1:
        raise QueryError(f"several workspaces have a source {source}: {', '.join(names)}; name one with --workspace")
    return str(names[0])


def _matches(rule: Rule, events: pl.DataFrame) -> pl.DataFrame:
    """Return what the rule alone matches: MATCHES columns, and of each event `claimed`, `rule_id` and its position."""
    # A disabled rule matches, too: the answer says that it would have.
    alone = Classifier([rule.model_copy(update={"enabled": True})])
    # The classifier reads one partition in the order of its offsets; here that is the order in which events counted.
    numbered = events.rename({"offset": "position"}).with_row_index("offset").cast({"offset": pl.Int64})
    matches = alone.classify(numbered.drop("claimed", "rule_id", "group_key", "confidence"), {}).matches.frame
    known = numbered.select("offset", "partition", "position", "rule_id", "claimed")
    return matches.with_columns(pl.col("at").cast(events["at"].dtype)).join(known, on="offset", how="left")


def _verdict(answer: WhyNot, rule: Rule) -> tuple[Verdict, str]:
    """Return the first reason that holds, and it in words."""
    best = answer.best
    if answer.incidents:
        listed = ", ".join(f"{one.short_id} ({one.opened_at:%Y-%m-%d %H:%M:%S})" for one in answer.incidents)
        return "opened", f"It did open: {listed}."
    if not rule.enabled:
        return "disabled", "The rule is disabled."
    if not answer.events:
        return "no_events", "The source has no events around that time."
    if not answer.matching:
        return "no_match", f"None of the source's {answer.events} events matches the rule."
    if not answer.claimed and answer.taken_by:
        takers = ", ".join(f"{name} ({count})" for name, count in answer.taken_by.items())
        return "shadowed", f"Rules that are tried earlier took all {answer.matching} matching events: {takers}."
    if not answer.claimed:
        return "not_claimed", "Events match, but the rule claimed none: not in use, or disabled in this workspace."
    if best is None:
        return "below_threshold", "Events match, but none of them carries what the threshold measures."
    if not best.met:
        unit = "events" if isinstance(rule.threshold and rule.threshold.spec, EventCount) else "reached"
        return "below_threshold", f"Not enough: {best.value:g} {unit} at best, {answer.threshold} needed."
    return "reached", "The threshold was reached: with events of an earlier incident, or not settled yet."
