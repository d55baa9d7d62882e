"""Mappings: foreign fields into event columns, arrays into events, log lines into types.

A mapping is text by key, so that it travels in `DecodeOptions.mapping`:

- an event column -> `$.path.in.the.record`, or a literal
- `explode` -> the path of an array; each of its elements becomes a record
- `keep.NAME` -> a path in the record around the element; what is there becomes the element's field NAME
- `access_log`, `syslog` -> rules as JSON text, tried before the format's own (formats/log_types.py)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import yaml

from connectors.formats import explode
from connectors.formats.log_types import MATCHED, rules_of
from connectors.formats.paths import is_path, steps
from operators.events import DECODED

COLUMNS = tuple(name for name in DECODED if name != "offset")
_FILE_KEYS = ("columns", "explode", "keep", *MATCHED)


class MappingError(ValueError):
    """A mapping that makes no sense; the text says where, what, and what is allowed."""


def assignments(texts: Sequence[str]) -> dict[str, str]:
    """The mapping of `--map column=$.path` and `--map column=text` arguments. Raises MappingError."""
    mapping: dict[str, str] = {}
    for text in texts:
        key, equals, target = text.partition("=")
        if not equals or not target:
            raise MappingError(f"--map {text}: column=$.path or column=text is expected")
        mapping[key.strip()] = target
    return checked(mapping, "--map")


def load(text: str, filename: str) -> dict[str, str]:
    """The mapping of a YAML file's text (docs/formats.md). Raises MappingError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MappingError(f"{filename}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise MappingError(f"{filename}: an object with {', '.join(_FILE_KEYS)} is expected")
    unknown = sorted(str(key) for key in document if key not in _FILE_KEYS)
    if unknown:
        raise MappingError(f"{filename}: unknown field {unknown[0]!r}; allowed are {', '.join(_FILE_KEYS)}")
    mapping = _texts(document.get("columns"), f"{filename}: columns")
    kept = _texts(document.get("keep"), f"{filename}: keep")
    mapping |= {explode.KEEP + name: path for name, path in kept.items()}
    if document.get("explode") is not None:
        mapping[explode.KEY] = str(document["explode"])
    mapping |= {log: json.dumps(document[log]) for log in MATCHED if document.get(log) is not None}
    return checked(mapping, filename)


def checked(mapping: Mapping[str, str], where: str) -> dict[str, str]:
    """`mapping`, if every key is one of those above and every target makes sense for it. Raises MappingError."""
    for key, target in mapping.items():
        try:
            _check(key, target)
        except ValueError as error:
            raise MappingError(f"{where}: {error}") from None
    if any(key.startswith(explode.KEEP) for key in mapping) and explode.KEY not in mapping:
        raise MappingError(f"{where}: keep is only for records that are taken apart by explode")
    return dict(mapping)


def _check(key: str, target: str) -> None:
    if key in MATCHED:
        rules_of(key, target)
    elif key == explode.KEY or key.startswith(explode.KEEP):
        steps(target)
    elif key not in COLUMNS:
        raise ValueError(f"{key!r} is no event column; allowed are {', '.join(COLUMNS)}, explode and keep.NAME")
    elif is_path(target):
        steps(target)
    elif key == "value":
        _number(target)
    elif key == "attributes":
        raise ValueError("attributes: a path such as $.payload is expected")


def _number(text: str) -> None:
    try:
        if not isinstance(json.loads(text), bool | int | float):
            raise ValueError
    except ValueError:
        raise ValueError(f"value: {text!r} is neither a number nor a path such as $.latency") from None


def _texts(entries: object, where: str) -> dict[str, str]:
    if entries is None:
        return {}
    if not isinstance(entries, dict):
        raise MappingError(f"{where}: an object of name: target is expected")
    for name, target in entries.items():
        if not isinstance(target, str | int | float) or isinstance(target, bool) or target == "":
            raise MappingError(f"{where}: {name}: a path such as $.field or a text is expected")
    return {str(name): str(target) for name, target in entries.items()}
