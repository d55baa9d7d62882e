"""How early and how quietly are labelled anomalies found? The detector on the Numenta Anomaly Benchmark.

    python -m benchmarks.nab --data ../shared/data/nab

Prints the scores of every series and of all of them for NAB's three profiles, at the threshold that NAB's optimiser
chooses for the profile. The detector takes rows one after the other, knows neither their times nor their range, and
has one set of parameters for all series: its defaults.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.nab_data import WINDOWS, NabSeries, load
from benchmarks.nab_score import PROFILES, STANDARD, Result, score
from operators.anomaly import LEVEL, REST, Detector, raised

Floats = NDArray[np.float64]

LEVELS = (0.003, 0.005, 0.007, 0.01, 0.014, 0.02, 0.03)
RESTS = (36, 48, 72, 96, 144)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the detector over a folder of NAB's data and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data/nab"),
        help=f"folder with data/<category>/<series>.csv, and {WINDOWS} in it or in labels (default: %(default)s)",
    )
    parser.add_argument(
        "--cross-validate",
        action="store_true",
        help="also choose level and rest on all categories but one, and score that one with them, for each in turn",
    )
    given = parser.parse_args(arguments)
    if not (given.data / "data").is_dir():
        parser.error(f"{given.data} has no folder data/; get the data from https://github.com/numenta/NAB")
    series = load(given.data)
    p_values = [Detector().extend(each.values).p_value for each in series]
    labels = [each.labels for each in series]
    alarms = [alarm_scores(p) for p in p_values]
    results = [score(alarms, labels, profile) for profile in PROFILES]
    console = Console(width=150)
    console.print(table(series, results))
    for result in results:
        console.print(f"{result.profile.name}: {result.score:.1f} at threshold {result.threshold:.6g}")
    fixed = score(alarms, labels, STANDARD, threshold=1.0 - LEVEL)
    console.print(
        f"standard, every alarm at the default level {LEVEL:g} counted, no threshold chosen: {fixed.score:.1f}"
    )
    if given.cross_validate:
        held_out, chosen = cross_validated(series, p_values)
        console.print(f"standard, each category with level and rest chosen on the others: {held_out:.1f}")
        for category, (level, rest) in chosen.items():
            console.print(f"  {category}: level {level:g}, rest {rest}")


def alarm_scores(p_values: Floats, level: float = LEVEL, rest: int = REST) -> Floats:
    """Return a score a row, float64[n]: 1 − p-value where an alarm is raised, else 0."""
    scores = np.zeros(len(p_values))
    at = raised(p_values, level, rest)
    scores[at] = 1.0 - p_values[at]
    return scores


def cross_validated(
    series: Sequence[NabSeries], p_values: Sequence[Floats]
) -> tuple[float, dict[str, tuple[float, int]]]:
    """Return the standard score where no series had a say in its level and rest, and what was chosen by category."""
    labels = [each.labels for each in series]
    raw = {
        (level, rest): np.array(
            score([alarm_scores(p, level, rest) for p in p_values], labels, STANDARD, threshold=1.0 - level).raw
        )
        for level in LEVELS
        for rest in RESTS
    }
    categories = np.array([each.category for each in series])
    chosen, total = {}, 0.0
    for category in dict.fromkeys(categories.tolist()):
        out = categories == category
        best = max(raw, key=lambda one: float(raw[one][~out].sum()))
        chosen[category] = best
        total += float(raw[best][out].sum())
    windows = sum(len(label.windows) for label in labels)
    return 100.0 * (total + STANDARD.fn * windows) / ((STANDARD.tp + STANDARD.fn) * windows), chosen


def table(series: Sequence[NabSeries], results: Sequence[Result]) -> Table:
    """Return a line a series: windows found, false alarms (at the standard threshold), its score by profile."""
    shown = Table("series", "rows", "windows", "found", "false alarms", *(result.profile.name for result in results))
    standard = results[0]
    for n, each in enumerate(series):
        cells = [str(each.labels.rows), str(len(each.labels.windows)), str(standard.found[n])]
        shown.add_row(each.name, *cells, str(standard.false_alarms[n]), *(_cell(result, n) for result in results))
    windows = sum(len(each.labels.windows) for each in series)
    rows = sum(each.labels.rows for each in series)
    cells = [str(rows), str(windows), str(sum(standard.found)), str(sum(standard.false_alarms))]
    shown.add_section()
    shown.add_row("all", *cells, *(f"{result.score:.2f}" for result in results))
    return shown


def _cell(result: Result, n: int) -> str:
    """A series' own score, or what it costs the total where it has no windows."""
    own = result.each[n]
    return f"{own:.1f}" if own is not None else f"({result.raw[n]:.2f} raw)"


if __name__ == "__main__":
    main()
