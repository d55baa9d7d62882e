"""One worker of a replay's cluster: `python -m flows.worker DATA ADDRESSES new|resumed INDEX`, started by `cluster`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from threading import Event as Flag

from flows.board import Board
from flows.plan import Plan
from flows.replay import BOARD_FILE, execute
from flows.supervisor import outlive


def main(data: Path, addresses: list[str], resumed: bool, index: int) -> None:
    """Run until the inputs end, SIGINT comes, or the parent is gone."""
    plan = Plan.read(data / "recovery")
    board = Board(data / "recovery" / BOARD_FILE, [item.name for item in plan.inputs])
    stop = Flag()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    outlive(os.getppid())
    execute(plan, data, board, stop, resumed=resumed, index=index, addresses=addresses)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3] == "resumed", int(sys.argv[4]))
    # At once: everything is written, and in the interpreter's last moments libraries report leaks on stderr.
    sys.stderr.flush()
    os._exit(0)
