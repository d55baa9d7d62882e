"""A replay of the log names positions as the service does, also when old segments have been archived."""

import itertools
from pathlib import Path

import duckdb

from connectors.log import Log
from tests.system.runs import replay


def test_positions_of_a_replay_are_those_of_the_log(tmp_path: Path) -> None:
    clock = itertools.count(1_700_000_000_000_000, 1_000_000)
    log = Log.open(tmp_path / "log", clock=lambda: next(clock), segment_bytes=5000)
    for n in range(200):
        body = b'{"time":"2023-11-14T22:13:20Z","source":"s","type":"auth_failed","tenantId":"t%d"}' % n
        log.append([body], "acme").result(10)
    log.close()
    min((tmp_path / "log").iterdir()).unlink()
    first = int(min((tmp_path / "log").iterdir()).stem)
    replay(tmp_path / "data", tmp_path / "log")
    with duckdb.connect(str(tmp_path / "data" / "store.duckdb"), read_only=True) as store:
        rows = store.execute('SELECT partition, "offset", workspace, tenant FROM events ORDER BY "offset"').fetchall()
    assert rows == [("log", n, "acme", f"t{n}") for n in range(first, 200)]
