"""What is wrong with a rule file, said so that it can be put right in one go.

Every problem names the file, the line, the field and what is allowed there.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct. `line` counts from 1, 0 is the file as such.

    `field` is a path such as `rules[2].match.where.message|re`.
    """

    filename: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.filename}:{self.line}" if self.line else self.filename
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


class RuleError(ValueError):
    """Rules that cannot be used; `problems` lists everything that is wrong with them, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = list(problems)
        files = list(dict.fromkeys(problem.filename for problem in found))
        self.problems = tuple(sorted(found, key=lambda problem: (files.index(problem.filename), problem.line)))
        super().__init__("\n".join(map(str, self.problems)))


def suggest(word: str, allowed: Sequence[str]) -> str:
    """Return `did you mean "x"? ` where one of `allowed` is near to `word`, and then what is allowed."""
    near = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{hint}allowed: {', '.join(allowed)}"
