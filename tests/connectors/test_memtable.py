"""What waits in memory: shown as one, written as one, never lost on the way."""

from __future__ import annotations

from connectors.memtable import Changes, Memtable, joined
from connectors.store import Position
from operators.live import Gone
from tests.connectors.changes import alert, changes, happened, hit, live, moved, ordered
from tests.stores import rows


def shown(memtable: Memtable) -> dict[str, int]:
    """How many rows of which table are to be seen."""
    return {name: frame.height for name, frame in memtable.overlay().items()}


def offsets(found: Changes | None) -> list[int]:
    """Which events are among the changes."""
    return [] if found is None or "events" not in found.tables else found.tables["events"]["offset"].to_list()


def test_an_empty_one_shows_nothing_and_writes_nothing() -> None:
    """An idle service must not open a transaction, nor slow a question down."""
    memtable = Memtable()
    assert (bool(memtable), memtable.take(), memtable.overlay(), memtable.events) == (False, None, {}, 0)


def test_only_tables_with_rows_are_shown() -> None:
    """Each name that is listed costs every question something."""
    memtable = Memtable()
    memtable.add(changes(1, events=happened(0)))
    memtable.add(changes(2))
    assert shown(memtable) == {"events": 1}
    memtable.add(changes(2, incidents=[live("i")], settings={"acme": "{}"}))
    assert shown(memtable) == {"events": 1, "incidents": 1, "settings": 1}


def test_the_newest_row_of_a_key_is_shown() -> None:
    """A reader sees the incident as it is now, and each of its steps, tenants and alerts once."""
    memtable = Memtable()
    for events in (1, 2, 3):
        memtable.add(
            changes(
                events,
                events=happened(events - 1),
                incidents=[live("i", events)],
                incident_tenants=[hit("i", "acme", events)],
                transitions=[moved("i", 0, events=events)],
                alerts=[alert("i.opened", "i", events)],
                settings={"acme": str(events)},
            )
        )
    overlay = memtable.overlay()
    assert ordered(overlay["incidents"]) == ordered(rows("incidents", live("i", 3)))
    assert ordered(overlay["incident_tenants"]) == ordered(rows("incident_tenants", hit("i", "acme", 3)))
    assert ordered(overlay["transitions"]) == ordered(rows("transitions", moved("i", 0, events=3)))
    assert ordered(overlay["alerts"]) == ordered(rows("alerts", alert("i.opened", "i", 3)))
    assert overlay["settings"].rows() == [("acme", "3")]
    assert overlay["events"]["offset"].to_list() == [0, 1, 2]


def test_what_is_being_written_stays_shown_until_it_is() -> None:
    """Between the two a caller who was just answered would not find their incident."""
    memtable = Memtable()
    memtable.add(changes(1, events=happened(0)))
    assert offsets(memtable.take()) == [0]
    memtable.add(changes(2, events=happened(1)))
    assert memtable.overlay()["events"]["offset"].to_list() == [0, 1]
    memtable.drop()
    assert memtable.overlay()["events"]["offset"].to_list() == [1]
    assert offsets(memtable.take()) == [1]
    memtable.drop()
    assert not memtable
    assert memtable.overlay() == {}


def test_what_could_not_be_written_waits_before_what_came_meanwhile() -> None:
    """Out of order, an older row would replace a newer one; uncounted, nobody would see that memory fills up."""
    memtable = Memtable()
    memtable.add(changes(2, events=happened(0, 1), incidents=[live("i", 1)]))
    memtable.take()
    memtable.add(changes(3, events=happened(2), incidents=[live("i", 2)]))
    assert memtable.events == 1
    memtable.give_back()
    assert memtable.events == 3
    assert memtable.overlay()["incidents"]["event_count"].to_list() == [2]
    again = memtable.take()
    assert offsets(again) == [0, 1, 2]
    assert again is not None
    assert again.positions == {"p": Position(3, 0)}


def test_a_second_take_has_what_the_first_one_had() -> None:
    """Who takes and neither drops nor gives back has lost nothing."""
    memtable = Memtable()
    memtable.add(changes(1, events=happened(0)))
    memtable.take()
    memtable.add(changes(2, events=happened(1)))
    assert offsets(memtable.take()) == [0, 1]


def test_a_connection_can_tell_that_something_changed() -> None:
    """It looks at the version, and would go on showing what it showed before."""
    memtable = Memtable()
    versions = [memtable.version]
    for change in (lambda: memtable.add(changes(1, events=happened(0))), memtable.clear):
        change()
        versions.append(memtable.version)
    memtable.add(changes(1, events=happened(0)))
    memtable.take()
    versions.append(memtable.version)
    memtable.drop()
    versions.append(memtable.version)
    assert len(set(versions)) == len(versions)


def test_cleared_it_shows_and_writes_nothing() -> None:
    """After a restart of the dataflow everything in memory comes again from the log."""
    memtable = Memtable()
    memtable.add(changes(1, events=happened(0)))
    memtable.take()
    memtable.add(changes(2, events=happened(1)))
    memtable.clear()
    assert (bool(memtable), memtable.take(), memtable.overlay(), memtable.events) == (False, None, {}, 0)


def test_changes_join_in_their_order() -> None:
    """Many batches are one write: the last position, the last settings, rows behind one another, nothing void told."""
    parts = [
        changes(2, events=happened(0, 1), settings={"acme": "one", "beta": "one"}),
        changes(4, incidents=[live("i")], alerts=[alert("void", "i"), alert("holds", "i")]),
        changes(3, events=happened(2), gone=Gone(alerts=("void",)), settings={"acme": "two"}),
    ]
    whole = joined(parts)
    assert offsets(whole) == [0, 1, 2]
    assert whole.positions == {"p": Position(3, 0)}
    assert whole.settings == {"acme": "two", "beta": "one"}
    assert whole.publication is not None
    assert whole.publication.gone.alerts == ("void",)
    assert whole.publication.news.alerts["id"].to_list() == ["holds"]
    assert joined(parts[:1]) is parts[0]
