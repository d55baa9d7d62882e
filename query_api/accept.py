"""Which of the formats that there are a client likes best (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence


def preferred(accept: str, kinds: Sequence[str]) -> str:
    """Return one of the media types `kinds`: of those liked best the first one; where none is acceptable, the first.

    accept: the header. What cannot be read in it does not count.
    """
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    if not ranges:
        return kinds[0]
    liked = {kind: _quality(kind, ranges) for kind in kinds}
    best = max(liked.values())
    return next(kind for kind in kinds if liked[kind] == best)


def _range(part: str) -> tuple[str, float]:
    kind, *parameters = (one.strip().lower() for one in part.split(";"))
    quality = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    try:
        return kind, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return kind, 0.0


def _quality(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The most specific range that fits counts."""
    for pattern in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        found = [quality for wanted, quality in ranges if wanted == pattern]
        if found:
            return max(found)
    return 0.0
