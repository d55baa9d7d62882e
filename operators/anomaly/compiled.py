"""How the detector's loops are compiled: by Numba, on first use, once a process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

# Not kept on disk: what is kept does not notice when a function that it calls has changed in another file.
compiled: Callable[[F], F] = partial(numba.njit, nogil=True, error_model="numpy")()
