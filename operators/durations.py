"""Durations as people write them, as the microseconds the engine counts in.

`5m`, `90s`, `1h30m`, `1d`, or a whole number of seconds. Units, largest first: d, h, m, s, ms, us.
"""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from operators.events import DAY, HOUR, MINUTE, SECOND

_UNITS = {"d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": 1_000, "us": 1}
_TEXT = re.compile("".join(rf"(?:([0-9]{{1,12}}){unit})?" for unit in _UNITS))
_LONGEST = 365 * DAY
_FORM = "a duration like 90s, 5m, 1h30m or 1d, or a whole number of seconds"


def parse_duration(value: Any) -> int:
    """Return `value` in microseconds: text such as `1h30m`, an integer of seconds, or a `timedelta`.

    Raises ValueError where it is none of these, not longer than zero, or longer than 365 days (state is bounded).
    """
    if isinstance(value, timedelta):
        micros = value // timedelta(microseconds=1)
    elif isinstance(value, int) and not isinstance(value, bool):
        micros = value * SECOND
    else:
        found = _TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None or not any(found.groups()):
            raise ValueError(f"expected {_FORM}, got {value!r}")
        micros = sum(int(n or 0) * size for n, size in zip(found.groups(), _UNITS.values(), strict=True))
    if not 0 < micros <= _LONGEST:
        raise ValueError(f"must be longer than 0 and at most 365d, got {value!r}")
    return micros


def format_duration(micros: int) -> str:
    """Return the shortest text that `parse_duration` reads back as `micros`: 5400000000 is `1h30m`."""
    text, rest = "", micros
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


# A field of a rule: read as text or seconds, held in microseconds, written as text again.
Duration = Annotated[int, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)]
