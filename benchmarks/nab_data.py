"""The benchmark's files: series of `timestamp,value` rows by category, and their labelled windows."""

from __future__ import annotations

import csv
import json
from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.nab_score import Labels

WINDOWS = "combined_windows.json"


@dataclass(frozen=True, slots=True)
class NabSeries:
    """One file. name: `category/file.csv`; times: seconds, float64[n]; values: float64[n]."""

    name: str
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    labels: Labels

    @property
    def category(self) -> str:
        """Return the folder of its kind."""
        return self.name.split("/")[0]


def load(folder: Path) -> list[NabSeries]:
    """Return all series under `folder`/data by name. Raises FileNotFoundError where there are no labels.

    Labels are looked for beside `data`, and in `labels` as in NAB's own repository. A series that they do not name
    has no windows.
    """
    places = [folder / WINDOWS, folder / "labels" / WINDOWS]
    found = next((place for place in places if place.is_file()), places[0])
    windows: dict[str, list[tuple[str, str]]] = json.loads(found.read_text())
    files = sorted((folder / "data").glob("*/*.csv"))
    return [read(file, windows.get(f"{file.parent.name}/{file.name}", [])) for file in files]


def read(file: Path, windows: list[tuple[str, str]]) -> NabSeries:
    """Return one file's series. windows: first and last timestamp of each."""
    with file.open(newline="") as lines:
        rows = [(_seconds(row["timestamp"]), float(row["value"])) for row in csv.DictReader(lines)]
    times = [at for at, _ in rows]
    # A time may stand twice where clocks go back: the first row of that time is meant.
    spans = tuple(
        (bisect_left(times, _seconds(a)), min(bisect_left(times, _seconds(b)), len(times) - 1)) for a, b in windows
    )
    return NabSeries(
        f"{file.parent.name}/{file.name}", np.array(times), np.array([v for _, v in rows]), Labels(len(rows), spans)
    )


def _seconds(text: str) -> float:
    at = datetime.fromisoformat(text)
    return (at - datetime(1970, 1, 1)).total_seconds()
