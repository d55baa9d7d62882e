"""Answers that a client may keep: named by their content, so that nothing is sent twice (RFC 9110, 13.1.2)."""

from hashlib import blake2b

from fastapi import Request, Response


def cacheable(request: Request, body: bytes, media_type: str, headers: dict[str, str], max_age: int | None) -> Response:
    """Return the answer with its ETag, or 304 where the client has it.

    headers: what else is said; they count as content. max_age: seconds that it may be shown unasked; None: not at all.
    """
    said = "\n".join(f"{name}: {value}" for name, value in sorted(headers.items())).encode()
    tag = f'"{blake2b(body, digest_size=16, key=blake2b(said, digest_size=16).digest()).hexdigest()}"'
    control = "private, no-cache" if max_age is None else f"private, max-age={max_age}"
    sent = {**headers, "ETag": tag, "Cache-Control": control, "Vary": "Accept, Authorization, X-Api-Key"}
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(None, 304, sent)
    return Response(body, 200, sent, media_type=media_type)


def _has(known: str, tag: str) -> bool:
    tags = [one.strip().removeprefix("W/") for one in known.split(",")]
    return tag in tags or tags == ["*"]
