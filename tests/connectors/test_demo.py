"""The made-up day of `tocsin demo`."""

import json

from connectors import demo


def test_the_day_is_the_same_every_time() -> None:
    """What the README prints is what everybody sees."""
    assert list(demo.lines()) == list(demo.lines())


def test_another_seed_is_another_day() -> None:
    """The seed is used: else the test above could not fail."""
    assert list(demo.lines(1)) != list(demo.lines(2))


def test_the_day_holds_what_it_promises() -> None:
    """Broken lines, duplicates, disorder and a command are in it, or the demo would show less than it says."""
    records, broken = [], 0
    for line in demo.lines():
        try:
            records.append(json.loads(line))
        except ValueError:
            broken += 1
    ids = [record["id"] for record in records if "id" in record]
    times = [record["time"] for record in records if isinstance(record.get("time"), str)]
    assert 50_000 <= len(records) <= 150_000
    assert broken >= 2
    assert len(set(ids)) < len(ids)
    assert times != sorted(times)
    assert [record["record"] for record in records if "record" in record] == ["resolve"]
