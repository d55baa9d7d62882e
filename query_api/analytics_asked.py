"""What most analytics endpoints are asked: a window, and whose events in it count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import polars as pl
from duckdb import DuckDBPyConnection
from fastapi import Depends, Query

from operators.rollup import WHOLE
from query_api.analytics_window import From, To, Window, window_of
from query_api.integrations_wire import clean
from query_api.rollups import Wanted, select
from query_api.services import ServicesDep

Environment = Literal["live", "test", "dev"]

GuardianId = Annotated[str | None, Query(max_length=500, description="Only those of this guardian.")]
EnvironmentName = Annotated[Environment | None, Query(description="Only those of this environment.")]
Tag = Annotated[str | None, Query(max_length=500, description="Only those with this organizational tag.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """A window, and by dimension the values that count."""

    window: Window
    where: Mapping[str, tuple[str | None, ...]]

    def rows(
        self,
        con: DuckDBPyConnection,
        workspace: str,
        stream: str,
        types: Sequence[str],
        by: tuple[str, ...],
        *,
        grain: int = WHOLE,
        values: bool = False,
    ) -> pl.DataFrame:
        """Return what happened, of these types of a stream: see `query_api.rollups.select`."""
        where = {**self.where, "type": tuple(types)}
        start, end = self.window.start, self.window.end
        return select(con, Wanted(workspace, (stream,), start, end, where, by, grain, values))


def filters(guardian_id: str | None, environment: str | None, tag: str | None) -> Mapping[str, tuple[str | None, ...]]:
    """Return the dimensions that are filtered by; an empty text filters nothing."""
    named = {"guardian": clean(guardian_id), "environment": environment, "tag": clean(tag)}
    return {name: (value,) for name, value in named.items() if value is not None}


async def _asked(
    services: ServicesDep,
    start: From = None,
    end: To = None,
    guardian_id: GuardianId = None,
    environment: EnvironmentName = None,
    tag: Tag = None,
) -> Asked:
    return Asked(window_of(start, end, services.clock()), filters(guardian_id, environment, tag))


AskedDep = Annotated[Asked, Depends(_asked)]
