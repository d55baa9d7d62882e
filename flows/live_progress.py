"""How far the live pipeline is: what its source, its shards, its sink and the outside tell each other.

All of it steers when something is done, never what comes of it. Each number has one writer.
"""

from __future__ import annotations

from dataclasses import dataclass

from operators.clock import NEVER
from operators.shard import FOREVER


@dataclass
class LiveProgress:
    """Offsets of the log's one partition, and instants in µs.

    taken: the source has read up to here. committed: the store holds what came of the records before. now: the ingest
    time of the last record committed. timer: when time alone changes something next. safe: no snapshot that a run may
    go on from begins before.
    """

    taken: int = 0
    committed: int = 0
    now: int = NEVER
    timer: int = FOREVER
    safe: int = 0
