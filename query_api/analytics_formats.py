"""An answer of GET /v1/analytics/query as it is sent: JSON in columns, or a long table as CSV or as an Arrow stream."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from operators.events import TIMESTAMP
from operators.frames import pick
from operators.measures import Numbers, change, is_count
from query_api.analytics_question import Question
from query_api.analytics_series import Answer, Side
from query_api.integrations_wire import rfc3339

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def written(answer: Answer, kind: str) -> bytes:
    """Return the answer as one of JSON, CSV, ARROW."""
    if kind == JSON:
        return orjson.dumps(document(answer), option=_OPTIONS)
    frame = table(answer)
    if kind == CSV:
        return frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%SZ").encode()
    out = io.BytesIO()
    frame.write_ipc_stream(out, compat_level=pl.CompatLevel.oldest())
    return out.getvalue()


def document(answer: Answer) -> dict[str, Any]:
    """The answer as JSON; NumPy's arrays in it, in which NaN is null."""
    question = answer.question
    return {
        **_window(answer.now, question),
        "bucket": question.bucket,
        "timezone": question.zone.key,
        "streams": question.streams,
        "measures": question.measures,
        "group_by": question.group_by,
        "complete_through": rfc3339(answer.complete_through),
        "truncated": answer.truncated,
        "groups": answer.groups,
        "buckets": _starts(answer.now, answer),
        "previous": None
        if answer.before is None
        else {**_window(answer.before, question), "buckets": _starts(answer.before, answer)},
        "series": _series(answer),
    }


def table(answer: Answer) -> pl.DataFrame:
    """One row a bucket and series, in the order of time: `bucket`, what it is grouped by, `label` where groups have
    one, `other`, and the measures; those of the window before as `previous_<measure>`."""
    question = answer.question
    series, buckets = len(answer.keys), len(answer.kept)
    number = np.tile(np.arange(series), buckets)
    columns: list[pl.Series] = []
    if question.bucket != "none":
        starts = answer.now.grid.edges[answer.kept]
        columns.append(pl.Series("bucket", starts.repeat(series)).cast(TIMESTAMP))
    for at, name in enumerate(question.group_by):
        columns.append(pick([None if key is None else key[at] for key in answer.keys], number).alias(name))
    if question.labelled:
        columns.append(pick(answer.labels, number).alias("label"))
    if question.group_by:
        columns.append(pl.Series("other", np.array([key is None for key in answer.keys], np.bool_)[number]))
    there = np.zeros((series, buckets), np.bool_)
    for side, prefix in ((answer.now, ""), (answer.before, "previous_")):
        if side is None:
            continue
        there |= side.count[:, answer.kept] > 0
        for name, meant in zip(question.measures, question.measured, strict=True):
            values, holds = _cells(side, meant, answer)
            column = pl.Series(f"{prefix}{name}", np.ascontiguousarray(values.T).ravel(), nan_to_null=True)
            gone = pl.Series(~np.ascontiguousarray(holds.T).ravel())
            columns.append(column.set(gone, None) if gone.any() else column)
    frame = pl.DataFrame(columns)
    return frame.filter(pl.Series(there.T.ravel())) if question.fill == "none" else frame


def _window(side: Side, question: Question) -> dict[str, str | None]:
    return {"from": rfc3339(side.grid.start), "to": rfc3339(side.grid.end)}


def _starts(side: Side, answer: Answer) -> NDArray[np.datetime64] | None:
    if answer.question.bucket == "none":
        return None
    return side.grid.edges[answer.kept].astype("M8[us]")


def _series(answer: Answer) -> list[dict[str, Any]]:
    question = answer.question
    now = _values(answer.now, answer)
    before = None if answer.before is None else _values(answer.before, answer)
    found: list[dict[str, Any]] = []
    for at, key in enumerate(answer.keys):
        one: dict[str, Any] = {
            "key": {} if key is None else dict(zip(question.group_by, key, strict=True)),
            "label": answer.labels[at],
            "other": key is None,
            "total": _total(answer.now, question, at),
            "values": None if now is None else {name: values[at] for name, values in now.items()},
            "previous": None,
        }
        if answer.before is not None:
            total = _total(answer.before, question, at)
            one["previous"] = {
                "total": total,
                "change": {name: change(one["total"][name], total[name]) for name in question.measures},
                "values": None if before is None else {name: values[at] for name, values in before.items()},
            }
        found.append(one)
    return found


def _total(side: Side, question: Question, at: int) -> dict[str, int | float | None]:
    numbers = ((name, side.total.values[meant][at].item()) for name, meant in _named(question))
    return {name: None if number != number else number for name, number in numbers}


def _values(side: Side, answer: Answer) -> dict[str, Any] | None:
    """By measure [series][bucket], as orjson takes it."""
    if answer.question.bucket == "none":
        return None
    found: dict[str, Any] = {}
    for name, meant in _named(answer.question):
        values, holds = _cells(side, meant, answer)
        found[name] = values if holds.all() else _with_nulls(values, holds)
    return found


def _with_nulls(values: Numbers, holds: NDArray[np.bool_]) -> list[list[int | float | None]]:
    mixed = values.astype(object)
    mixed[~holds] = None
    found: list[list[int | float | None]] = mixed.tolist()
    return found


def _cells(side: Side, measure: str, answer: Answer) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """A measure as [series, shown bucket], and where it holds: where nothing happened, zeros may have been unwanted."""
    values: NDArray[Any] = side.values(measure)
    holds = np.ones(values.shape, np.bool_)
    if is_count(measure) and answer.question.fill != "zero" and answer.question.bucket != "none":
        holds = side.count > 0
    if len(answer.kept) < side.grid.count:
        return np.ascontiguousarray(values[:, answer.kept]), holds[:, answer.kept]
    return values, holds


def _named(question: Question) -> list[tuple[str, str]]:
    """Each measure as it was called, and what it means."""
    return list(zip(question.measures, question.measured, strict=True))
