from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.control import Control
from tests.connectors.control_databases import emptied, postgres


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL server."""
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/control.sqlite"
    found: str = request.getfixturevalue("server")
    emptied(found)
    return found


@pytest.fixture
def control(url: str, tmp_path: Path) -> Iterator[Control]:
    """Control over such a database."""
    opened = Control.open(url, tmp_path / "secret.key")
    yield opened
    opened.close()
