"""Why the log did not take records, or cannot be read.

LogUnavailable          nothing of the append is kept; worth trying again after `retry_after` seconds
  LogFull               the disk is full, or failed
  LogBusy               too much is waiting to be written
  LogClosed             the service is stopping
LogDamaged              acknowledged records are missing or not readable: a person must look
LogHeld                 another process has the log open
"""

from __future__ import annotations


class LogUnavailable(Exception):
    """The records were not taken, and nothing of them is kept. retry_after: seconds until it is worth trying again."""

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class LogFull(LogUnavailable):
    """The disk has no room, or refused to write or to sync."""


class LogBusy(LogUnavailable):
    """More is waiting to be written than may wait."""


class LogClosed(LogUnavailable):
    """The log takes no more records in this process."""


class LogDamaged(Exception):
    """Records that were acknowledged cannot be read; the text names the file and says what is wrong with it."""


class LogHeld(Exception):
    """Another process has this log open."""
