from collections.abc import Iterator
from pathlib import Path

import pytest
from duckdb import DuckDBPyConnection

from connectors.reader import open_reader
from tests.query_api.service import Service, serving
from tests.stores import make_store


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the small store; nobody writes to it."""
    return make_store(tmp_path_factory.mktemp("data"))


@pytest.fixture
def con(data: Path) -> Iterator[DuckDBPyConnection]:
    """A connection that reads the small store."""
    connection = open_reader(data).connection
    yield connection
    connection.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The HTTP service with an empty control database and a pipeline that only remembers."""
    with serving(tmp_path) as running:
        yield running
