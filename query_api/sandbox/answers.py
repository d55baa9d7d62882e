"""The answer to a statement as a body: JSON, CSV or an Arrow stream."""

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import orjson
import pyarrow as pa

from query_api.sandbox.messages import Answer, Form
from query_api.sandbox.shapes import Kind, arrow_shown, shown

ANSWER_BYTES = 32 << 20
_BATCH = 1_024  # rows


class TooLargeError(Exception):
    """The answer has more than ANSWER_BYTES."""


def answer(relation: duckdb.DuckDBPyRelation, limit: int, form: Form, began: float) -> Answer:
    """Run a statement; at most `limit` rows. began: when it did, of the monotonic clock. Raises TooLargeError."""
    return _FORMS[form](relation.limit(limit + 1), limit, began)


def _json(relation: duckdb.DuckDBPyRelation, limit: int, began: float) -> Answer:
    selected, kinds = shown(relation.types)
    columns = [{"name": name, "type": str(kind)} for name, kind in zip(relation.columns, relation.types, strict=True)]
    tell = [_TOLD[kind] for kind in kinds]
    rows, size = [], 0
    for row in _rows(relation.project(selected)):
        line = orjson.dumps([value if value is None else said(value) for said, value in zip(tell, row, strict=True)])
        rows.append(line)
        size += len(line)
    _check(size)
    truncated = len(rows) > limit
    del rows[limit:]
    body = orjson.dumps(
        {
            "columns": columns,
            "rows": orjson.Fragment(b"[" + b",".join(rows) + b"]"),
            "row_count": len(rows),
            "truncated": truncated,
            "elapsed_ms": round((time.monotonic() - began) * 1000, 1),
        }
    )
    return Answer(body, len(rows), truncated)


def _csv(relation: duckdb.DuckDBPyRelation, limit: int, began: float) -> Answer:
    selected, _ = shown(relation.types)
    text, count, truncated = io.StringIO(), 0, False
    out = csv.writer(text)
    out.writerow(relation.columns)
    for row in _rows(relation.project(selected)):
        if count == limit:
            truncated = True
            break
        out.writerow(["" if value is None else _written(value) for value in row])
        count += 1
    _check(text.tell())
    return Answer(text.getvalue().encode(), count, truncated)


def _arrow(relation: duckdb.DuckDBPyRelation, limit: int, began: float) -> Answer:
    reader = relation.project(arrow_shown(relation.columns, relation.types)).to_arrow_reader(_BATCH)
    out, count = io.BytesIO(), 0
    with pa.ipc.new_stream(out, reader.schema) as stream:
        for batch in _small(reader):
            stream.write_batch(batch.slice(0, max(limit - count, 0)))
            count += batch.num_rows
    return Answer(out.getvalue(), min(count, limit), count > limit)


def _rows(relation: duckdb.DuckDBPyRelation) -> Iterator[tuple[Any, ...]]:
    for batch in _small(relation.to_arrow_reader(_BATCH)):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _small(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches of an answer, as long as they are not too much: before they are turned into anything else."""
    size = 0
    for batch in reader:
        size += batch.nbytes
        _check(size)
        yield batch


def _check(size: int) -> None:
    if size > ANSWER_BYTES:
        raise TooLargeError


def _as_json(text: str) -> object:
    """JSON text as what it says; where JSON has no word for it (NaN), null."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return orjson.Fragment(json.dumps(json.loads(text, parse_constant=lambda _: None)))
    return orjson.Fragment(text)


def _written(value: Any) -> object:
    """A value as CSV has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if isinstance(value, float) and not math.isfinite(value) else value


_TOLD: dict[Kind, Callable[[Any], object]] = {
    "plain": lambda value: value,
    "number": lambda value: orjson.Fragment(value),
    "json": _as_json,
}
_FORMS: dict[Form, Callable[[duckdb.DuckDBPyRelation, int, float], Answer]] = {
    "json": _json,
    "csv": _csv,
    "arrow": _arrow,
}
