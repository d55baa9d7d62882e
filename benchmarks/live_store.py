"""A large store of a live service, made by DuckDB alone: no log is read, no dataflow runs."""

from __future__ import annotations

from pathlib import Path

import duckdb

from connectors.store import Store

DAYS = 30
START = "TIMESTAMPTZ '2025-01-01 00:00:00Z'"
WORKSPACE = "ws-0"  # has half of everything; nine others share the rest
RULES = "['auth_failure', 'webhook_failure_spike', 'rate_limit_exceeded', 'timeout_spike', 'connection_failure']"
_AT_ONCE = 1_228_800  # events in one insert: ten row groups

INDEXES = (
    "CREATE INDEX IF NOT EXISTS incidents_id ON incidents(id)",
    "CREATE INDEX IF NOT EXISTS transitions_incident ON transitions(incident_id)",
    "CREATE INDEX IF NOT EXISTS incident_tenants_incident ON incident_tenants(incident_id)",
)
_LIVE = (
    "CREATE TABLE feed(seq BIGINT, workspace VARCHAR, kind VARCHAR, incident_id VARCHAR, name VARCHAR,"
    ' "at" TIMESTAMPTZ, body VARCHAR)',
    "CREATE TABLE settings(workspace VARCHAR, body VARCHAR)",
)

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
    INSERT INTO incidents SELECT
        id, workspace, rule_id, 'a3f9d2c8', 'integration', source, source, status, 'High', 'high', opened_at,
        CASE status WHEN 'Recovering' THEN opened_at + INTERVAL 5 MINUTE END,
        CASE status WHEN 'Closed' THEN opened_at + INTERVAL 16 MINUTE END, NULL, CASE WHEN i % 50 = 0 THEN 4 ELSE 0 END,
        opened_at, opened_at + INTERVAL 1 MINUTE, 40, 4, opened_at, true
    FROM episodes ORDER BY i
"""
_TRANSITIONS = """
    INSERT INTO transitions SELECT id, n, [NULL, 'Open', 'Recovering'][n + 1], ['Open', 'Recovering', 'Closed'][n + 1],
        ['Pattern matched: ' || rule_id, 'No events for 5 min', 'Stable for 10 min'][n + 1],
        opened_at + n * INTERVAL 6 MINUTE, 40, CASE n WHEN 0 THEN 1 END, 'a3f9d2c8', true
    FROM episodes, range(3) r(n) ORDER BY opened_at + n * INTERVAL 6 MINUTE, id
"""
_TENANTS = """
    INSERT INTO incident_tenants SELECT id, 'tenant-' || (i * 13 + k * 7) % 1000, 10, opened_at,
        opened_at + INTERVAL 1 MINUTE
    FROM episodes, range(4) r(k) ORDER BY i, k
"""
_EVENTS = f"""
    INSERT INTO events SELECT happened, happened, happened, 'e' || e, workspace, 'integration', source, 'auth_failed',
        '401', 'tenant-' || e % 1000, NULL, NULL, NULL, NULL,
        '{{{{"endpoint":"/v2/' || e % 977 || '","durationMs":' || e % 12043 || '}}}}', 'log', e,
        CASE WHEN e % 10 < 4 THEN rule_id END, CASE WHEN e % 10 < 4 THEN source END,
        CASE WHEN e % 10 < 4 THEN 'High' END, false
    FROM (
        SELECT e, {START} + to_microseconds(CAST(e * {{gap}} AS BIGINT)) AS happened, episodes.*
        FROM range({{first}}, {{end}}) r(e) JOIN episodes
          ON i = greatest(e * {{incidents}} // {{events}} - CASE WHEN e % 3 = 0 THEN 1 ELSE 0 END, 0))
    ORDER BY e
"""


def make(path: Path, events: int, incidents: int, *, indexes: bool) -> None:
    """Write a store with this many events and incidents, three transitions and four tenants an incident."""
    Store.create(path, shards=8).close()
    con = duckdb.connect(str(path))
    con.execute("SET TimeZone = 'UTC'")
    span = DAYS * 86_400_000_000
    con.execute(_EPISODES.format(gap=span / incidents, incidents=incidents))
    for statement in (*_LIVE, _INCIDENTS, _TRANSITIONS, _TENANTS):
        con.execute(statement)
    for first in range(0, events, _AT_ONCE):
        end = min(first + _AT_ONCE, events)
        con.execute(_EVENTS.format(gap=span / events, first=first, end=end, incidents=incidents, events=events))
    for statement in INDEXES if indexes else ():
        con.execute(statement)
    con.execute("CHECKPOINT")
    con.close()
