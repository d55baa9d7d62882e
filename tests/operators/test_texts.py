"""Texts by number: one number a text, whatever it is the text of."""

import numpy as np

from operators.texts import Texts


def test_a_text_that_is_met_twice_at_once_has_one_number() -> None:
    """A rule that counts tenants sends each tenant twice, as the tenant and as what is counted: it is one tenant."""
    texts = Texts()
    tenants, items = texts.numbers([None, "t0", "t1", "t0"], [np.array([0, 1, 2], np.int32), np.array([3], np.int32)])
    assert texts.items == [None, "t0", "t1"]
    assert (tenants.tolist(), items.tolist()) == ([0, 1, 2], [1])
    (again,) = texts.numbers(["t1", "t2", "t1"], [np.array([0, 1, 2], np.int32)])
    assert again.tolist() == [2, 3, 2]
