"""The durable log: what it accepts, how it is read back, and what holds when the disk does not do its part."""

import errno
import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import orjson
import pytest

from connectors import log_writer
from connectors.log import Appended, Log, LogBusy, LogClosed, LogDamaged, LogFull, LogHeld
from connectors.log_lines import ingested_at, lines
from connectors.log_segments import segment_firsts

WAIT = 10


class Clock:
    """A clock that stands where it is put."""

    def __init__(self, now: int = 1_700_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> Iterator[Log]:
    log = Log.open(tmp_path / "log", clock=clock)
    yield log
    log.close()


def body(n: int, size: int = 0) -> bytes:
    return orjson.dumps({"n": n, "x": "x" * size})


def append(log: Log, *bodies: bytes, workspace: str = "w") -> Appended:
    return log.append(bodies, workspace).result(WAIT)


def everything(log: Log, most: int = 1 << 20) -> list[bytes]:
    found: list[bytes] = []
    offset = log.first_offset
    while slice_ := log.read(offset, most, 0):
        assert slice_.first == offset
        assert slice_.lines.endswith(b"\n")
        assert slice_.lines.count(b"\n") == slice_.records > 0
        found += slice_.lines.splitlines()
        offset += slice_.records
    return found


def numbers(log: Log, most: int = 1 << 20) -> list[int]:
    return [orjson.loads(line)["n"] for line in everything(log, most)]


# --- what a record becomes -------------------------------------------------------------------------------------------


def test_a_record_carries_its_workspace_and_when_it_was_accepted(log: Log) -> None:
    receipt = append(log, b'{"type":"t"}', workspace='a "b"')
    assert receipt == Appended(0, 1, 1_700_000_000_000_000)
    (line,) = everything(log)
    assert line == b'{"type":"t","workspace":"a \\"b\\"","ingested_at":"2023-11-14T22:13:20.000000Z"}'


def test_a_client_cannot_set_what_the_log_sets(log: Log) -> None:
    append(log, b'{"workspace":"other","ingested_at":"1999-01-01T00:00:00Z"}')
    (line,) = everything(log)
    assert orjson.loads(line)["workspace"] == "w"
    assert orjson.loads(line)["ingested_at"] == "2023-11-14T22:13:20.000000Z"


@pytest.mark.parametrize("bad", [b'{"a":\n1}', b'{"a":1}\n', b'{"a":1', b'["a"]', b'{"a":1} ', b""])
def test_what_would_break_the_lines_is_refused_and_nothing_else_suffers(log: Log, bad: bytes) -> None:
    good = log.append([body(0)], "w")
    wrong = log.append([body(8), bad], "w")
    with pytest.raises(ValueError, match="one JSON object"):
        wrong.result(WAIT)
    append(log, body(1))
    assert good.result(WAIT).first == 0
    assert numbers(log) == [0, 1]


def test_ingest_times_never_decrease_when_the_clock_steps_back_nor_across_restarts(
    tmp_path: Path, clock: Clock
) -> None:
    log = Log.open(tmp_path / "log", clock=clock)
    append(log, body(0))
    clock.now -= 60_000_000
    assert append(log, body(1)).ingested_at == clock.now + 60_000_000
    log.close()
    again = Log.open(tmp_path / "log", clock=clock)
    assert append(again, body(2)).ingested_at == clock.now + 60_000_000
    again.close()


def test_after_a_promise_no_record_is_accepted_earlier(log: Log, clock: Clock) -> None:
    append(log, body(0))
    assert log.advance(clock.now + 5) == 1
    assert append(log, body(1)).ingested_at == clock.now + 5
    assert log.advance(clock.now) == 2  # a promise is not taken back
    assert append(log, body(2)).ingested_at == clock.now + 5


def test_a_promise_waits_for_earlier_records_on_their_way(
    log: Log, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a reader would take the partition for complete before it sees them."""
    arrived, go = threading.Event(), threading.Event()

    def slow(file: int) -> None:
        arrived.set()
        assert go.wait(WAIT)

    monkeypatch.setattr(log_writer, "_sync", slow)
    log.append([body(0)], "w")
    assert arrived.wait(WAIT)
    promised: list[int] = []
    thread = threading.Thread(target=lambda: promised.append(log.advance(clock.now + 1)))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    go.set()
    thread.join(WAIT)
    assert promised == [1]


def test_appends_that_wait_share_one_sync(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    go = threading.Event()

    def sync(file: int) -> None:
        syncs.append(file)
        assert go.wait(WAIT)

    monkeypatch.setattr(log_writer, "_sync", sync)
    first = log.append([body(0)], "w")
    while not syncs:
        pass
    waiting = [log.append([body(n)], f"w{n}") for n in range(1, 100)]
    go.set()
    assert [first.result(WAIT).first, *(future.result(WAIT).first for future in waiting)] == list(range(100))
    assert len(syncs) == 2
    assert [orjson.loads(line)["workspace"] for line in everything(log)] == ["w", *(f"w{n}" for n in range(1, 100))]


def test_many_threads_append_whole_batches(log: Log) -> None:
    receipts: list[tuple[int, Appended]] = []

    def run(thread: int) -> None:
        for n in range(50):
            start = thread * 1_000_000 + n * 100
            receipts.append((start, append(log, *(body(start + i) for i in range(n % 7 + 1)))))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = numbers(log)
    assert len(found) == log.next_offset == sum(receipt.count for _, receipt in receipts)
    for start, receipt in receipts:
        assert found[receipt.first : receipt.first + receipt.count] == list(range(start, start + receipt.count))


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail_bytes", [1, 3000, 1 << 20], ids=["from the files", "from both", "from memory"])
@pytest.mark.parametrize("most", [1, 100, 5000, 1 << 20])
def test_every_offset_is_read_alike_from_memory_and_from_the_files(
    tmp_path: Path, clock: Clock, tail_bytes: int, most: int
) -> None:
    log = Log.open(tmp_path / "log", clock=clock, segment_bytes=4000, tail_bytes=tail_bytes)
    n = 0
    for count in (1, 5, 40, 1, 1, 17, 3, 30):
        append(log, *(body(n + i, (n + i) % 50) for i in range(count)))
        n += count
    assert len(segment_firsts(tmp_path / "log")) > 2
    assert numbers(log, most) == list(range(n))
    for offset in [*range(n), *reversed(range(n))]:
        found = log.read(offset, most, 0)
        assert found is not None
        assert orjson.loads(found.lines.split(b"\n")[0])["n"] == offset
        assert len(found.lines) <= most or found.records == 1
    log.close()


def test_the_files_are_searched_from_the_nearest_remembered_line(tmp_path: Path, clock: Clock) -> None:
    log = Log.open(tmp_path / "log", clock=clock, tail_bytes=1)
    append(log, *(body(n, 200) for n in range(20_000)))
    append(log, body(20_000))
    for offset in (19_999, 3, 12_345, 0, 19_998):
        found = log.read(offset, 1000, 0)
        assert found is not None
        assert orjson.loads(found.lines.split(b"\n")[0])["n"] == offset
    log.close()


def test_a_reader_at_the_end_waits_for_the_next_record(log: Log) -> None:
    assert log.read(0, 1000, 0.01) is None
    threading.Timer(0.05, lambda: log.append([body(0)], "w")).start()
    found = log.read(0, 1000, WAIT)
    assert found is not None
    assert found.records == 1


def test_an_offset_that_is_not_there_is_an_error_and_no_silence(log: Log) -> None:
    append(log, body(0))
    with pytest.raises(LogDamaged, match="records 0 to 1, not 2"):
        log.read(2, 1000, 0)


def test_memory_for_the_tail_is_bounded(tmp_path: Path, clock: Clock) -> None:
    log = Log.open(tmp_path / "log", clock=clock, tail_bytes=100_000)
    for n in range(2500):
        append(log, body(n, 300))
    assert sum(map(len, log._tail._pieces)) <= 100_000
    assert len(log._tail._pieces) < 2500
    assert numbers(log, 10_000) == list(range(2500))
    log.close()


# --- opening ---------------------------------------------------------------------------------------------------------


def test_a_second_process_cannot_open_the_log(tmp_path: Path, log: Log, clock: Clock) -> None:
    with pytest.raises(LogHeld, match="in use by another process"):
        Log.open(tmp_path / "log", clock=clock)


def test_a_restart_goes_on_at_the_next_offset(tmp_path: Path, clock: Clock) -> None:
    for start in (0, 3, 6):
        log = Log.open(tmp_path / "log", clock=clock, segment_bytes=200)
        assert log.next_offset == start
        assert append(log, *(body(start + n) for n in range(3))).first == start
        assert numbers(log) == list(range(start + 3))
        log.close()


def test_archived_segments_are_not_missed(tmp_path: Path, clock: Clock) -> None:
    log = Log.open(tmp_path / "log", clock=clock, segment_bytes=100)
    for n in range(5):
        append(log, body(n))
    log.close()
    first, second, *_ = sorted((tmp_path / "log").iterdir())
    first.unlink()
    again = Log.open(tmp_path / "log", clock=clock)
    assert again.first_offset == int(second.stem)
    assert numbers(again) == list(range(again.first_offset, 5))
    with pytest.raises(LogDamaged):
        again.read(0, 1000, 0)
    again.close()


@pytest.mark.parametrize(
    "torn",
    [b'{"n":7', b"\0" * 100, b'{"n":7}\n', b"\0\0\n", lines([b'{"n":7}'], "w", 1)[0].text[:-1]],
    ids=["half a line", "zeros", "no line of ours", "zeros and a newline", "all but the newline"],
)
def test_what_a_crash_left_at_the_end_is_cut_off_and_reported(tmp_path: Path, clock: Clock, torn: bytes) -> None:
    log = Log.open(tmp_path / "log", clock=clock)
    append(log, body(0), body(1))
    log.close()
    (segment,) = (tmp_path / "log").iterdir()
    with segment.open("ab") as file:
        file.write(torn)
    again = Log.open(tmp_path / "log", clock=clock)
    assert again.repaired == len(torn)
    assert again.next_offset == 2
    append(again, body(2))
    assert numbers(again) == [0, 1, 2]
    again.close()


def test_zeros_inside_the_last_group_cut_the_group_there(tmp_path: Path, clock: Clock) -> None:
    """After a power failure its last page may be there and an earlier one not."""
    log = Log.open(tmp_path / "log", clock=clock)
    append(log, body(0))
    log.close()
    (segment,) = (tmp_path / "log").iterdir()
    group = lines([body(n, 1000) for n in range(1, 20)], "w", clock.now + 1)[0].text
    with segment.open("ab") as file:
        file.write(group[:5000] + bytes(4096) + group[9096:])
    again = Log.open(tmp_path / "log", clock=clock)
    assert numbers(again) == [0, 1, 2, 3, 4]
    again.close()


def test_damage_before_later_groups_is_not_cut_off(tmp_path: Path, clock: Clock) -> None:
    """They were acknowledged: to drop them would be worse than to refuse."""
    log = Log.open(tmp_path / "log", clock=clock)
    for n in range(3):
        append(log, body(n))
        clock.now += 1
    log.close()
    (segment,) = (tmp_path / "log").iterdir()
    data = segment.read_bytes()
    segment.write_bytes(b"\0" * 10 + data[10:])
    with pytest.raises(LogDamaged, match="damaged behind byte 0, and later records are whole"):
        Log.open(tmp_path / "log", clock=clock)
    assert segment.stat().st_size == len(data)


def test_a_crash_right_after_a_new_segment_keeps_offset_and_time(tmp_path: Path, clock: Clock) -> None:
    log = Log.open(tmp_path / "log", clock=clock)
    stamp = append(log, body(0), body(1)).ingested_at
    log.close()
    (tmp_path / "log" / f"{2:020d}.jsonl").touch()
    clock.now = 0
    again = Log.open(tmp_path / "log", clock=clock)
    assert append(again, body(2)) == Appended(2, 1, stamp)
    assert numbers(again) == [0, 1, 2]
    again.close()


# --- when the disk does not do its part ------------------------------------------------------------------------------


def test_a_full_disk_refuses_keeps_what_was_acknowledged_and_works_again(tmp_path: Path, clock: Clock) -> None:
    log = Log.open(tmp_path / "log", clock=clock)
    append(log, body(0, 1000))
    limit, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # the kernel then writes a part, and refuses the rest
    try:
        for _ in range(2):
            refused = log.append([body(8, 800), body(9, 800)], "w").exception(WAIT)
            assert isinstance(refused, LogFull)
            assert refused.retry_after > 0
            assert log.trouble == "the log cannot be written: File too large"
        append(log, body(1, 100))  # what fits is taken
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    append(log, body(2, 1000))
    assert log.trouble is None
    log.close()
    again = Log.open(tmp_path / "log", clock=clock)
    assert again.repaired == 0
    assert numbers(again) == [0, 1, 2]
    again.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("repair_fails", [False, True])
def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, code: int, repair_fails: bool
) -> None:
    log = Log.open(tmp_path / "log", clock=clock)
    append(log, body(0))

    def torn(file: int, texts: list[bytes]) -> int:
        os.write(file, texts[0][:-5])
        raise OSError(code, os.strerror(code))

    def fail(file: int, size: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as failing:
        failing.setattr(log_writer, "_write", torn)
        if repair_fails:
            failing.setattr(log_writer, "_truncate", fail)
        for _ in range(2):
            assert isinstance(log.append([body(9)], "w").exception(WAIT), LogFull)
    append(log, body(1))
    assert numbers(log) == [0, 1]
    log.close()
    again = Log.open(tmp_path / "log", clock=clock)
    assert (again.repaired, numbers(again)) == (0, [0, 1])
    again.close()


@pytest.mark.parametrize("before", [0, 1])
def test_a_segment_whose_sync_failed_is_not_written_to_again(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """A second sync would succeed although the pages of the first are lost."""
    log = Log.open(tmp_path / "log", clock=clock)
    for n in range(before):
        append(log, body(n))
    fails = iter([True])

    def sync(file: int) -> None:
        if next(fails, False):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(file)

    monkeypatch.setattr(log_writer, "_sync", sync)
    assert isinstance(log.append([body(9)], "w").exception(WAIT), LogFull)
    append(log, body(before))
    assert segment_firsts(tmp_path / "log") == ([0, 1] if before else [0])
    assert numbers(log) == list(range(before + 1))
    log.close()
    again = Log.open(tmp_path / "log", clock=clock)
    assert numbers(again) == list(range(before + 1))
    again.close()


def test_too_much_that_waits_is_refused_at_once(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log.open(tmp_path / "log", clock=clock, waiting_bytes=1000)
    go, arrived = threading.Event(), threading.Event()

    def slow(file: int) -> None:
        arrived.set()
        assert go.wait(WAIT)

    monkeypatch.setattr(log_writer, "_sync", slow)
    taken: list[Future[Appended]] = [log.append([body(0)], "w")]
    assert arrived.wait(WAIT)
    taken.append(log.append([body(1, 600)], "w"))
    with pytest.raises(LogBusy) as refused:
        log.append([body(2, 600)], "w")
    assert refused.value.retry_after > 0
    go.set()
    assert [future.result(WAIT).first for future in taken] == [0, 1]
    assert append(log, body(2, 5000)).first == 2  # alone, even a large one goes in
    log.close()


def test_who_goes_away_while_waiting_gets_nothing_written_and_stops_nobody(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that is cancelled at its deadline cancels its future."""
    go, arrived = threading.Event(), threading.Event()

    def slow(file: int) -> None:
        arrived.set()
        assert go.wait(WAIT)

    monkeypatch.setattr(log_writer, "_sync", slow)
    first = log.append([body(0)], "w")
    assert arrived.wait(WAIT)
    gone, last = log.append([body(8)], "w"), log.append([body(1)], "w")
    assert gone.cancel()
    assert not first.cancel()  # it is on its way
    go.set()
    assert (first.result(WAIT).first, last.result(WAIT).first) == (0, 1)
    assert numbers(log) == [0, 1]


def test_closing_writes_what_waits_and_refuses_the_rest(tmp_path: Path, clock: Clock) -> None:
    log = Log.open(tmp_path / "log", clock=clock)
    waiting = [log.append([body(n)], "w") for n in range(50)]
    log.close()
    assert [future.result(0).first for future in waiting] == list(range(50))
    with pytest.raises(LogClosed):
        log.append([body(0)], "w")
    log.close()


def test_the_time_of_a_line_is_its_last_stamp_only() -> None:
    (piece,) = lines([b'{"a":"\\"ingested_at\\":\\"1999-01-01T00:00:00.000000Z\\"}"}'], "w", 1_000_001)
    assert ingested_at(piece.text) == 1_000_001
    assert ingested_at(piece.text[:-1]) is None
