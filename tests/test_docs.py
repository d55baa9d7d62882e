"""What the documentation names exists, and what exists is named: a page that lies is worse than none."""

import re
from pathlib import Path

import pytest
import typer.main

import tocsin
from connectors.control import SCOPES
from connectors.formats import FORMATS
from connectors.schema import TABLES
from operators.rules import Threshold
from query_api.envelope import ErrorCode
from query_api.settings import ServiceSettings, variable

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = typer.main.get_command(tocsin.app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_documented(name: str) -> None:
    """A command nobody can read about is not there."""
    assert f"tocsin {name}" in (ROOT / "docs/cli.md").read_text()


@pytest.mark.parametrize(
    "option",
    [opt for p in COMMANDS["replay"].params for opt in (*p.opts, *p.secondary_opts) if opt.startswith("--")],
)
def test_every_option_of_replay_is_documented(option: str) -> None:
    """Options that are the default's own name (`--events`, `--builtin`) are shown by their opposite."""
    text = (ROOT / "docs/cli.md").read_text()
    assert option in text or f"--no-{option[2:]}" in text


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_table_and_column_is_documented(table: str) -> None:
    """Analysts build on these names."""
    text = (ROOT / "docs/store.md").read_text()
    assert [name for name in (table, *TABLES[table].columns) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_is_documented(name: str) -> None:
    """`--format` takes these names."""
    assert f"`{name}`" in (ROOT / "docs/formats.md").read_text()


@pytest.mark.parametrize("name", sorted(set(Threshold.model_fields) - {"spec"}))
def test_every_threshold_is_documented(name: str) -> None:
    """A rule's author looks here."""
    assert name in (ROOT / "docs/rules.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Within the project, that is."""
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("name", sorted(ServiceSettings.model_fields))
def test_every_setting_of_the_service_is_documented(name: str) -> None:
    """With its default."""
    rows = [line for line in (ROOT / "docs/api.md").read_text().splitlines() if f"`{variable(name)}`" in line]
    assert len(rows) == 1
    default = ServiceSettings().model_dump()[name]
    shown = (
        str(default).lower() if isinstance(default, bool) else f"{default:g}" if isinstance(default, float) else default
    )
    assert shown is None or rows[0].split("|")[2].strip() == str(shown)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_code_is_documented(code: ErrorCode) -> None:
    """With its status."""
    assert re.search(rf"^\| {int(code)} \| {code.status}\b", (ROOT / "docs/api.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_every_scope_is_documented(scope: str) -> None:
    """Who makes a key has to know what it opens."""
    assert f"| `{scope}` |" in (ROOT / "docs/api.md").read_text()
