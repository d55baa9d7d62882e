"""Decoding options as the tables that the scanner looks things up in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from connectors.formats.paths import Step, is_path, steps
from connectors.formats.record import ALWAYS, COLUMNS, NAMES, SEVERITY_WORDS, TEXTS, TIMES
from connectors.formats.scanner import tables
from connectors.formats.scanner.words import name_hash
from connectors.formats.types import DecodeOptions
from operators.events import SEVERITIES

REQUIRED = ("time", "source", "type")
ROLES = {
    **dict.fromkeys(TEXTS, tables.TEXT),
    **dict.fromkeys(TIMES, tables.TIME),
    "value": tables.VALUE,
    "severity": tables.SEVERITY,
    "record": tables.RECORD,
    "attributes": tables.ATTRIBUTES,
}


@dataclass(frozen=True, slots=True)
class Search:
    """`tables` and the columns they find, in their order; `literals` are the columns that have one value."""

    tables: tables.Tables
    columns: tuple[str, ...]
    literals: Mapping[str, str]


def search(options: DecodeOptions) -> Search | None:
    """What to search for; None where a mapping asks for what only record.py can do."""
    return _search(tuple(sorted(options.mapping.items())), ALWAYS | options.columns)


@dataclass(slots=True)
class _Tree:
    """Nodes and the edges between them: (node, name or place, node below)."""

    edges: list[tuple[int, Step, int]] = field(default_factory=list)
    nodes: int = 1

    def node(self, path: tuple[Step, ...]) -> int:
        """The node at `path`, made where it does not exist."""
        node = 0
        for step in path:
            below = next((child for parent, name, child in self.edges if (parent, name) == (node, step)), None)
            if below is None:
                below, self.nodes = self.nodes, self.nodes + 1
                self.edges.append((node, step, below))
            node = below
        return node


@lru_cache(maxsize=64)
def _search(mapping: tuple[tuple[str, str], ...], kept: frozenset[str]) -> Search | None:
    targets = dict(mapping)
    literals = {name: _literal(name, text) for name, text in mapping if name in COLUMNS and not is_path(text)}
    paths = {name: steps(text) for name, text in mapping if name in COLUMNS and is_path(text)}
    if "" in literals.values() or () in paths.values():
        return None
    tree = _Tree()
    columns = [name for name in COLUMNS if name not in literals and (name != "attributes" or name in kept)]
    columns.sort(key=lambda name: name not in REQUIRED)  # so that a row is given up early
    nodes = [_nodes(name, paths, tree) for name in columns]
    whole = {path[0] for path in paths.values() if len(path) == 1}
    whole |= {name for column in COLUMNS if column not in targets for name in NAMES[column]}
    own = {node for name, found in zip(columns, nodes, strict=True) if name == "attributes" for node in found}
    inside = own | {parent for parent, _, _ in tree.edges}
    taken = {child for parent, name, child in tree.edges if parent == 0 and name in whole}
    words = tree.nodes  # one more node, with an edge for every severity word
    edges: list[tuple[int, Step, int]] = [
        *tree.edges,
        *((words, word, SEVERITIES.index(severity)) for word, severity in SEVERITY_WORDS.items()),
    ]
    deepest = max([len(path) for path in paths.values()], default=0) + 2
    if len(edges) > tables.MOST_EDGES or max(words, deepest) >= tables.MOST_NODES:
        return None
    made = np.zeros(1, tables.WANTED)
    table = made[0]
    if not _fill_edges(table, edges):
        return None
    for mask, nodes_of in ((table.inside, inside), (table.own, own), (table.taken, taken)):
        mask[list(nodes_of)] = 1
    for column, (name, found) in enumerate(zip(columns, nodes, strict=True)):
        table.role[column], table.kept[column], table.required[column] = ROLES[name], name in kept, name in REQUIRED
        table.one[column], table.two[column] = [*found, -1][:2]
    table.columns, table.words, table.attributes = len(columns), words, "attributes" in kept
    table.severities[:] = [_view(severity) for severity in SEVERITIES]
    return Search(made, tuple(columns), literals)


def _nodes(column: str, paths: Mapping[str, tuple[Step, ...]], tree: _Tree) -> list[int]:
    if column in paths:
        return [tree.node(paths[column])]
    return [tree.node((name,)) for name in NAMES[column]]


def _literal(column: str, text: str) -> str:
    """The column's one value, "" where it cannot be told here."""
    if column == "severity":
        return SEVERITY_WORDS.get(text.strip().lower(), "")
    return text if ROLES[column] == tables.TEXT else ""


def _fill_edges(table: tables.Wanted, edges: list[tuple[int, Step, int]]) -> bool:
    """Whether there is room for the names."""
    names = [name.encode() if isinstance(name, str) else b"" for _, name, _ in edges]
    joined = np.frombuffer(b"".join(names), np.uint8)
    if len(joined) > tables.MOST_BYTES:
        return False
    table.names[: len(joined)] = joined
    table.length[: len(edges)] = [len(name) for name in names]
    table.name_from[1 : len(edges)] = np.cumsum(table.length[: len(edges) - 1])
    table.edges = len(edges)
    table.first[:] = -1
    with np.errstate(over="ignore"):  # a hash wraps round
        for edge, (parent, name, child) in enumerate(edges):
            table.parent[edge], table.child[edge] = parent, child
            table.position[edge] = -1 if isinstance(name, str) else name
            if isinstance(name, str):
                text = names[edge]
                table.head[edge], table.tail[edge] = _word(text[:8]), _word(text[-8:])
                bucket = name_hash(table.head[edge], table.tail[edge])
                table.following[edge], table.first[bucket] = table.first[bucket], edge
    return True


def _word(text: bytes) -> int:
    return int.from_bytes(text, "little")


def _view(text: str) -> list[int]:
    """A text of at most 12 bytes as an Arrow string view."""
    return np.frombuffer(len(text).to_bytes(4, "little") + text.encode().ljust(12, b"\0"), np.int64).tolist()
