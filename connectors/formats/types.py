"""What every format shares: the options it decodes with and the shape of its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from operators.events import DECODED, DEFAULT_STREAM, DEFAULT_WORKSPACE

REJECTS: dict[str, pl.DataType] = {"offset": pl.Int64(), "raw": pl.String(), "error": pl.String()}


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How records become rows.

    `columns` names the DECODED columns somebody will read; the others may come back null.
    `mapping` sends foreign fields to columns: column -> `$.path.in.the.record` or a literal.
    `stream` None leaves the format its own default.
    """

    workspace: str = DEFAULT_WORKSPACE
    stream: str | None = None
    columns: frozenset[str] = frozenset(DECODED)
    mapping: Mapping[str, str] = field(default_factory=dict)
    year: int | None = None  # syslog lines carry none

    @property
    def default_stream(self) -> str:
        return self.stream or DEFAULT_STREAM


@dataclass(frozen=True, slots=True)
class Decoded:
    """The records of one chunk.

    `frame` has the DECODED columns in their order, one row a good record, `offset` its index in the chunk.
    `rejects` has REJECTS columns. `records` counts the positions the chunk holds: good, bad and blank ones.
    """

    frame: pl.DataFrame
    rejects: pl.DataFrame
    records: int
