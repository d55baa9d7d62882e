"""How the scanner is compiled: by Numba, on first use, and kept beside the source or in the user's cache.

`_nrt=False` does without reference counts, which would cost four times the rest. Nothing here allocates, and whoever
calls holds on to what is passed, so there is nothing to count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

_jit = partial(numba.njit, nogil=True, error_model="numpy", _nrt=False)
# Parts are not kept: what comes from a cache cannot be inlined any more.
part: Callable[[F], F] = _jit()
inlined: Callable[[F], F] = _jit(forceinline=True)


def whole(function: F) -> F:
    """A function with all its parts, kept."""
    try:
        return _jit(cache=True)(function)
    except RuntimeError:  # there is nowhere to keep it
        return part(function)


def sources() -> int:
    """A number that changes with the source of any part."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7])
