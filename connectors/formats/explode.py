"""JSON lines with an array in them whose elements are the events, such as the updates of an incident.

The mapping names the array, `explode: $.updates`, and what of the record around it the events need,
`keep.incident: $.id`. An element with its kept fields then is a record like any other.
"""

from __future__ import annotations

from collections.abc import Iterator

from connectors.formats import paths, records
from connectors.formats.paths import Fields
from connectors.formats.record import Reject
from connectors.formats.types import Decoded, DecodeOptions

KEY = "explode"
KEEP = "keep."
ITEM = "item"  # the field of an element that is no object itself


def decode(chunk: bytes, options: DecodeOptions) -> Decoded:
    """The events of whole lines; `options.mapping` has the key `explode`."""
    path = paths.steps(options.mapping[KEY])
    kept = {key.removeprefix(KEEP): paths.steps(at) for key, at in options.mapping.items() if key.startswith(KEEP)}

    def unfold(fields: Fields) -> Iterator[Fields]:
        array = paths.lookup(fields, path)
        if array is None or not array.startswith(b"["):
            raise Reject(f"explode: no array at {options.mapping[KEY]}")
        around = {name: text for name, at in kept.items() if (text := paths.lookup(fields, at)) is not None}
        for element in records.elements(array):
            own = paths.members(element) if element.startswith(b"{") else {ITEM: element}
            yield own | around

    return records.decode(chunk, options, unfold)
