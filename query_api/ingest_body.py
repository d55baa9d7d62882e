"""A request's body, decompressed where it says so, and never larger than is allowed."""

from __future__ import annotations

import zlib

from fastapi import Request

from query_api.envelope import ApiError, ErrorCode

_STEP = 1 << 20


async def read_body(request: Request, most: int) -> bytes:
    """The body, at most `most` bytes also when decompressed. Raises ApiError PayloadTooLarge, ValidationError."""
    headers = request.headers
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)
    body = bytearray()
    async for block in request.stream():
        if not body and len(block) <= most:
            body = bytearray(block)
        else:
            body += block
        if len(body) > most:
            raise _too_large(most)
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return bytes(body)
    if encoding not in ("gzip", "x-gzip"):
        raise ApiError(ErrorCode.VALIDATION_ERROR, f"Content-Encoding {encoding!r} is not supported; gzip is.")
    return gunzip(bytes(body), most)


def gunzip(data: bytes, most: int) -> bytes:
    """The content of all gzip members. Raises ApiError; no more than `most` bytes and a little are ever held."""
    parts: list[bytes] = []
    size = 0
    while data:
        inflate = zlib.decompressobj(wbits=31)
        while not inflate.eof:
            try:
                block = inflate.decompress(data, _STEP)
            except zlib.error as error:
                raise ApiError(ErrorCode.VALIDATION_ERROR, f"The gzip data is damaged: {error}.") from None
            data = inflate.unconsumed_tail
            size += len(block)
            if size > most:
                raise _too_large(most)
            if not block and not data and not inflate.eof:
                raise ApiError(ErrorCode.VALIDATION_ERROR, "The gzip data ends in the middle.")
            parts.append(block)
        data = inflate.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _too_large(most: int) -> ApiError:
    return ApiError(ErrorCode.PAYLOAD_TOO_LARGE, f"The body is larger than {most:,} bytes.")
