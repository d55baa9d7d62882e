from collections.abc import Iterator
from pathlib import Path

import pytest
from duckdb import DuckDBPyConnection
from fastapi.testclient import TestClient

from connectors.reader import open_reader
from tests.query_api.fakes import MINE, OTHERS, Api, FakeControl, FakePipeline, FakeTenant, fill, make_app
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


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[FakePipeline]:
    """A pipeline over an empty store."""
    fake = FakePipeline(tmp_path)
    yield fake
    fake.close()


@pytest.fixture
def filled(pipeline: FakePipeline) -> FakePipeline:
    """A pipeline over the hour of two workspaces."""
    fill(pipeline)
    return pipeline


@pytest.fixture
def control() -> FakeControl:
    """One named tenant in each workspace."""
    names = {(MINE, "acme"): FakeTenant("t-1", "acme", "Acme Corp"), (OTHERS, "beta"): FakeTenant("t-2", "beta", "B")}
    return FakeControl(names)


@pytest.fixture
def client(pipeline: FakePipeline, control: FakeControl) -> Iterator[TestClient]:
    """A client of the whole API, in one event loop."""
    with TestClient(make_app(pipeline, control)) as found:
        yield found


@pytest.fixture
def api(client: TestClient) -> Api:
    """My workspace's client."""
    return Api(client)


@pytest.fixture
def others(client: TestClient) -> Api:
    """The other workspace's client."""
    return Api(client, "others")
