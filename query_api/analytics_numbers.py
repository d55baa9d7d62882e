"""How the Analytics surface says numbers: counts, shares, milliseconds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from operators.events import TIMESTAMP
from operators.histogram import Floats, Ints
from operators.rollup import READS, added, rollup
from operators.texts import coded

RANKS = (0.5, 0.95, 0.99)
_DIGITS = 4


def shares(counts: Sequence[int], digits: int) -> list[float | None]:
    """Return what part of their sum each count is, with so many decimals; null where the sum is 0.

    They add up to 1: each is rounded down, and what is then missing goes to those that lost most (Hamilton's method).
    """
    total, unit = sum(counts), 10**digits
    if not total:
        return [None] * len(counts)
    parts = [count * unit // total for count in counts]
    lost = sorted(range(len(counts)), key=lambda n: (-(counts[n] * unit % total), n))
    for n in lost[: unit - sum(parts)]:
        parts[n] += 1
    return [part / unit for part in parts]


def rate(count: int, total: int, digits: int) -> float | None:
    """Return count / total with so many decimals; null where the total is 0."""
    return round(count / total, digits) if total else None


def milliseconds(value: float) -> float | int | None:
    """Return a latency with four significant digits, whole where it is; null for NaN. Far below what bins are off."""
    if not np.isfinite(value):
        return None
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


def mean(total: float, count: int) -> float | int | None:
    """Return the mean of `count` latencies that sum to `total`."""
    return milliseconds(total / count) if count else None


def percentiles(found: Floats) -> dict[str, Any]:
    """Return the members of an answer for the percentiles RANKS of one group."""
    p50, p95, p99 = (milliseconds(value) for value in found.tolist())
    return {"latency_p50_ms": p50, "latency_p95_ms": p95, "latency_p99_ms": p99}


def warm() -> None:
    """Load what finds percentiles, and compile it where that was never done: seconds that no question should wait."""
    start = pl.Series("time", [0], pl.Int64).cast(TIMESTAMP)
    event = {"workspace": ["w"], "stream": ["verdict"], "source": ["g"], "type": ["passed"], "value": [1.0]}
    none = pl.Series([None], dtype=pl.String)
    nothing = {name: none for name in READS if name not in ("time", *event)}
    rows = rollup(pl.DataFrame({"time": start, **event, **nothing})).with_columns(
        pl.lit(1).alias("values"), pl.lit(1.0).alias("sum")
    )
    added(rows, np.zeros(1, np.int64), 1, RANKS)


def places(column: pl.Series) -> tuple[list[str | None], Ints]:
    """Return the different texts of a column, null maybe among them, and the place of each row's among them."""
    numbers, texts = coded(column)
    used, at = np.unique(numbers, return_inverse=True)
    return [texts[n] for n in used.tolist()], at.astype(np.int64)


def kinds(rows: pl.DataFrame, types: Sequence[str]) -> Ints:
    """Return the place of each row's type among `types`. rows: with no other types."""
    number = {name: place for place, name in enumerate(types)}
    found: Ints = rows["type"].replace_strict(number, return_dtype=pl.Int64).to_numpy()
    return found
