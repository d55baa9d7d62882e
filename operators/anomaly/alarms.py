"""When is an alarm raised? Once at the onset, and again only after a rest or where it gets much worse.

What is unusual stays so for a while, and every further bucket says the same. So after an alarm a series rests for some
buckets from its last one, unless a value comes that is WORSE times less likely.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REST = 72  # buckets
WORSE = 3.0


def raised(p_values: NDArray[np.float64], level: float, rest: int = REST) -> NDArray[np.int64]:
    """Return the positions at which an alarm is raised, ascending.

    p_values: float64[n], of consecutive buckets. level: largest p-value of an alarm. rest: buckets from an alarm on,
    itself included, in which no other is raised.
    """
    found: list[int] = []
    last = 1.0
    for at in np.flatnonzero(p_values <= level).tolist():
        p = float(p_values[at])
        if not found or at - found[-1] >= rest or p <= last / WORSE:
            found.append(at)
            last = p
    return np.array(found, np.int64)
