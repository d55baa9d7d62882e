"""The command `resolve`: a person closes the incident of one key (S9, S13).

Its body names the key: {"rule_id": "auth_failure", "group_key": "payments-service"}. Commands are few, so they are
read one at a time.
"""

import json
from typing import Any

import polars as pl

from operators.events import RAW_LIMIT
from operators.matches import MATCHES, MEDIUM, RESOLVE
from operators.rule_errors import suggest
from operators.rulebook import Rulebook

REJECTS: dict[str, pl.DataType] = {"offset": pl.Int64(), "raw": pl.String(), "error": pl.String()}


def resolves(commands: pl.DataFrame, book: Rulebook) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows of kind RESOLVE (columns MATCHES) and the commands that name no known key (columns REJECTS).

    `commands`: rows with `at`, `offset`, `workspace` and `attributes`, the body as JSON text.
    """
    found, rejects = [], []
    places = {rule.id: i for i, rule in enumerate(book.rules)}
    for row in commands.iter_rows(named=True):
        body = row.get("attributes")
        try:
            rule_id, group_key = _key(body, tuple(places))
        except ValueError as wrong:
            raw = (body or "").encode()[:RAW_LIMIT].decode(errors="ignore")
            rejects.append({"offset": row["offset"], "raw": raw, "error": str(wrong)})
            continue
        found.append(
            {"at": row["at"], "offset": row["offset"], "workspace": row["workspace"], "group_key": group_key}
            | {"policy": book.policy(row["workspace"], places[rule_id]), "kind": RESOLVE}
            | {"confidence": MEDIUM, "severity": -1}
        )
    schema = MATCHES | {"at": commands.schema["at"]}
    frame = pl.DataFrame(found, schema=schema, orient="row") if found else pl.DataFrame(schema=schema)
    return frame.with_columns(pl.col("at").cast(pl.Int64)), pl.DataFrame(rejects, schema=REJECTS)


def _key(text: str | None, known: tuple[str, ...]) -> tuple[str, str]:
    """Return the rule id and the group key that a command names, else raise ValueError."""
    try:
        body: Any = json.loads(text or "")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ValueError("resolve: expected an object with rule_id and group_key")
    rule_id, group_key = body.get("rule_id"), body.get("group_key")
    if not isinstance(rule_id, str) or not isinstance(group_key, str):
        raise ValueError(f"resolve: rule_id and group_key must be text, got {rule_id!r} and {group_key!r}")
    if rule_id not in known:
        raise ValueError(f'resolve: there is no rule "{rule_id}"; {suggest(rule_id, known)}')
    return rule_id, group_key
