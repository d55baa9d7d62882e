"""Explanations in words: why an incident opened, and why one did not."""

from rich.console import Console
from rich.text import Text

from operators.rules import Rule
from query_api.explain import Explanation
from query_api.render import cell, line, moment, plural, table
from query_api.rules import threshold_text
from query_api.why_not import WhyNot


def show_explanation(console: Console, why: Explanation) -> None:
    """Print why an incident opened: its rule, what was counted, the cause of each step."""
    incident, drawn = why.incident, console.is_terminal
    line(console, Text(f"{incident.id} opened at {moment(incident.opened_at, drawn)}", "bold"))
    workspace = cell(incident.workspace, True)
    line(console, f"rule       {incident.rule_id} version {incident.rule_version} (workspace {workspace})")
    line(console, f"group      {cell(incident.group_key, True)}")
    line(console, f"opens at   {why.threshold}")
    if why.window_count is not None:
        line(console, f"counted    {plural(why.window_count, 'event')} in the window")
    if why.definition:
        listed = "; ".join(f"{key} {', '.join(map(str, v))}" for key, v in _matched(why.definition))
        line(console, f"matches    {listed or 'every event of its stream'}")
    line(console)
    if why.counted:
        rows = [(e.position, e.at, e.source, e.type, e.code, e.tenant, "late" if e.late else None) for e in why.counted]
        table(console, ("position", "at", "source", "type", "code", "tenant", "late"), rows)
    else:
        line(console, "Its events are not stored (replayed with --no-events).")
    line(console)
    steps = [(c.transition.at, c.transition.to_status, c.transition.reason, c.kind, c.position) for c in why.causes]
    table(console, ("at", "status", "reason", "cause", "last event"), steps)


def _matched(definition: dict[str, object]) -> list[tuple[str, list[object]]]:
    match = definition.get("match")
    items = match.items() if isinstance(match, dict) else []
    return [(str(key), value if isinstance(value, list) else [value]) for key, value in items]


def show_why_not(console: Console, why: WhyNot) -> None:
    """Print why a rule opened nothing, first the sentence that answers."""
    drawn = console.is_terminal
    line(console, Text(why.sentence, "bold"))
    line(console, f"rule       {why.rule_id} version {why.rule_version}, opens at {why.threshold}")
    line(console, f"looked at  {cell(why.source, True)} in workspace {cell(why.workspace, True)}")
    line(console, f"between    {moment(why.start, drawn)} and {moment(why.end, drawn)}")
    counts = f"{why.events:,} of the source, {why.matching:,} match, {why.claimed:,} claimed by the rule"
    line(console, f"events     {counts}")
    for rule, count in why.taken_by.items():
        line(console, f"taken by   {rule}: {count:,}")
    if why.best:
        best = why.best
        volume = f" over a volume of {best.volume} (at least {best.least_volume})" if best.least_volume else ""
        line(console, f"best       {best.value:g} of {best.needed:g}{volume} at {moment(best.at, drawn)}")
        line(console, f"events     {' '.join(best.events[:20])}{' …' if len(best.events) > 20 else ''}")


def show_rules(console: Console, rules: list[Rule]) -> None:
    """Print rules in the order they are tried."""
    rows = [
        (
            rule.priority,
            rule.id,
            rule.severity,
            threshold_text(rule.threshold.spec if rule.threshold else None),
            ", ".join(rule.group_by),
            ", ".join(rule.stream),
            rule.name,
        )
        for rule in rules
    ]
    table(console, ("priority", "rule", "severity", "opens at", "by", "stream", "name"), rows)
