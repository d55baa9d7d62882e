"""Parquet: foreign types in event columns, bad rows, projection and slices."""

import datetime as dt
import json
from pathlib import Path

import polars as pl
import pytest

from connectors.files import open_partition, plan
from connectors.formats import FORMATS, parquet
from connectors.formats.types import DecodeOptions
from operators.events import DECODED

FORM = FORMATS["parquet"]
OPTIONS = DecodeOptions()
TIME = dt.datetime(2024, 1, 1, 12, 0, 0, 123456, dt.UTC)


def events(**columns: object) -> pl.DataFrame:
    return pl.DataFrame({"time": [TIME], "source": ["s"], "type": ["t"]}).with_columns(
        **{name: value if isinstance(value, pl.Series | pl.Expr) else pl.lit(value) for name, value in columns.items()}
    )


def decode(frame: pl.DataFrame, options: DecodeOptions = OPTIONS) -> dict[str, object]:
    decoded = FORM.decode(frame, options)
    assert dict(decoded.frame.schema) == DECODED
    assert decoded.rejects.is_empty()
    return decoded.frame.row(0, named=True)


@pytest.mark.parametrize(
    "time",
    [
        pl.Series([TIME], dtype=pl.Datetime("ns", "UTC")),
        pl.Series([TIME]).dt.convert_time_zone("Asia/Tokyo"),
        pl.Series([TIME.replace(tzinfo=None)], dtype=pl.Datetime("us")),
        pl.Series(["2024-01-01T13:00:00.123456+01:00"]),
    ],
    ids=["ns", "zone", "naive", "text"],
)
def test_times_of_all_kinds(time: pl.Series) -> None:
    assert decode(events(time=time))["time"] == TIME


def test_numbers_in_text_columns_are_their_text() -> None:
    row = decode(
        events(code=pl.Series([503]), tenant=pl.Series([1.5]), place=True, value=pl.Series([7], dtype=pl.UInt8))
    )
    assert (row["code"], row["tenant"], row["place"], row["value"]) == ("503", "1.5", "true", 7.0)


def test_columns_that_are_no_event_columns_become_attributes() -> None:
    frame = events(
        offset=4, raw="r", day=dt.date(2024, 1, 1), gone=pl.lit(None, pl.String), nan=float("nan"), at=pl.Series([TIME])
    ).with_columns(deep=pl.struct(a=pl.lit(1), b=pl.lit("x")), many=pl.concat_list(pl.lit(1), pl.lit(2)))
    assert json.loads(str(decode(frame)["attributes"])) == {
        "offset": 4,
        "raw": "r",
        "day": "2024-01-01",
        "at": "2024-01-01T12:00:00.123456Z",
        "deep": {"a": 1, "b": "x"},
        "many": [1, 2],
    }


def test_attributes_as_json_text_or_as_a_struct_stay_an_object() -> None:
    assert decode(events(attributes='{"a": [1, {"b": "\\u00e9"}]}'))["attributes"] == '{"a": [1, {"b": "\\u00e9"}]}'
    frame = events().with_columns(rawPayload=pl.struct(a=pl.lit(1)), extra=pl.lit("x"))
    assert decode(frame)["attributes"] == '{"a":1,"extra":"x"}'
    assert decode(events(attributes="no json", extra="x"))["attributes"] == '{"attributes":"no json","extra":"x"}'


def test_one_bad_row_costs_only_itself() -> None:
    frame = pl.concat([events(value="1"), events(value="much"), events(value="3")])
    decoded = FORM.decode(frame, OPTIONS)
    assert decoded.frame["offset"].to_list() == [0, 2]
    assert decoded.frame["value"].to_list() == [1.0, 3.0]
    (reject,) = decoded.rejects.to_dicts()
    assert (reject["offset"], reject["error"]) == (1, 'value: "much" is a text, a number is expected')
    assert json.loads(reject["raw"])["value"] == "much"


def test_times_that_are_none_are_refused() -> None:
    for time in (
        pl.Series([1_700_000_000]),
        pl.Series([dt.date(2024, 1, 1)]),
        pl.Series([None], dtype=pl.Datetime("us")),
    ):
        decoded = FORM.decode(events(time=time), OPTIONS)
        assert decoded.frame.is_empty()
        assert decoded.rejects["error"].item().startswith("time: ")


def test_only_needed_columns_are_read_unless_attributes_are_wanted() -> None:
    names = ["time", "source", "type", "svc", "payload"]
    narrow = DecodeOptions(columns=frozenset({"code"}), mapping={"source": "$.svc"})
    assert parquet.needed(names, narrow) == ["time", "source", "type", "svc"]
    assert parquet.needed(names, OPTIONS) == names


def test_a_file_comes_in_slices_across_row_groups(tmp_path: Path) -> None:
    frame = pl.DataFrame({"timestamp": [TIME] * 7000, "source": "s", "type": "t", "value": range(7000)})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=3000)
    (entry,) = plan([str(tmp_path / "a.parquet")])
    with open_partition(entry, OPTIONS) as reader:
        decoded = [reader.decode(chunk) for chunk in reader.chunks()]
    assert decoded[0].records == 2000  # small, so that many files can be peeked at
    assert pl.concat([part.frame for part in decoded])["value"].to_list() == list(range(7000))


def test_slices_do_not_show() -> None:
    frame = pl.concat([events(attributes=text) for text in ('{"a":1}', '{"a":', "{}", '{"\\ud800":1}', "x") * 3])
    whole = FORM.decode(frame, OPTIONS).frame["attributes"].to_list()
    assert [FORM.decode(frame[n : n + 1], OPTIONS).frame["attributes"].item() for n in range(len(frame))] == whole
