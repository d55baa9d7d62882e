"""The shared table of progress: it may make a run slow, but must never stop it, and the bar must tell the truth."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.board import SLACK, Board
from operators.clock import NEVER
from tests.harness import START, D, M


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board.bin", ["a", "b", "c"], create=True)


def report(board: Board, **watermarks: int) -> None:
    for name, watermark in watermarks.items():
        board.report(name, watermark, 100, 10)


def test_a_fresh_board_lets_everybody_begin(board: Board) -> None:
    """Nobody has a watermark yet; if that counted as behind, nobody would begin."""
    assert all(board.may_read(name) for name in "abc")
    assert (board.bytes_read, board.records, board.finished) == (0, 0, False)


def test_progress_is_the_sum_of_the_latest_reports(board: Board) -> None:
    """The bar would pass 100 % if reports added up."""
    board.report("a", START, 500, 5)
    board.report("a", START + M, 900, 9)
    board.report("b", START, 70, 1)
    assert (board.bytes_read, board.records) == (970, 10)


@pytest.mark.parametrize(("ahead", "may"), [(0, True), (SLACK, True), (SLACK + 1, False), (D, False)])
def test_how_far_ahead_one_may_be(board: Board, ahead: int, may: bool) -> None:
    """Up to the slack the fast one reads on; beyond it what it reads would only pile up in memory."""
    report(board, a=START + ahead, b=START, c=START + 5 * M)
    assert board.may_read("a") is may
    assert board.may_read("b")


def test_large_steps_do_not_wait_in_turns(board: Board) -> None:
    """A file with an hour in each chunk would else wait for the others after every single one."""
    report(board, a=START, b=START + 60 * M, c=START)
    report(board, a=START + 60 * M)
    report(board, c=START)
    assert board.may_read("a")
    report(board, a=START + 180 * M)
    assert board.may_read("a"), "within twice the last step of two hours"
    report(board, a=START + 181 * M)
    assert not board.may_read("a"), "its last step was a minute"


def test_one_that_has_not_begun_holds_the_others(board: Board) -> None:
    """Its first records may be the oldest."""
    report(board, a=START, b=START)
    assert not board.may_read("a")
    assert board.may_read("c")


def test_one_that_has_ended_holds_nobody(board: Board) -> None:
    """The shortest file would else stop the run."""
    report(board, a=START + D, b=START, c=START + D)
    assert not board.may_read("a")
    board.end("b")
    assert board.may_read("a")
    assert not board.finished
    board.end("a")
    board.end("c")
    assert board.finished


def test_processes_see_one_board(board: Board, tmp_path: Path) -> None:
    """Workers keep step through the file alone."""
    other = Board(tmp_path / "board.bin", ["a", "b", "c"])
    report(board, a=START + D, b=START, c=START)
    assert other.records == 30
    assert not other.may_read("a")
    other.end("b")
    other.end("c")
    assert board.may_read("a")


def test_a_new_run_begins_with_an_empty_board(board: Board, tmp_path: Path) -> None:
    """What a killed run left behind says nothing about this one."""
    report(board, a=START, b=START, c=START)
    for name in "abc":
        board.end(name)
    fresh = Board(tmp_path / "board.bin", ["a", "b"], create=True)
    assert (fresh.records, fresh.finished, fresh.may_read("a")) == (0, False, True)


def test_without_partitions_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    """No input is no reason to hang."""
    board = Board(tmp_path / "board.bin", [], create=True)
    assert (board.records, board.finished) == (0, True)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.one_of(st.just(NEVER), st.integers(START, START + 30 * D)), st.booleans()
        ),
        max_size=12,
    )
)
def test_somebody_may_always_read(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]]) -> None:
    """Whatever happened: while a partition has not ended, one of those may read, or the run would hang for ever."""
    board = Board(tmp_path_factory.mktemp("board") / "board.bin", list("abcd"), create=True)
    left = set("abcd")
    for name, watermark, ends in steps:
        board.report(name, watermark, 1, 1)
        if ends:
            board.end(name)
            left.discard(name)
        assert not left or any(board.may_read(each) for each in left)
        assert board.finished is not bool(left)
