"""One input file, or stdin, as a partition: chunks of whole records, and a position to resume from.

Guarantee: a file is read as it was when the partition was first opened. Chunks come in order, each once; a reader that
is opened again with the position after a chunk goes on exactly behind it. Plain files and Parquet seek there;
compressed files and stdin are read again and skipped. What cannot be read, or changes while it is read, ends the
partition with one reject that says why; everything before it has been delivered.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.chunks import LARGEST, pieces
from connectors.compression import MAGIC_SIZE, Read, Unreadable, decompressed, pushed_back
from connectors.formats import Format, parquet
from connectors.formats.record import rejects_of
from connectors.formats.types import REJECTS, Decoded, DecodeOptions
from connectors.log_input import LogInput, is_log

STDIN = "-"
HEAD = 64 << 10  # bytes that are looked at to tell a format
_BOM = b"\xef\xbb\xbf"
_FIRST_ROWS, _ROWS = 2_000, 65_536


@dataclass(frozen=True, slots=True)
class Position:
    """How far a partition was read: bytes of the (decompressed) content, or rows of a Parquet file.

    `size` and `modified` (ns) are the file's own when it was first opened, -1 for a stream. Of a log, `first` is the
    offset of its first record.
    """

    at: int = 0
    done: bool = False
    size: int = -1
    modified: int = -1
    first: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """`data`: whole records, bytes or for Parquet a frame. `rejects`: REJECTS of records after those of `data`, offsets
    counted from 0. `position` and `consumed` (bytes of the file itself, for progress) are those after the chunk."""

    data: bytes | pl.DataFrame
    rejects: pl.DataFrame
    position: Position
    consumed: int


def decode(form: Format, chunk: Chunk, options: DecodeOptions) -> Decoded:
    """The rows and all rejects of a chunk, whose records then count from 0. Pure, safe in any thread."""
    decoded = form.decode(chunk.data, options)
    if chunk.rejects.is_empty():
        return decoded
    later = chunk.rejects.with_columns(pl.col("offset") + decoded.records)
    return Decoded(decoded.frame, pl.concat([decoded.rejects, later]), decoded.records + len(later))


class PartitionReader:
    """A partition being read, by one thread at a time.

    `size` is that of the file on disk, None for a stream; `first` the offset of the partition's first record.
    """

    def __init__(
        self,
        name: str,
        path: str,
        form: Format,
        options: DecodeOptions,
        position: Position | None = None,
        largest: int = LARGEST,
    ) -> None:
        """`largest`: bytes a chunk may grow to. Raises OSError where the file cannot be opened."""
        self.name = name
        self.format = form
        self.options = options
        self._file = _LogInput(path, position) if is_log(path) else _Input(path, position)
        self._largest = largest
        self.position = self._file.position
        self.size = None if self._file.is_stream else self.position.size
        self.first = self.position.first

    def chunks(self) -> Iterator[Chunk]:
        """What is left of the partition; `position` moves along."""
        if self.position.done:
            return
        for chunk in self._frames() if self.format.frames else self._lines():
            self.position = chunk.position
            yield chunk

    def decode(self, chunk: Chunk) -> Decoded:
        return decode(self.format, chunk, self.options)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> PartitionReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _lines(self) -> Iterator[Chunk]:
        at = self.position.at
        try:
            read, header, begun = self._begin()
        except Unreadable as error:
            yield self._bad(b"", str(error), replace(self.position, done=True))
            return
        at = max(at, begun)
        for piece in pieces(read, self.format.cut, self._largest):
            at += piece.size
            position = replace(self.position, at=at, done=piece.last)
            if piece.error is not None:
                yield self._bad(piece.data, piece.error, position)
            else:
                yield Chunk(header + piece.data, pl.DataFrame(schema=REJECTS), position, self._file.consumed)

    def _begin(self) -> tuple[Read, bytes, int]:
        """Reading from the position on, the header for every chunk, and where the records begin."""
        if self._file.is_plain and not self.format.header and self.position.at:
            self._file.seek(self.position.at)
            return self._file.read, b"", 0
        read = decompressed(self._file.read)
        head = _gather(read, len(_BOM))
        begun = len(_BOM) if head.startswith(_BOM) else 0
        read = pushed_back(read, head[begun:])
        header = b""
        if self.format.header:
            header, rest = _first_line(read)
            read = pushed_back(read, rest)
            begun += len(header)
            header = header if header.endswith(b"\n") else header + b"\n"
        if self.position.at > begun:
            read = _skipped(read, self.position.at - begun)
        return read, header, begun

    def _frames(self) -> Iterator[Chunk]:
        at = self.position.at
        try:
            assert isinstance(self._file, _Input)
            self._file.check(strict=True)
            file = pq.ParquetFile(self._file.handle)
            for rows in _slices(file, parquet.needed(file.schema_arrow.names, self.options), at):
                self._file.check(strict=True)
                at += len(rows)
                consumed = self.position.size * at // max(file.metadata.num_rows, 1)
                yield Chunk(rows, pl.DataFrame(schema=REJECTS), replace(self.position, at=at), consumed)
        except Unreadable as error:
            yield self._bad(pl.DataFrame(), str(error), replace(self.position, done=True))
        except (pa.ArrowException, OSError, pl.exceptions.PolarsError) as error:
            reason = f"not a readable Parquet file: {' '.join(str(error).split())}"
            yield self._bad(pl.DataFrame(), reason, replace(self.position, done=True))

    def _bad(self, raw: bytes | pl.DataFrame, error: str, position: Position) -> Chunk:
        frames = isinstance(raw, pl.DataFrame)
        rejects = rejects_of([0], [b"" if isinstance(raw, pl.DataFrame) else raw], [error])
        return Chunk(pl.DataFrame() if frames else b"", rejects, position, self._file.consumed)


class _Input:
    """The bytes of a file as it was when it was first opened, or of a stream."""

    def __init__(self, path: str, position: Position | None) -> None:
        self.handle: IO[bytes] = sys.stdin.buffer if path == STDIN else open(path, "rb")  # noqa: SIM115 - see close
        status = os.fstat(self.handle.fileno())
        self.is_stream = not stat.S_ISREG(status.st_mode)
        self.consumed = 0
        if position is None:
            position = Position() if self.is_stream else Position(0, False, status.st_size, status.st_mtime_ns)
        self.position = position
        self.is_plain = not self.is_stream and _is_plain(self.handle)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, b"" at the end. Raises Unreadable where they are not what they were."""
        try:
            left = size if self.is_stream else min(size, self.position.size - self.consumed)
            block = self.handle.read(left) if left > 0 else b""
        except OSError as error:
            raise Unreadable(f"reading failed: {error.strerror}") from error
        self.check(strict=not block)
        self.consumed += len(block)
        return block

    def check(self, strict: bool) -> None:
        """Raises Unreadable if the file was changed. Where it only grew, its old bytes stand: that is for `strict`."""
        if self.is_stream:
            return
        before, now = self.position, os.fstat(self.handle.fileno())
        if now.st_size < before.size:
            raise Unreadable(f"the file shrank from {before.size:,} to {now.st_size:,} bytes while it was read")
        if now.st_size == before.size and now.st_mtime_ns != before.modified:
            raise Unreadable("the file was changed while it was read")
        if now.st_size > before.size and strict:
            raise Unreadable(
                f"the file grew from {before.size:,} to {now.st_size:,} bytes while it was read; "
                "what was appended is left out"
            )

    def seek(self, at: int) -> None:
        self.handle.seek(at)
        self.consumed = at

    def close(self) -> None:
        if self.handle is not sys.stdin.buffer:
            self.handle.close()


class _LogInput(LogInput):
    """The bytes of a log as it was when it was first opened."""

    def __init__(self, path: str, position: Position | None) -> None:
        before = position or Position()
        try:
            super().__init__(Path(path), *((before.first, before.size) if position else ()))
        except Unreadable as error:
            raise OSError(0, str(error)) from None
        self.position = position or Position(size=self.size, first=self.first)


def _is_plain(handle: IO[bytes]) -> bool:
    magic = handle.read(MAGIC_SIZE)
    handle.seek(0)
    return not magic.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))


def _slices(file: pq.ParquetFile, names: list[str], skip: int) -> Iterator[pl.DataFrame]:
    """The rows after `skip`, in slices; the first is small, so that many partitions can be peeked at."""
    groups = list(range(file.metadata.num_row_groups))
    while groups and skip >= file.metadata.row_group(groups[0]).num_rows:
        skip -= file.metadata.row_group(groups.pop(0)).num_rows
    first = True
    for batch in file.iter_batches(_ROWS, row_groups=groups, columns=names):
        rows = pl.DataFrame(pl.from_arrow(batch))
        if skip:
            rows, skip = rows[skip:], max(skip - len(rows), 0)
        if first and len(rows) > _FIRST_ROWS:
            yield rows[:_FIRST_ROWS]
            rows = rows[_FIRST_ROWS:]
        if len(rows):
            first = False
            yield rows


def _gather(read: Read, size: int) -> bytes:
    head = b""
    while len(head) < size and (block := read(max(size - len(head), HEAD))):
        head += block
    return head


def _first_line(read: Read) -> tuple[bytes, bytes]:
    """The first line, its end included, and what was read beyond it."""
    head = b""
    while b"\n" not in head and len(head) < 16 * HEAD and (block := read(HEAD)):
        head += block
    end = head.find(b"\n") + 1 or len(head)
    return head[:end], head[end:]


def _skipped(read: Read, size: int) -> Read:
    """`read` behind `size` bytes."""
    while size > 0 and (block := read(min(size, 1 << 20))):
        if len(block) > size:
            return pushed_back(read, block[size:])
        size -= len(block)
    return read
