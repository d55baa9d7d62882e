"""What a threshold type answers: was it met at these rows, counting from there?"""

from __future__ import annotations

from typing import Any, Protocol

from operators.tables import Mask
from operators.windows import Positions, Span


class Evaluator(Protocol):
    """A threshold over one span of rows. Built once a batch, asked for many windows."""

    def __init__(self, spec: Any, span: Span) -> None: ...

    def met(self, at: Positions, left: Positions) -> Mask:
        """For each i: is the threshold met by the rows at positions left[i] to at[i], both included?"""
        ...
