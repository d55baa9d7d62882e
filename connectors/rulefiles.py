"""Rule files: the built-in ones that come with the product, and a user's own.

Reads whole files once, at the start; what is wrong with any of them is reported before anything runs.
"""

from collections.abc import Iterable
from pathlib import Path

from operators.rule_errors import Problem, RuleError
from operators.rules import Rule, load_rule_texts

BUILTIN = Path(__file__).resolve().parent.parent / "rules"
_SUFFIXES = {".yaml", ".yml"}


def builtin() -> tuple[Rule, ...]:
    """Return the rules that come with the product."""
    return load([], with_builtin=True)


def load(paths: Iterable[str | Path], *, with_builtin: bool = False) -> tuple[Rule, ...]:
    """Return the rules of `paths`: files, and directories with the `*.yaml` and `*.yml` in them, by name.

    With `with_builtin` the product's own come first, and are checked together with the others. Raises RuleError with
    everything that is wrong in all files, a missing or unreadable one included.
    """
    problems: list[Problem] = []
    texts: list[tuple[str, str]] = []
    for given in [*([BUILTIN] if with_builtin else []), *map(Path, paths)]:
        try:
            texts += [(str(path), path.read_text(encoding="utf-8-sig")) for path in _files(given)]
        except OSError as wrong:
            problems.append(Problem(str(given), 0, "", f"cannot read it: {wrong.strerror or wrong}"))
        except UnicodeDecodeError:
            problems.append(Problem(str(given), 0, "", "cannot read it: not UTF-8 text"))
    try:
        rules = load_rule_texts(texts)
    except RuleError as wrong:
        problems += wrong.problems
    if problems:
        raise RuleError(problems)
    return rules


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    if not found:
        raise FileNotFoundError(2, "no *.yaml or *.yml in this directory", str(path))
    return found
