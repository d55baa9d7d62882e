"""The event vocabulary: column names, types and the few constants every package shares.

`DECODED` is what a connector makes of raw records. A partition's clock adds `ingested_at`, `at` and `late`;
classification adds `rule_id`, `group_key` and `confidence`. Together they are `EVENTS`, the columns of the table
`events` (DESIGN section 3).
"""

import polars as pl

TIMESTAMP = pl.Datetime("us", "UTC")

STREAMS = ("integration", "log", "detection", "verdict", "tool_call", "identity", "alert", "deploy")
DEFAULT_STREAM = "integration"
DEFAULT_WORKSPACE = "default"

# Ranked from harmless to worst, so that "the worst of" is a maximum over the index.
SEVERITIES = ("info", "low", "medium", "high", "critical")

# What a record of the log is. A null `record` column means an ordinary event.
# A tick says that nothing else happened up to its instant, so that timers run out in replay as they did live.
EVENT, RESOLVE, CONFIGURE, TICK = "event", "resolve", "configure", "tick"

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# A record as a connector decodes it: one row a record, `offset` its position in the partition.
DECODED: dict[str, pl.DataType] = {
    "offset": pl.Int64(),
    "time": TIMESTAMP,
    "ingested_at": TIMESTAMP,  # null where the input has none: history, see the partition clock
    "id": pl.String(),  # null where the producer gave none
    "workspace": pl.String(),
    "stream": pl.String(),
    "source": pl.String(),
    "type": pl.String(),
    "code": pl.String(),
    "tenant": pl.String(),
    "severity": pl.String(),
    "message": pl.String(),
    "value": pl.Float64(),
    "place": pl.String(),
    "attributes": pl.String(),  # JSON text or null
    "record": pl.String(),  # null (an event), "resolve", "configure" or "tick"
}

# The table `events`, in this order.
EVENTS: dict[str, pl.DataType] = {
    "time": TIMESTAMP,
    "ingested_at": TIMESTAMP,
    "at": TIMESTAMP,
    "id": pl.String(),
    "workspace": pl.String(),
    "stream": pl.String(),
    "source": pl.String(),
    "type": pl.String(),
    "code": pl.String(),
    "tenant": pl.String(),
    "severity": pl.String(),
    "message": pl.String(),
    "value": pl.Float64(),
    "place": pl.String(),
    "attributes": pl.String(),
    "partition": pl.String(),
    "offset": pl.Int64(),
    "rule_id": pl.String(),
    "group_key": pl.String(),
    "confidence": pl.String(),
    "late": pl.Boolean(),
}

# A workspace's settings as one record of the log changed them.
CONFIGURATIONS: dict[str, pl.DataType] = {
    "partition": pl.String(),
    "offset": pl.Int64(),
    "workspace": pl.String(),
    "time": TIMESTAMP,  # when it was asked for
    "at": TIMESTAMP,
    "id": pl.String(),  # null where the record has none
    "actor": pl.String(),  # who asked for it, the record's source; null where it says nothing
    "settings": pl.String(),  # JSON text: what it changed
}

# A record that could not be used, with the reason in plain words.
DEAD_LETTERS: dict[str, pl.DataType] = {
    "partition": pl.String(),
    "offset": pl.Int64(),
    "raw": pl.String(),  # the record as it came, cut at `RAW_LIMIT` bytes
    "error": pl.String(),
    "at": TIMESTAMP,  # the watermark clock of the partition when it was met; null before the first good record
}
RAW_LIMIT = 4096
