"""How early and how quietly are labelled anomalies found? The detector on the Numenta Anomaly Benchmark.

    python -m benchmarks.nab --data ../shared/data/nab

Prints the scores of every series and of all of them for NAB's three profiles, at the threshold that NAB's optimiser
chooses for the profile. The detector takes rows one after the other, knows neither their times nor their range, and
has one set of parameters for all series: its defaults.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.nab_data import WINDOWS, NabSeries, load
from benchmarks.nab_score import PROFILES, STANDARD, Result, best_threshold, scaled, score, series_value
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
        help="also choose on all categories but one what that one is scored with, for each in turn",
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
        console.print(f"standard, threshold of each category chosen on the others: {without_own(series, alarms):.1f}")
        held_out, chosen = without_any(series, p_values)
        console.print(f"standard, level, rest and threshold of each category chosen on the others: {held_out:.1f}")
        for category, (level, rest) in chosen.items():
            console.print(f"  {category}: level {level:g}, rest {rest}")


def alarm_scores(p_values: Floats, level: float = LEVEL, rest: int = REST) -> Floats:
    """Return a score a row, float64[n]: 1 − p-value where an alarm is raised, else 0."""
    scores = np.zeros(len(p_values))
    at = raised(p_values, level, rest)
    scores[at] = 1.0 - p_values[at]
    return scores


def without_own(series: Sequence[NabSeries], scores: Sequence[Floats]) -> float:
    """Return the standard score where the threshold of a category is the best one of the other categories."""
    raw = 0.0
    for own, others in folds(series):
        threshold = best_threshold([scores[i] for i in others], [series[i].labels for i in others], STANDARD)
        raw += sum(series_value(scores[i], series[i].labels, STANDARD, threshold)[0] for i in own)
    return _scaled(series, raw)


def without_any(series: Sequence[NabSeries], p_values: Sequence[Floats]) -> tuple[float, dict[str, tuple[float, int]]]:
    """Return the same where level and rest are the best of the other categories, too; and these by category."""
    labels = [each.labels for each in series]
    tried = {(level, rest): [alarm_scores(p, level, rest) for p in p_values] for level in LEVELS for rest in RESTS}
    chosen, raw = {}, 0.0
    for own, others in folds(series):
        its = [labels[i] for i in others]
        results = {one: score([scores[i] for i in others], its) for one, scores in tried.items()}
        best = max(results, key=lambda one: results[one].score)
        chosen[series[own[0]].category] = best
        threshold = results[best].threshold
        raw += sum(series_value(tried[best][i], labels[i], STANDARD, threshold)[0] for i in own)
    return _scaled(series, raw), chosen


def folds(series: Sequence[NabSeries]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the positions of each category's series, and those of all others."""
    for category in dict.fromkeys(each.category for each in series):
        own = [i for i, each in enumerate(series) if each.category == category]
        yield own, [i for i in range(len(series)) if i not in own]


def _scaled(series: Sequence[NabSeries], raw: float) -> float:
    return scaled(raw, sum(len(each.labels.windows) for each in series), STANDARD)


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
