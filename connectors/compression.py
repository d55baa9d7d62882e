"""Plain, gzip and zstd bytes behind one `read`.

A decompressed stream comes in blocks whose sizes depend on the data alone, so that a damaged file yields the same
records however it is read and wherever a resumed run starts.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import zstandard

# Asked for up to n bytes, gives at least one of them, or b"" at the end. May raise `Unreadable`.
Read = Callable[[int], bytes]

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAGIC_SIZE = 4

_INPUT = 128 << 10
_OUTPUT = 256 << 10
# zstd can blow 4 bytes up to 128 KiB, and the package has no limit on what one call returns: small sips keep even a
# decompression bomb below 32 MiB. They cost a tenth of the speed.
_ZSTD_SIP = 1 << 10


class Unreadable(Exception):
    """The rest of a partition cannot be read. Everything before it has been delivered; `str()` is the plain reason."""


def decompressed(read: Read) -> Read:
    """`read` with gzip and zstd undone, told by the first bytes and not by a name."""
    head = _exactly(read, MAGIC_SIZE)
    again = pushed_back(read, head)
    if head.startswith(GZIP_MAGIC):
        return _reader(_gunzip(again))
    if head.startswith(ZSTD_MAGIC):
        return _reader(_unzstd(again))
    return again


def pushed_back(read: Read, head: bytes) -> Read:
    """`read`, but `head` comes first."""
    waiting = [head] if head else []

    def again(size: int) -> bytes:
        return waiting.pop() if waiting else read(size)

    return again


def _exactly(read: Read, size: int) -> bytes:
    head = b""
    while len(head) < size and (block := read(size - len(head))):
        head += block
    return head


def _reader(blocks: Iterator[bytes]) -> Read:
    return lambda _size: next(blocks, b"")


def _gunzip(read: Read) -> Iterator[bytes]:
    """The content of all members. Zero padding between and after them is no data (RFC 1952 allows concatenation)."""
    inflate = None
    waiting = b""
    while True:
        waiting = waiting or read(_INPUT)
        if inflate is None:
            if not waiting:
                return
            waiting = waiting.lstrip(b"\0")
            inflate = zlib.decompressobj(wbits=31) if waiting else None
            continue
        at_end = not waiting
        try:
            block = inflate.decompress(waiting, _OUTPUT)
        except zlib.error as error:
            raise Unreadable(f"the gzip data is damaged ({error})") from error
        if block:
            yield block
        elif at_end:
            raise Unreadable("the gzip data ends in the middle: the file is truncated")
        waiting = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        inflate = None if inflate.eof else inflate


def _unzstd(read: Read) -> Iterator[bytes]:
    """The content of all frames."""
    decompressor = zstandard.ZstdDecompressor()
    inflate = None
    while waiting := read(_INPUT):
        at = 0
        while at < len(waiting):
            inflate = inflate or decompressor.decompressobj()
            sip = waiting[at : at + _ZSTD_SIP]
            try:
                block = inflate.decompress(sip)
            except zstandard.ZstdError as error:
                raise Unreadable(f"the zstd data is damaged ({error})") from error
            for begin in range(0, len(block), _OUTPUT):
                yield block[begin : begin + _OUTPUT]
            at += len(sip)
            if inflate.eof:
                at -= len(inflate.unused_data)
                inflate = None
    if inflate is not None:
        raise Unreadable("the zstd data ends in the middle: the file is truncated")
