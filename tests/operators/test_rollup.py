"""Rollups are sums, whatever is added first, and their percentiles are near the truth."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators import adding, histogram, json_keys
from operators.events import EVENTS, HOUR, MINUTE
from operators.rollup import DIMENSIONS, KEYED, NO_SESSIONS, ROLLUP, added, keyed, merged, rollup

SOURCE = ("workspace", "stream", "source")
START = datetime(2026, 5, 1, tzinfo=UTC)


@contextmanager
def worth(rows: int) -> Iterator[None]:
    """Let what is compiled be used from so many rows on."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (adding, histogram, json_keys):
            patch.setattr(module, "WORTH", rows)
        yield


FEW_OR_MANY = st.sampled_from([0, 1_000_000])
NUMBERS = st.one_of(
    st.none(),
    st.just(0.0),
    st.floats(-1e12, 1e12, allow_nan=False),
    st.floats(1e-3, 1e6),
    st.just(math.nan),
)


@st.composite
def events(draw: st.DrawFn, most: int = 40) -> list[dict[str, Any]]:
    """Events of two hours in every stream, with what makes a dimension and what does not."""
    drawn = []
    for n in range(draw(st.integers(0, most))):
        stream = draw(st.sampled_from(["verdict", "tool_call", "identity", "integration", "log"]))
        said = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "guardian_id": st.sampled_from(["g1", "g2", "Ж"]),
                    "guardian_name": st.sampled_from(["PII", 'quo"ted']),
                    "nhi_label": st.sampled_from(["ci", "bot"]),
                    "environment": st.sampled_from(["live", "test"]),
                    "tag": st.sampled_from(["a", ""]),
                    "nested": st.just({"environment": "not this"}),
                },
            )
        )
        drawn.append(
            {
                "time": START + timedelta(microseconds=draw(st.integers(0, 2 * HOUR - 1))),
                "workspace": draw(st.sampled_from(["w1", "w2"])),
                "stream": stream,
                "source": draw(st.sampled_from(["s1", "s2", "s3"])),
                "type": draw(st.sampled_from(["passed", "blocked", "error"])),
                "code": draw(st.sampled_from([None, "pii", "500", "5000", "denied"])),
                "tenant": draw(st.sampled_from([None, "t1", "t2"])),
                "severity": draw(st.sampled_from([None, "high", "low", "critical"])),
                "value": draw(NUMBERS),
                "attributes": draw(st.sampled_from([None, _json(said)])),
                "partition": "p",
                "offset": n,
            }
        )
    return drawn


def _json(said: dict[str, Any]) -> str:
    import json

    return json.dumps(said, ensure_ascii=False)


def frame(given: list[dict[str, Any]]) -> pl.DataFrame:
    """Events as a frame with the columns EVENTS; what is not said is null."""
    return pl.DataFrame([{name: row.get(name) for name in EVENTS} for row in given], schema=EVENTS, orient="row")


def dimensions(row: dict[str, Any]) -> tuple[str | None, ...]:
    """What an event is counted under, said plainly."""
    import json

    said = json.loads(row["attributes"] or "{}")
    stream = row["stream"]
    has = stream in ("verdict", "tool_call", "identity")
    guardian = row["source"] if stream == "verdict" else said.get("guardian_id") if has else None
    label = {"verdict": said.get("guardian_name"), "identity": said.get("nhi_label")}.get(stream)
    return (
        row["workspace"], stream, row["source"], row["type"], row["code"], guardian, label,
        said.get("environment") if has else None,
        said.get("tag") if has else None,
        row["tenant"] if stream == "tool_call" else None,
    )  # fmt: skip


def fails(row: dict[str, Any]) -> bool:
    """Is it a failure?"""
    code = row["code"] or ""
    return (
        row["type"] == "error" or row["severity"] in ("high", "critical") or (len(code) == 3 and code.startswith("5"))
    )


Cell = tuple[Any, ...]


def oracle(given: list[dict[str, Any]], size: int, keep: tuple[str, ...]) -> dict[Cell, list[Any]]:
    """Bucket and dimensions to [count, errors, values]."""
    found: dict[Cell, list[Any]] = defaultdict(lambda: [0, 0, []])
    for row in given:
        micros = (row["time"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        said = zip(DIMENSIONS, dimensions(row), strict=True)
        cell = found[micros // size * size, *(text for name, text in said if name in keep)]
        cell[0] += 1
        cell[1] += fails(row)
        if row["value"] is not None and not math.isnan(row["value"]):
            cell[2].append(row["value"])
    return dict(found)


def check(rows: pl.DataFrame, expected: dict[Cell, list[Any]], keep: tuple[str, ...]) -> None:
    """The rows say what is expected, a row each."""
    assert rows.schema == pl.Schema(ROLLUP)
    assert rows.height == len(expected)
    for row in rows.with_columns(pl.col("start").to_physical()).iter_rows(named=True):
        count, errors, values = expected[row["start"], *(row[name] for name in keep)]
        assert (row["count"], row["errors"], row["value_count"]) == (count, errors, len(values))
        assert row["total"] == pytest.approx(sum(round(v * 1e6) for v in values), abs=len(values))
        counted = Counter(histogram.bins_of(np.array(values)).tolist())
        assert dict(zip(row["bins"], row["bin_counts"], strict=True)) == counted
        assert row["bins"] == sorted(row["bins"])
        assert all(row[name] is None for name in DIMENSIONS if name not in keep)


@given(events(), FEW_OR_MANY)
def test_a_minute_is_what_happened_in_it(given: list[dict[str, Any]], rows: int) -> None:
    """Every dashboard adds these up. Few events are added in another way than many."""
    with worth(rows):
        check(rollup(frame(given)), oracle(given, MINUTE, DIMENSIONS), DIMENSIONS)


@given(events(), st.tuples(st.integers(0, 40), st.integers(0, 40)), FEW_OR_MANY)
def test_sums_do_not_depend_on_what_is_added_first(
    given: list[dict[str, Any]], cuts: tuple[int, int], many: int
) -> None:
    """A replay flushes in other portions than the live service, and shows the same."""
    with worth(many):
        whole = frame(given)
        first, second = sorted(min(cut, len(given)) for cut in cuts)
        parts = [rollup(part) for part in (whole[second:], whole[:first], whole[first:second])]
        once = merged(rollup(whole))
        assert merged(pl.concat(parts)).equals(once)
        assert once.equals(once.sort("start", *DIMENSIONS))
        check(merged(pl.concat(parts), HOUR, NO_SESSIONS), oracle(given, HOUR, NO_SESSIONS), NO_SESSIONS)
        check(merged(once, HOUR, SOURCE), oracle(given, HOUR, SOURCE), SOURCE)
        if given:
            rows, keys = keyed(once)
            assert rows.schema == pl.Schema(KEYED)
            assert keys["key"].is_unique().all()
            assert rows.join(keys, on="key", maintain_order="left").select(ROLLUP.keys()).equals(once)


@given(st.lists(st.lists(st.sampled_from(["", "a", "\x1f", "\x1e", '"', ","]), max_size=4).map("".join), min_size=6))
def test_a_key_stands_for_one_combination(texts: list[str]) -> None:
    """Two under one key would show the events of one as those of the other, for good; senders choose the texts."""
    given = [
        {"time": START, "workspace": "w", "stream": "log", "source": source, "type": kind, "code": code or None}
        for source, kind, code in zip(texts, texts[1:], texts[2:], strict=False)
    ]
    rows, keys = keyed(rollup(frame(given)))
    assert rows.height == keys.height == len({tuple(row.values()) for row in given})
    assert keys["key"].is_unique().all()


@given(st.lists(st.floats(-1e12, 1e12, allow_nan=False), min_size=1, max_size=200), st.floats(0.001, 1.0), FEW_OR_MANY)
def test_percentiles_are_within_one_percent(values: list[float], rank: float, many: int) -> None:
    """Of the exact one of the nearest rank, whatever the values, also put together from parts."""
    given = [
        {"time": START, "workspace": "w", "stream": "log", "source": "s", "value": v, "partition": "p"} for v in values
    ]
    cut = len(values) // 3
    rows = pl.concat([rollup(frame(given[:cut])), rollup(frame(given[cut:]))])
    shown = rows.with_columns(values=pl.col("value_count"), sum=pl.col("total") / 1e6)
    with worth(many):
        found = added(shown, np.zeros(rows.height, np.int64), 1, [rank])
    exact = sorted(values)[max(1, math.ceil(rank * len(values) - 1e-9)) - 1]
    assert found.quantiles[0, 0] == pytest.approx(exact, rel=histogram.ERROR * (1 + 1e-9), abs=1e-6)
    assert found.count[0] == found.values[0] == len(values)
    assert found.sum[0] == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-6 * len(values))


def test_groups_without_values_have_no_percentile() -> None:
    """An empty minute has no latency, and must not have that of its neighbour."""
    rows = rollup(frame([{"time": START, "workspace": "w", "stream": "log", "source": "s", "value": 5.0}]))
    shown = rows.with_columns(values=pl.col("value_count"), sum=pl.col("total") / 1e6)
    found = added(shown, np.array([1]), 3, [0.5, 1.0])
    assert found.quantiles[1] == pytest.approx([5.0, 5.0], rel=0.01)
    assert np.isnan(found.quantiles[[0, 2]]).all()
    assert found.count.tolist() == [0, 1, 0]


def test_the_order_of_rows_does_not_show_in_sums() -> None:
    """The store gives rows in no order, and an answer's ETag must not depend on it."""
    values = [0.1, 1e8, 0.2, 0.3, 3e7, 0.7, 1e-6, 5.5] * 20
    rows = pl.DataFrame({"sum": values}).with_columns(count=1, errors=0, values=1)
    one, other = (added(part, np.zeros(len(values), np.int64), 1).sum[0] for part in (rows, rows.sort("sum")))
    assert one == other


def test_many_groups_are_counted_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded, and nothing is lost at the seams."""
    given = [
        {"time": START, "workspace": "w", "stream": "log", "source": f"s{n:02d}", "value": float(n + 1)}
        for n in range(50)
    ]
    rows = rollup(frame(given)).with_columns(values=pl.col("value_count"), sum=pl.col("total") / 1e6)
    whole = added(rows, np.arange(50), 50, [0.5]).quantiles
    monkeypatch.setattr(histogram, "_CELLS", 700)
    assert (added(rows, np.arange(50), 50, [0.5]).quantiles == whole).all()
    with worth(0):
        assert (added(rows, np.arange(50), 50, [0.5]).quantiles == whole).all()


def test_bins_sort_as_their_values_do() -> None:
    """Also below zero, and what is too large or too small stays at the end."""
    values = np.array([-1e300, -5.0, -1e-6, -1e-9, 0.0, 1e-9, 1e-6, 1.0, 1.0001, 5.0, 1e12, 1e300])
    bins = histogram.bins_of(values).astype(int)
    assert (np.diff(bins) >= 0).all()
    assert bins[3] == bins[4] == bins[5] == 0
    assert histogram.value_of(bins)[[1, 9]] == pytest.approx([-5, 5], rel=0.01)
    assert histogram.value_of(bins)[[0, -1]] == pytest.approx([-1e12, 1e12], rel=0.01)
