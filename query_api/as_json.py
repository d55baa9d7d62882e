"""Answers for machines: JSON with times in RFC 3339, JSON text as what it is, and null for numbers JSON has not."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
from pydantic import BaseModel

# Columns that hold JSON text.
_JSON_TEXT = ("attributes", "definition")


def document(answer: BaseModel | Mapping[str, object] | Sequence[BaseModel]) -> str:
    """Return an answer as one JSON document."""
    if isinstance(answer, BaseModel):
        return _dump(answer.model_dump(mode="json"))
    if isinstance(answer, Mapping):
        return _dump(dict(answer))
    return _dump([item.model_dump(mode="json") for item in answer])


def rows(frame: pl.DataFrame) -> str:
    """Return a frame as a JSON array of objects."""
    return _dump([{name: _plain(name, value) for name, value in row.items()} for row in frame.iter_rows(named=True)])


def _plain(name: str, value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if name in _JSON_TEXT and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=_text)


def _text(value: object) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
