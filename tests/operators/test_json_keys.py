"""What the bytes say is what the definition says."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.fields import text_of
from operators.json_keys import coded_under
from tests.operators.test_rollup import FEW_OR_MANY, worth

KEYS = ("tag", "guardian_id", "e")
NAMES = st.sampled_from([*KEYS, "ta", "tagg", "other", 'q"uote', "back\\slash", "Ж"])
TEXTS = st.sampled_from(["", "x", 'a "tag": "b"', "\\", "Ж", "{", "]"])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def objects(draw: st.DrawFn) -> str | None:
    """JSON as somebody may write it: with spaces, escapes, keys that come twice, or no object at all."""
    if draw(st.booleans()) and draw(st.booleans()):
        return draw(st.sampled_from([None, "[]", "5", "null", '"tag"', '["tag", "x"]', "{}", ' {"tag" : "x"} ']))
    members = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    plain, spaced = draw(st.booleans()), draw(st.sampled_from(["", " "]))
    parts = [
        f"{json.dumps(name, ensure_ascii=plain)}{spaced}:{spaced}{json.dumps(value, ensure_ascii=plain)}"
        for name, value in members
    ]
    return "{" + f",{spaced}".join(parts) + "}"


@given(st.lists(objects(), max_size=8), FEW_OR_MANY)
def test_texts_are_those_of_the_definition(given: list[str | None], many: int) -> None:
    """The quick way may only be quicker."""
    column = pl.Series("attributes", given, dtype=pl.String)
    with worth(many):
        found = coded_under(column, [KEYS], np.zeros(len(given), np.int64))
    for key, (numbers, texts) in zip(KEYS, found, strict=True):
        expected = column.to_frame().select(text_of(f"attributes.{key}"))["attributes"]
        assert [texts[n] for n in numbers.tolist()] == expected.to_list()
        assert len(set(texts)) == len(texts)


@given(st.lists(st.tuples(objects(), st.integers(-1, 1)), max_size=8), FEW_OR_MANY)
def test_kinds_have_keys_of_their_own(given: list[tuple[str | None, int]], many: int) -> None:
    """A field may lie under another key, or none, in another kind of object."""
    column = pl.Series("attributes", [text for text, _ in given], dtype=pl.String)
    keys: list[list[str | None]] = [["tag", None], ["e", "tag"]]
    with worth(many):
        found = coded_under(column, keys, np.array([kind for _, kind in given], np.int64))
    for field, (numbers, texts) in enumerate(found):
        for row, (_, kind) in enumerate(given):
            key = keys[kind][field] if kind >= 0 else None
            expected = column[row : row + 1].str.json_path_match(f"$['{key}']").to_list()[0] if key else None
            assert texts[numbers[row]] == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"t\\u0061g":"x"}',
        '{"tag":"a\\"b"}',
        '{"tag":1}',
        '{"tag":{"tag":"x"}}',
        '{"tag":"x","tag":"y"}',
        '{"tag":"x","deep":' + "[" * 126 + "]" * 126 + "}",
        '{"tag":"x","deep":' + "[" * 127 + "]" * 127 + "}",
        '{"deep":' + '{"a":' * 200 + "1" + "}" * 200 + ',"tag":"x"}',
    ],
)
def test_what_is_not_plain_is_looked_at_more_closely(text: str) -> None:
    """An escape may spell the key, or stand in the text; and of what is too deep the definition reads nothing."""
    expected = pl.DataFrame({"attributes": [text]}).select(text_of("attributes.tag"))["attributes"].to_list()
    with worth(0):
        [(numbers, texts)] = coded_under(pl.Series([text]), [["tag"]], np.zeros(1, np.int64))
    assert [texts[n] for n in numbers.tolist()] == expected


def test_a_part_of_a_column_is_read_as_such() -> None:
    """Frames are cut without being copied."""
    column = pl.Series([f'{{"tag":"t{n}"}}' for n in range(100)])[40:43]
    with worth(0):
        [(numbers, texts)] = coded_under(column, [["tag"]], np.zeros(3, np.int64))
    assert [texts[n] for n in numbers.tolist()] == ["t40", "t41", "t42"]
