"""A large store of a live service, made by DuckDB alone: no log is read, no dataflow runs."""

from __future__ import annotations

from pathlib import Path

import duckdb

from connectors.live_store import LiveStore
from connectors.store import Position
from operators.events import EVENTS

DAYS = 30
START = "TIMESTAMPTZ '2025-01-01 00:00:00Z'"
WORKSPACE = "ws-0"  # has half of everything; nine others share the rest
RULES = "['auth_failure', 'webhook_failure_spike', 'rate_limit_exceeded', 'timeout_spike', 'connection_failure']"
_AT_ONCE = 1_228_800  # events in one insert: ten row groups

# One row an incident, evenly over the days; the last ones are still active, one in fifty is chronic.
_EPISODES = f"""
    CREATE TEMP TABLE episodes AS SELECT
        i, 'inc_' || substr(translate(md5('a' || i) || md5('b' || i), '01', 'yz'), 1, 26) AS id,
        CASE WHEN i % 2 = 0 THEN '{WORKSPACE}' ELSE 'ws-' || CAST(1 + i % 9 AS VARCHAR) END AS workspace,
        {RULES}[CAST(1 + hash(i) % 5 AS BIGINT)] AS rule_id, 'service-' || (hash(i * 7) % 500) AS source,
        {START} + to_microseconds(CAST(i * {{gap}} AS BIGINT)) AS opened_at,
        CASE WHEN i >= {{incidents}} - 300 THEN 'Open' WHEN i >= {{incidents}} - 400 THEN 'Recovering'
             ELSE 'Closed' END AS status
    FROM range({{incidents}}) r(i)
"""
_INCIDENTS = """
    INSERT INTO past_incidents SELECT
        id, workspace, rule_id, 'a3f9d2c8', 'integration', source, source, status, 'High', 'high', opened_at,
        CASE status WHEN 'Recovering' THEN opened_at + INTERVAL 5 MINUTE END,
        CASE status WHEN 'Closed' THEN opened_at + INTERVAL 16 MINUTE END, NULL, CASE WHEN i % 50 = 0 THEN 4 ELSE 0 END,
        opened_at, opened_at + INTERVAL 1 MINUTE, 40, 4, opened_at, true
    FROM episodes ORDER BY i
"""
_TRANSITIONS = """
    INSERT INTO past_transitions SELECT id, n,
        [NULL, 'Open', 'Recovering'][n + 1], ['Open', 'Recovering', 'Closed'][n + 1],
        ['Pattern matched: ' || rule_id, 'No events for 5 min', 'Stable for 10 min'][n + 1],
        opened_at + n * INTERVAL 6 MINUTE, 40, CASE n WHEN 0 THEN 1 END, 'a3f9d2c8', true
    FROM episodes, range(3) r(n) ORDER BY opened_at + n * INTERVAL 6 MINUTE, id
"""
_TENANTS = """
    INSERT INTO past_incident_tenants SELECT id, 'tenant-' || (i * 13 + k * 7) % 1000, 10, opened_at,
        opened_at + INTERVAL 1 MINUTE
    FROM episodes, range(4) r(k) ORDER BY i, k
"""
_EVENTS = f"""
    SELECT happened AS time, happened AS ingested_at, happened AS "at", 'e' || e AS id, workspace,
        'integration' AS stream, source, 'auth_failed' AS type, '401' AS code, 'tenant-' || e % 1000 AS tenant,
        NULL::VARCHAR AS severity, NULL::VARCHAR AS message, NULL::DOUBLE AS value, NULL::VARCHAR AS place,
        '{{{{"endpoint":"/v2/' || e % 977 || '","durationMs":' || e % 12043 || '}}}}' AS attributes,
        'before' AS partition, e AS "offset",
        CASE WHEN e % 10 < 4 THEN rule_id END AS rule_id, CASE WHEN e % 10 < 4 THEN source END AS group_key,
        CASE WHEN e % 10 < 4 THEN 'High' END AS confidence, false AS late
    FROM (
        SELECT e, {START} + to_microseconds(CAST(e * {{gap}} AS BIGINT)) AS happened, episodes.*
        FROM range({{first}}, {{end}}) r(e) JOIN episodes
          ON i = greatest(e * {{incidents}} // {{events}} - CASE WHEN e % 3 = 0 THEN 1 ELSE 0 END, 0))
    ORDER BY e
"""


def make(data: Path, events: int, incidents: int) -> None:
    """Write the store of a service with this many events and incidents, three transitions and four tenants each."""
    path = data / "store.duckdb"
    LiveStore.create(path, shards=1).close()
    con = duckdb.connect(str(path))
    con.execute("SET TimeZone = 'UTC'")
    span = DAYS * 86_400_000_000
    con.execute(_EPISODES.format(gap=span / incidents, incidents=incidents))
    for statement in (_INCIDENTS, _TRANSITIONS, _TENANTS):
        con.execute(statement)
    con.execute("CREATE TABLE kept AS SELECT * FROM episodes")
    con.close()
    with LiveStore.open(path) as store:
        for first in range(0, events, _AT_ONCE):
            end = min(first + _AT_ONCE, events)
            sql = _EVENTS.format(gap=span / events, first=first, end=end, incidents=incidents, events=events)
            rows = store.cursor().sql(sql.replace("episodes", "kept")).pl()
            # What a service would have come to: its position is kept, or the rows would be dropped at the next start.
            store.flush({"events": rows.cast(dict(EVENTS))}, {"before": Position(end)})
    con = duckdb.connect(str(path))
    con.execute("DROP TABLE kept")
    con.execute("CHECKPOINT")
    con.close()
