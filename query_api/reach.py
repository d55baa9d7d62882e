"""How near did a rule come to its threshold? Every threshold type, measured at each match."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
from pydantic import BaseModel

from operators.matches import MATCH
from operators.rules import Anomaly, Ratio, ThresholdSpec, ValueAvg, ValueCount, ValuePercentile, ValueSum
from operators.thresholds.anomaly import History
from operators.windows import lefts, starts


class Reached(BaseModel):
    """The best window: the one that ends at `at`. `volume`: what it holds that the threshold looks at."""

    at: datetime
    group_key: str
    value: float
    needed: float
    volume: int
    least_volume: int
    met: bool
    events: list[str]  # positions of the matches in the window


def best_reached(matches: pl.DataFrame, spec: ThresholdSpec | None, start: datetime, end: datetime) -> Reached | None:
    """Return the best window ending in (start, end], or None without any that can be measured.

    matches: columns `at`, `group_key`, `kind`, `measure`, `item`, `partition`, `position`, sorted by `at`. A window
    that is met comes first, then one with enough volume, then the highest value, then the earliest.
    """
    window = timedelta(microseconds=spec.window) if spec else timedelta(microseconds=1)
    is_match = pl.col("kind") == MATCH
    needed, least = _needed(spec), _least(spec)
    if isinstance(spec, Anomaly):
        measured = _unlikely(matches.filter(is_match), spec)
    else:
        value, volume = _measure(spec, is_match)
        measured = matches.rolling("at", period=window, closed="right", group_by="group_key").agg(
            value=value.cast(pl.Float64), volume=volume.cast(pl.Int64), match=is_match.last()
        )
    ends = (
        measured.filter("match", pl.col("value").is_not_null(), pl.col("at").is_between(start, end, "right"))
        .with_columns(enough=pl.col("volume") >= least)
        .with_columns(met=pl.col("enough") & (pl.col("value") >= needed))
        .sort("met", "enough", "value", "at", descending=[True, True, True, False])
    )
    if ends.is_empty():
        return None
    top = ends.row(0, named=True)
    held = matches.filter(
        is_match,
        pl.col("group_key") == top["group_key"],
        pl.col("at").is_between(top["at"] - window, top["at"], "right"),
    )
    return Reached(
        at=top["at"],
        group_key=top["group_key"],
        value=top["value"],
        needed=needed,
        volume=top["volume"],
        least_volume=least,
        met=top["met"],
        events=[f"{p}:{n}" for p, n in held.select("partition", "position").iter_rows()],
    )


def _measure(spec: ThresholdSpec | None, is_match: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Return what a window reaches, and the volume it reaches it with, as aggregations."""
    measure = pl.col("measure").filter(is_match).drop_nulls()
    match spec:
        case ValueCount():
            items = pl.col("item").filter(is_match).drop_nulls()
            return items.n_unique(), items.len()
        case ValueSum():
            return measure.sum(), measure.len()
        case ValueAvg():
            return measure.mean(), measure.len()
        case ValuePercentile():
            rank = (measure.len() * spec.percentile / 100).ceil().cast(pl.Int64) - 1  # nearest rank
            return measure.sort().get(rank, null_on_oob=True), measure.len()
        case Ratio():
            return is_match.mean(), pl.len()
    return is_match.sum(), is_match.sum()


def _unlikely(matches: pl.DataFrame, spec: Anomaly) -> pl.DataFrame:
    """Return for each match how improbable its last bucket's count is (1 − p-value), and that count."""
    ordered = matches.select("at", "group_key", match=True, slot=pl.col("group_key").rank("dense")).sort("slot", "at")
    slot = ordered["slot"].to_numpy().astype(np.int64)
    at = ordered["at"].dt.epoch("us").to_numpy().astype(np.int64)
    rows, start = np.arange(len(at)), starts(slot)
    windows, buckets = (lefts(slot, at, start, np.full(len(at), length)) for length in (spec.window, spec.bucket))
    value = 1.0 - History(spec, slot, at).p_values(windows, rows + 1)
    return ordered.with_columns(value=pl.Series(value), volume=pl.Series(rows + 1 - buckets)).with_columns(
        value=pl.when(pl.col("value") >= 0).then("value")  # else there is no history to judge by
    )


def _needed(spec: ThresholdSpec | None) -> float:
    if isinstance(spec, Anomaly):
        return 1.0 - spec.level
    return float(spec.gte) if spec else 1.0


def _least(spec: ThresholdSpec | None) -> int:
    if isinstance(spec, Ratio):
        return spec.min_volume
    return spec.min_events if isinstance(spec, ValueAvg | ValuePercentile | Anomaly) else 0
