"""CloudEvents in JSON, one event a line (https://github.com/cloudevents/spec, versions 0.3 and 1.0, structured mode).

`id`, `source`, `type` and `time` are the columns of that name. Columns the envelope does not set are lifted out of
`data`, by their own name or alias, where the value fits. `data` as a whole becomes the attributes, to which the
envelope's other fields (subject, extensions, …) are added.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from connectors.formats import paths, records
from connectors.formats.paths import Fields
from connectors.formats.record import ALIASES, Row, row_of
from connectors.formats.types import Decoded, DecodeOptions
from operators.events import DECODED

LIFTED = tuple(name for name in DECODED if name not in ("offset", "ingested_at", "attributes"))
_DATA = "$.data"


def decode(chunk: bytes, options: DecodeOptions) -> Decoded:
    """The events of whole lines."""
    data_is_mapped = _DATA in options.mapping.values()

    def unfold(fields: Fields) -> Iterator[Fields]:
        yield _unfolded(fields, LIFTED, data_is_mapped)

    return records.decode(chunk, replace(options, mapping={"attributes": _DATA, **options.mapping}), unfold)


def row(fields: Fields, options: DecodeOptions, columns: Collection[str] = LIFTED) -> Row:
    """The row of one event; `columns` are those that may be lifted out of `data`. Raises Reject."""
    mapped = replace(options, mapping={"attributes": _DATA, **options.mapping})
    return row_of(_unfolded(fields, columns, _DATA in options.mapping.values()), mapped)


def _unfolded(fields: Fields, columns: Collection[str], data_is_mapped: bool) -> Fields:
    data = fields.get("data")
    if data is not None and data.startswith(b"{"):
        return _lifted(fields, paths.members(data), columns)
    if data is not None and data != b"null" and not data_is_mapped:
        return fields | {"data": b'{"data":' + data + b"}"}
    return fields


def _lifted(fields: Fields, data: Fields, columns: Collection[str]) -> Fields:
    lifted = dict(fields)
    for column in columns:
        names = (column, ALIASES.get(column, column))
        if all(_absent(fields.get(name)) for name in names):
            fits = (data[name] for name in names if name in data and _fits(column, data[name]))
            value = next(fits, None)
            if value is not None:
                lifted[column] = value
    return lifted


def _absent(text: bytes | None) -> bool:
    return text is None or text in (b"null", b'""')


def _fits(column: str, text: bytes) -> bool:
    """What `data` holds is the producer's affair: a value of another type is no reason to refuse the event."""
    if column == "value":
        return text[:1] in b"-0123456789"
    return not _absent(text) and not text.startswith((b"{", b"["))
