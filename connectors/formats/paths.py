"""JSON paths of a mapping: `$.a.b`, `$."odd name"`, `$.list[0]`, looked up in JSON text without rewriting it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec

Step = str | int
Fields = dict[str, bytes]  # the members of a JSON object: name -> the member's own JSON text, untouched
Raws = Mapping[str, bytes | msgspec.Raw]  # the same, not copied out of the record yet

_STEP = re.compile(r'\.(?:"((?:[^"\\]|\\.)*)"|([^."\[\]]+))|\[(\d+)\]')
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[msgspec.Raw])


def is_path(text: str) -> bool:
    """Whether a mapping's right side is a path; anything else is a literal."""
    return text == "$" or text.startswith(("$.", "$["))


@lru_cache(maxsize=1024)
def steps(path: str) -> tuple[Step, ...]:
    """The steps of `path`: names and list positions. Raises ValueError where it is not a path."""
    if not is_path(path):
        raise ValueError(f"{path!r} is not a path; a path looks like $.field or $.outer.inner")
    found: list[Step] = []
    at = 1
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ValueError(f"{path!r} is not a path: {path[at:]!r} is neither .name nor [number]")
        quoted, plain, index = match.groups()
        found.append(int(index) if index is not None else plain or re.sub(r"\\(.)", r"\1", quoted))
        at = match.end()
    return tuple(found)


def members(text: bytes) -> Fields:
    """The members of a JSON object that is known to be valid; of a repeated name the last one counts."""
    return {name: bytes(raw) for name, raw in _members.decode(text).items()}


def raws(text: bytes) -> Raws:
    """`members`, not copied yet."""
    return _members.decode(text)


def lookup(fields: Fields, path: tuple[Step, ...]) -> bytes | None:
    """The JSON text at `path`, None where there is nothing."""
    if not path:
        return b"{" + b",".join(msgspec.json.encode(name) + b":" + raw for name, raw in fields.items()) + b"}"
    first, *rest = path
    found = fields.get(first) if isinstance(first, str) else None
    for step in rest:
        if found is None:
            return None
        found = _child(found, step)
    return found


def _child(text: bytes, step: Step) -> bytes | None:
    if isinstance(step, str):
        return members(text).get(step) if text.startswith(b"{") else None
    if not text.startswith(b"["):
        return None
    items = _items.decode(text)
    return bytes(items[step]) if step < len(items) else None
