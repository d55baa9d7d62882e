"""The same job as a hand-written DuckDB batch query: JSON lines in, incidents out.

What it may leave out, it does: it reads only the columns it needs, keeps no state for a later run, orders by `time`
alone (all of the input is there, so nothing can be late), knows no tenants and writes no lifecycle timeline.

Why window functions are enough: between two matches of a key less than recovery + close + cooldown apart the key is
never forgotten, after a longer gap it always is. So a key's matches fall into sessions. A session has at most one
incident: it opens at the first match that meets the threshold, owns the matches counted there and all later ones, and
every gap of recovery + close or more after the opening is one reopening.

Why it is written as it is: measured on two cores, classification by two hash joins takes half the time of a CASE with
IN lists, and one sort followed by windows over the whole order, which DuckDB streams, a seventh of windows partitioned
by key.

    python -m benchmarks.reference_duckdb bench-data/events.jsonl --out bench-data/reference.parquet
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import duckdb
import orjson

from benchmarks.patterns import CLOSE, COOLDOWN, PATTERNS, RECOVERY

SECOND = 1_000_000
TAIL = 1 << 22  # bytes at the end of the file that hold its latest `time`, however the last records are ordered

MATCHES = """
    create table matches as
    select workspace, source, rule, epoch_us(time::timestamp) as us
    from (
        select time, workspace, integrationKey as source, least(by_type.rule, by_code.rule) as rule
        from read_json($file, format = 'newline_delimited', columns = {
            time: 'VARCHAR', workspace: 'VARCHAR', integrationKey: 'VARCHAR', eventType: 'VARCHAR',
            errorCode: 'VARCHAR'})
        left join by_type on by_type.type = eventType
        left join by_code on by_code.code = lower(errorCode)
    )
    where rule is not null
"""

KEYS = """
    create table keys as
    select workspace, source, row_number() over () as key from (select distinct workspace, source from matches)
"""


def incidents() -> str:
    """SQL over `matches` and `keys`: one row an incident, all times in µs. `k` packs key and rule."""
    spikes = [(index, pattern) for index, pattern in enumerate(PATTERNS) if pattern.threshold > 1]
    lags = "".join(
        f", lag(k, {count - 1}) over () as k{count}, lag(us, {count - 1}) over () as us{count}"
        for count in sorted({pattern.threshold for _, pattern in spikes})
    )
    # `since`: the first of the matches counted here, null where they do not meet the threshold.
    since = "".join(
        f" when {index} then case when k{count} = k and us{count} > us - {window * SECOND} then us{count} end"
        for index, (_, _, _, count, window) in spikes
    )
    counts = "".join(f" when {index} then {pattern.threshold}" for index, pattern in spikes)
    return f"""
        with sorted as (
            select key * 16 + rule as k, us from matches join keys using (workspace, source) order by k, us
        ),
        spaced as (
            select k, us, us - lag(us) over () as gap, k is distinct from lag(k) over () as first{lags} from sorted
        ),
        counted as (
            select k, us, first or gap >= {(RECOVERY + CLOSE + COOLDOWN) * SECOND} as fresh,
                not first and gap >= {(RECOVERY + CLOSE) * SECOND} as pause, case k % 16{since} else us end as since
            from spaced
        ),
        sessions as (
            select k, us, since, row_number() over () as n,
                count(*) filter (fresh) over (rows unbounded preceding) as session,
                count(*) filter (pause) over (rows unbounded preceding) as pauses
            from counted
        )
        select any_value(k) as k, min(us) filter (since is not null) as opened_at, min(since) as first_event_at,
            max(us) as last_event_at,
            -- the threshold is met exactly when the count is reached, then every match counts
            max(n) - min(n) filter (since is not null) + case any_value(k) % 16{counts} else 1 end as event_count,
            max(pauses) - min(pauses) filter (since is not null) as reopen_count
        from sessions
        group by session
        having opened_at is not null
    """


RESULT = f"""
    select workspace, id as rule_id, source, make_timestamp(opened_at) as opened_at,
        make_timestamp(first_event_at) as first_event_at, make_timestamp(last_event_at) as last_event_at,
        event_count, reopen_count,
        case when epoch_us($end::timestamp) >= last_event_at + {(RECOVERY + CLOSE) * SECOND} then 'Closed'
            when epoch_us($end::timestamp) >= last_event_at + {RECOVERY * SECOND} then 'Recovering'
            else 'Open' end as status
    from incidents join keys on keys.key = k // 16 join rules on rules.rule = k % 16
"""


def last_time(file: Path) -> str:
    """The latest `time` of a file that is in order but for some seconds: it stands near the end."""
    with file.open("rb") as lines:
        lines.seek(max(0, os.path.getsize(file) - TAIL))
        tail = lines.read().split(b"\n")
    whole = tail[1 if len(tail) > 2 else 0 : -1]
    return max(str(orjson.loads(line)["time"]) for line in whole)


def run(file: Path, out: Path, threads: int = 2) -> int:
    """Write the incidents of a file to a Parquet file; returns their number."""
    con = duckdb.connect(config={"threads": threads})
    con.execute("create table rules (rule utinyint, id varchar)")
    con.execute("create table by_type (type varchar, rule utinyint)")
    con.execute("create table by_code (code varchar, rule utinyint)")
    con.executemany("insert into rules values (?, ?)", [[i, pattern.id] for i, pattern in enumerate(PATTERNS)])
    # The first pattern by priority that lists either is the lower of the first by type and the first by code.
    last_first = list(enumerate(PATTERNS))[::-1]
    types = {kind: index for index, pattern in last_first for kind in pattern.types}
    codes = {code: index for index, pattern in last_first for code in pattern.codes}
    con.executemany("insert into by_type values (?, ?)", [list(item) for item in types.items()])
    con.executemany("insert into by_code values (?, ?)", [list(item) for item in codes.items()])

    con.execute("set preserve_insertion_order = false")
    con.execute(MATCHES, {"file": str(file)})
    con.execute(KEYS)
    con.execute("set preserve_insertion_order = true")
    con.execute(f"create table incidents as {incidents()}")
    con.execute("create table result as " + RESULT, {"end": last_time(file)})
    con.table("result").write_parquet(str(out))
    rows = con.sql("select count(*) from result").fetchall()
    return int(rows[0][0])


def main() -> None:
    parser = argparse.ArgumentParser(description="Incidents of a JSON lines file by one DuckDB query.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="Parquet")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print(f"{run(options.file, options.out, options.threads):,} incidents")


if __name__ == "__main__":
    main()
