"""Lines of JSON that hold other records than one plain event: envelopes, batches, arrays to be taken apart.

A format says how one object becomes records (`unfold`); each of them is then a row by the definition in record.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import orjson

from connectors.formats import paths
from connectors.formats.paths import Fields
from connectors.formats.record import Reject, Row, frame_of, rejects_of, row_of
from connectors.formats.types import Decoded, DecodeOptions

# The records in one object. May raise Reject: then the line as a whole is one bad record.
Unfold = Callable[[Fields], Iterable[Fields]]

_BOM = b"\xef\xbb\xbf"
_elements = msgspec.json.Decoder(list[msgspec.Raw])


def elements(array: bytes) -> list[bytes]:
    """The elements of a JSON array that is known to be valid, each as its own JSON text."""
    return [bytes(raw) for raw in _elements.decode(array)]


def decode(chunk: bytes, options: DecodeOptions, unfold: Unfold) -> Decoded:
    """The rows of whole lines. Positions count records: a line has as many as `unfold` finds in it, none for an empty
    array; a blank or unusable line has one."""
    good: list[int] = []
    rows: list[Row] = []
    bad: list[int] = []
    raws: list[bytes] = []
    errors: list[str] = []
    offset = 0
    for line in chunk.removesuffix(b"\n").split(b"\n") if chunk else ():
        try:
            found = _records(line, unfold)
        except Reject as reject:
            bad.append(offset)
            raws.append(line)
            errors.append(str(reject))
            offset += 1
            continue
        if found is None:
            offset += 1
            continue
        for fields in found:
            try:
                rows.append(row_of(fields, options))
                good.append(offset)
            except Reject as reject:
                bad.append(offset)
                raws.append(paths.lookup(fields, ()) or b"")
                errors.append(str(reject))
            offset += 1
    return Decoded(frame_of(good, rows), rejects_of(bad, raws, errors), offset)


def _records(line: bytes, unfold: Unfold) -> list[Fields] | None:
    """The records of a line, None where it is blank."""
    text = line.removeprefix(_BOM).strip()
    if not text:
        return None
    try:
        if not isinstance(orjson.loads(text), dict):
            raise Reject("a JSON object is expected on every line")
        return list(unfold(paths.members(text)))
    except orjson.JSONDecodeError as error:
        raise Reject(f"not valid JSON: {error}") from None
    except RecursionError:
        raise Reject("not usable JSON: nested too deeply") from None
