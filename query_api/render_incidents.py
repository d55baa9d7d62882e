"""Incidents as a table, and one of them as a timeline."""

from collections.abc import Sequence
from datetime import timedelta

from rich.console import Console
from rich.text import Text

from query_api.incidents import Incident
from query_api.render import SEVERITY_STYLES, STATUS_STYLES, cell, length, line, moment, plural, table
from query_api.timeline import Alert, Timeline, Transition

_MARKS = {"Open": "●", "Recovering": "◐", "Closed": "○"}
_COLUMNS = ("id", "status", "severity", "rule", "source", "opened", "duration", "events", "tenants", "reopened")
_SPARE = ("tenants", "reopened", "severity", "duration", "events", "workspace")
_BAR = 24


def show_incidents(console: Console, incidents: Sequence[Incident], total: int) -> None:
    """Print incidents as a table. In a pipe: whole ids, and durations in seconds."""
    drawn = console.is_terminal
    workspaces = len({incident.workspace for incident in incidents}) > 1 or not drawn
    columns = (*_COLUMNS[:4], "workspace", *_COLUMNS[4:]) if workspaces else _COLUMNS
    table(console, columns, [_row(incident, drawn, workspaces) for incident in incidents], _SPARE)
    if drawn:
        part = "" if total == len(incidents) else f"{len(incidents)} of "
        line(console, Text(f"\n{part}{plural(total, 'incident')}, newest first", "dim"))


def _row(incident: Incident, drawn: bool, workspaces: bool) -> list[object]:
    seconds = f"{incident.lasted.total_seconds():g}"
    lasted = length(incident.lasted) + ("" if incident.closed_at else "+") if drawn else seconds
    return [
        incident.short_id if drawn else incident.id,
        incident.status,
        incident.severity,
        incident.rule_id,
        *([incident.workspace] if workspaces else []),
        incident.source if incident.group_key == incident.source else f"{incident.source} {incident.group_key}",
        incident.opened_at,
        lasted,
        incident.event_count,
        incident.tenant_count,
        f"{incident.reopen_count}{' chronic' if incident.chronic and drawn else ''}",
    ]


def show_timeline(console: Console, course: Timeline) -> None:
    """Print the course of an incident: drawn on a terminal, as one table of steps and alerts in a pipe."""
    if console.is_terminal:
        _head(console, course.incident)
        _steps(console, course)
        _tenants(console, course)
        return
    rows: list[tuple[object, ...]] = [
        (s.at, s.from_status, s.to_status, s.reason, s.event_count, s.window_count, s.rule_version)
        for s in course.transitions
    ]
    table(console, ("at", "from", "to", "reason", "events", "window", "version"), rows)
    if course.alerts:
        line(console)
        table(console, ("at", "alert", "cycle", "tenant"), [(a.at, a.kind, a.cycle, a.tenant) for a in course.alerts])
    if course.tenants:
        line(console)
        rows = [(t.tenant, t.event_count, t.first_seen_at, t.last_seen_at) for t in course.tenants]
        table(console, ("tenant", "events", "first_seen", "last_seen"), rows)


def _head(console: Console, incident: Incident) -> None:
    head = Text.assemble(
        (incident.id, "bold"), "  ", (cell(incident.rule_id, True), "bold"), "  ", cell(incident.source, True)
    )
    line(console, head)
    facts = Text()
    facts.append(incident.status, STATUS_STYLES.get(incident.status, ""))
    if incident.severity:
        facts.append(" · ").append(incident.severity, SEVERITY_STYLES.get(incident.severity, ""))
    said = [f"{incident.confidence} confidence" if incident.confidence else "", plural(incident.event_count, "event")]
    said += [plural(incident.tenant_count, "tenant") if incident.tenant_count else ""]
    said += [f"reopened {incident.reopen_count}×" if incident.reopen_count else ""]
    said += ["chronic" if incident.chronic else ""]
    said += [f"workspace {cell(incident.workspace, True)}", "" if incident.settled else "provisional"]
    facts.append(" · " + " · ".join(filter(None, said)))
    line(console, facts)
    line(console)


def _steps(console: Console, course: Timeline) -> None:
    steps: list[Transition | Alert] = sorted(
        [*course.transitions, *course.alerts], key=lambda step: (step.at, isinstance(step, Alert))
    )
    before = None
    day = ""
    for step in steps:
        text, moved = moment(step.at, True), Text()
        if step.at != before and before is not None:
            line(console, Text(f"{'':10}  {'+' + length(step.at - before):>17}  │", "dim"))
        shown = text[:10] if text[:10] != day else ""
        stamp = f"{shown:10}  {text[11:]:>17}" if step.at != before else f"{'':10}  {'':17}"
        moved.append(stamp + "  ", "dim" if isinstance(step, Alert) else "")
        moved.append(_alert(step) if isinstance(step, Alert) else _transition(step))
        line(console, moved)
        before, day = step.at, text[:10]


def _transition(step: Transition) -> Text:
    style = STATUS_STYLES.get(step.to_status, "")
    count = plural(step.event_count, "event")
    if step.window_count is not None and step.n == 0:
        count = f"{step.window_count} in the window"
    text = Text.assemble((f"{_MARKS.get(step.to_status, '●')} {step.to_status:<12}", style), cell(step.reason, True))
    return text.append(f"  ({count})", "dim")


def _alert(alert: Alert) -> Text:
    said = alert.kind.replace("_", " ") + (f": {cell(alert.tenant, True)}" if alert.tenant else "")
    return Text(f"│ alert {said}", "magenta")


def _tenants(console: Console, course: Timeline) -> None:
    if not course.tenants:
        return
    line(console)
    most = course.tenants[0].event_count
    wide = max(len(cell(tenant.tenant, True)) for tenant in course.tenants[:10])
    for tenant in course.tenants[:10]:
        bar = "█" * max(1, round(_BAR * tenant.event_count / most))
        span = length(tenant.last_seen_at - tenant.first_seen_at) if tenant.event_count > 1 else length(timedelta())
        line(console, Text.assemble(f"{cell(tenant.tenant, True):<{wide}}  ", (f"{bar:<{_BAR}}", "blue"),
                                    f"  {plural(tenant.event_count, 'event')} over {span}"))  # fmt: skip
    if len(course.tenants) > 10:
        line(console, Text(f"and {len(course.tenants) - 10:,} more", "dim"))
