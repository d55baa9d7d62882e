"""YAML text as plain values, with the line of each.

Plain scalars mean what they mean in JSON: a number, true, false, null, or else text. So `no`, `1:30`, `0401` and
`2024-01-01` stay text here, where YAML 1.1 would make something else of them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from operators.rule_errors import Problem, RuleError

Path = tuple[str | int, ...]

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_MOST_VALUES = 200_000  # aliases can make a small file a huge value
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "merge")}


@dataclass(slots=True)
class Document:
    """The value of one file; `lines` has the line (from 1) of every value and key by its path."""

    filename: str
    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """Return the line of the value at `path`, or of the nearest thing around it that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: Path, message: str) -> Problem:
        """Return a problem with the value at `path`."""
        return Problem(self.filename, self.line(path), field_path(path), message)


def field_path(path: Path) -> str:
    """Return `path` as people write it: ("rules", 2, "match", "type") is `rules[2].match.type`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def parse_yaml(text: str, filename: str) -> Document:
    """Return the value of `text`. Raises RuleError where it is no YAML; repeated keys are among `problems`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        reason = ", ".join(part for part in (wrong.context, wrong.problem) if part)
        raise RuleError([Problem(filename, mark.line + 1 if mark else 1, "", f"not valid YAML: {reason}")]) from None
    except yaml.YAMLError as wrong:
        reason = str(wrong).splitlines()[0]
        raise RuleError([Problem(filename, 1, "", f"not valid YAML: {reason}")]) from None
    document = Document(filename)
    if root is not None:
        document.value = _Reader(document).read(root, (), ())
    return document


@dataclass(slots=True)
class _Reader:
    document: Document
    count: int = 0

    def read(self, node: yaml.Node, path: Path, above: tuple[yaml.Node, ...]) -> Any:
        self.count += 1
        if self.count > _MOST_VALUES or any(node is parent for parent in above) or len(above) > 100:
            problem = self.document.problem(path, "too deep, too large, or an alias that contains itself")
            raise RuleError([problem])
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        inner = (*above, node)
        if isinstance(node, yaml.MappingNode):
            return self._map(node, path, inner)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, i), inner) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _map(self, node: yaml.MappingNode, path: Path, inner: tuple[yaml.Node, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.document.problems.append(self.document.problem(path, "the name of a field must be a text"))
                continue
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in found:
                at = (*path, key)
                problem = Problem(
                    self.document.filename, line, field_path(at), f"given twice, first in line {self.document.line(at)}"
                )
                self.document.problems.append(problem)
                continue
            self.document.lines[(*path, key)] = line
            found[key] = self.read(value_node, (*path, key), inner)
        return found

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text = str(node.value)
        if node.tag not in _PLAIN_TAGS:
            self.document.problems.append(self.document.problem(path, f"unknown tag {node.tag}"))
        if getattr(node, "style", None) is not None:
            return text
        readers: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = ((_INTEGER, int), (_FLOAT, float))
        if text in _WORDS:
            return _WORDS[text]
        return next((make(text) for form, make in readers if form.fullmatch(text) and len(text) <= 400), text)
