"""How a log line becomes a type and a code: rules as data, in log_types.yaml and in mapping files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars as pl
import yaml

DEFAULT_TYPE = "log"
MATCHED = {"access_log": "status", "syslog": "message"}  # the field a format's rules match, unless they name another
_KEYS = ("match", "type", "code", "field", "program")
_FORBIDDEN = ("offset", "raw", "time")


@dataclass(frozen=True, slots=True)
class TypeRule:
    """Lines whose `field` matches get `type` and `code`; the named groups become fields."""

    match: str
    type: str
    code: str | None
    field: str
    program: str | None

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(re.findall(r"\(\?P?<([A-Za-z_]\w*)>", self.match))


@lru_cache(maxsize=64)
def rules_of(format_name: str, own: str | None = None) -> tuple[TypeRule, ...]:
    """The rules of a log format: those of a mapping (`own`: JSON text) before the shipped ones. Raises ValueError."""
    shipped = yaml.safe_load(Path(__file__).with_name("log_types.yaml").read_text())[format_name]
    return _parsed(json.loads(own) if own else [], format_name) + _parsed(shipped, format_name)


def typed(lines: pl.DataFrame, rules: Sequence[TypeRule]) -> pl.DataFrame:
    """`lines` with type, code and a column for each named group that occurs.

    `lines`: offset and the text fields the rules match, in order of offset.
    """
    rest = lines
    parts = []
    for rule in rules:
        hit = pl.col(rule.field).str.contains(rule.match)
        if rule.program is not None:
            hit &= pl.col("program") == rule.program
        mask = rest.select(hit.fill_null(False)).to_series()
        if mask.any():
            parts.append(_with_type(rest.filter(mask), rule))
            rest = rest.filter(~mask)
    parts.append(rest.with_columns(type=pl.lit(DEFAULT_TYPE), code=pl.lit(None, pl.String)))
    # A fixed order of columns: the attributes must not look different when the same line comes in another chunk.
    found = pl.concat(parts, how="diagonal").sort("offset")
    order = dict.fromkeys([*lines.columns, "type", "code", *(name for rule in rules for name in rule.groups)])
    return found.select(name for name in order if name in found.columns)


def _with_type(lines: pl.DataFrame, rule: TypeRule) -> pl.DataFrame:
    if rule.groups:
        captured = lines.select(pl.col(rule.field).str.extract_groups(rule.match).alias("groups")).unnest("groups")
        lines = lines.with_columns(captured.select(name for name in rule.groups if name in captured.columns))
    return lines.with_columns(type=pl.lit(rule.type), code=pl.lit(rule.code, pl.String))


def _parsed(rules: object, format_name: str) -> tuple[TypeRule, ...]:
    if not isinstance(rules, list):
        raise ValueError(f"{format_name}: a list of rules with match and type is expected")
    return tuple(_rule(rule, f"{format_name} rule {n}", format_name) for n, rule in enumerate(rules, 1))


def _rule(rule: object, where: str, format_name: str) -> TypeRule:
    if not isinstance(rule, dict) or not all(isinstance(rule.get(key), str) and rule[key] for key in ("match", "type")):
        raise ValueError(f"{where}: match and type are expected, both as text")
    unknown = sorted(str(key) for key in rule.keys() - set(_KEYS))
    if unknown:
        raise ValueError(f"{where}: unknown field {unknown[0]!r}; allowed are {', '.join(_KEYS)}")
    texts = {key: None if rule.get(key) is None else str(rule[key]) for key in _KEYS}
    made = TypeRule(
        match=str(rule["match"]),
        type=str(rule["type"]),
        code=texts["code"],
        field=texts["field"] or MATCHED[format_name],
        program=texts["program"],
    )
    try:
        pl.Series([""]).str.contains(made.match)
    except pl.exceptions.ComputeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{where}: {made.match!r} is not a regular expression ({reason})") from None
    for name in made.groups:
        if name in _FORBIDDEN:
            raise ValueError(f"{where}: a group cannot be named {name!r}")
    return made
