"""What several modules of whole-process tests share: one log, and what an undisturbed replay of it comes to."""

import os
from pathlib import Path

import pytest

from tests.system.runs import replay
from tests.system.world import write, write_rules

# Large enough to be interrupted in the middle.
EVENTS = 200_000 if os.environ.get("TOCSIN_CHAOS_ROUNDS") else 36_000


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[Path | str]:
    """The arguments of its replays: several partitions, and rules beside the built-in ones."""
    folder = tmp_path_factory.mktemp("log")
    return [write(folder / "in", EVENTS), "--rules", write_rules(folder / "rules.yaml"), "--epoch", "0.2"]


@pytest.fixture(scope="session")
def undisturbed(log: list[Path | str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every disturbed replay must come to."""
    return replay(tmp_path_factory.mktemp("undisturbed") / "data", *log)
