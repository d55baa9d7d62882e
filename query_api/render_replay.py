"""The summary of a replay."""

from collections.abc import Mapping

from rich.console import Console

from query_api.render import plural

STATUSES = ("open", "recovering", "closed")


def show_summary(console: Console, counts: Mapping[str, int], seconds: float) -> None:
    """Print what was read, what came of it, and what could not be used; `counts` as in `flows.replay.Result`."""
    records = counts["records"]
    rate = f"{records / seconds:,.0f} events/s" if seconds else ""
    console.print(f"{plural(records, 'record')} in {seconds:.1f} s ({rate})", highlight=False)
    matches = f"{counts['matches']:,} match{'' if counts['matches'] == 1 else 'es'}"
    by_status = ", ".join(f"{counts[status]:,} {status}" for status in STATUSES if counts.get(status))
    total = sum(counts.get(status, 0) for status in STATUSES)
    console.print(
        f"{plural(total, 'incident')}{f': {by_status}' if by_status else ''}, from {matches}",
        highlight=False,
    )
    notes = [
        f"{counts['late']:,} late" if counts["late"] else "",
        f"{plural(counts['duplicates'], 'duplicate')} dropped" if counts["duplicates"] else "",
    ]
    if any(notes):
        console.print(", ".join(note for note in notes if note), highlight=False)
    if counts["dead_letters"]:
        text = plural(counts["dead_letters"], "record") + " could not be used: see the table dead_letters"
        console.print(text, style="yellow", highlight=False)
