"""The catalogue of input formats.

A new format is one file with a `decode` and one entry in `FORMATS`; the conformance tests run over the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from connectors.chunks import Cut, last_newline
from connectors.formats import access_log, cloudevents, csv, explode, jsonl, otlp, parquet, syslog
from connectors.formats.types import Decoded, DecodeOptions
from operators.events import DEFAULT_STREAM

# Bytes of whole lines, or for Parquet a frame, into rows. Pure; called from several threads at once.
Decode = Callable[[Any, DecodeOptions], Decoded]


@dataclass(frozen=True, slots=True)
class Format:
    """`endings`: file names that mean this format; `looks_like(head)`: whether a file's first bytes do.

    `cut` finds the end of the last whole record in bytes. With `header` a file's first line goes before every chunk.
    """

    name: str
    decode: Decode
    endings: tuple[str, ...] = ()
    looks_like: Callable[[bytes], bool] = lambda _head: False
    stream: str = DEFAULT_STREAM
    cut: Cut = last_newline
    header: bool = False
    frames: bool = False  # read in slices of frames, not in bytes
    needs_year: Callable[[bytes], bool] = lambda _head: False


def decode_json_lines(chunk: bytes, options: DecodeOptions) -> Decoded:
    """JSON lines, taken apart first where the mapping says so."""
    decode = explode.decode if explode.KEY in options.mapping else jsonl.decode
    return decode(chunk, options)


def _has_line(pattern: str) -> Callable[[bytes], bool]:
    """Whether one of the first lines matches: the very first one may be damaged."""
    compiled = re.compile(pattern.encode())
    return lambda head: any(compiled.search(line) for line in head.splitlines()[:10])


def _has_member(name: str) -> Callable[[bytes], bool]:
    begins = re.compile(rb"\s*\{")
    member = b'"' + name.encode() + b'"'
    return lambda head: begins.match(head) is not None and member in head.lstrip().partition(b"\n")[0]


def _has_csv_header(head: bytes) -> bool:
    names, _ = csv.columns(head.partition(b"\n")[0])
    return len(names) > 1 and not {name.lower() for name in names}.isdisjoint(("time", "timestamp"))


# In the order in which `looks_like` is asked: the more particular first.
FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format("parquet", parquet.decode, (".parquet", ".pq"), lambda head: head.startswith(b"PAR1"), frames=True),
        Format("otlp", otlp.decode, (), _has_member("resourceLogs"), stream=otlp.STREAM),
        Format("cloudevents", cloudevents.decode, (), _has_member("specversion")),
        Format("jsonl", decode_json_lines, (".jsonl", ".ndjson", ".json"), _has_line(r"^\s*\{")),
        Format("access_log", access_log.decode, (), _has_line(access_log.LINE), stream=access_log.STREAM),
        Format("syslog", syslog.decode, (), _has_line(syslog.HEAD), stream=syslog.STREAM, needs_year=syslog.needs_year),
        Format("csv", csv.decode, (".csv", ".tsv"), _has_csv_header, cut=csv.cut, header=True),
    )
}


def format_of(filename: str, head: bytes) -> Format | None:
    """The format of a file by its first bytes, else by its name without compression endings; None where both fail."""
    for form in FORMATS.values():
        if form.looks_like(head):
            return form
    name = bare_name(filename)
    return next((form for form in FORMATS.values() if name.endswith(form.endings or ("\0",))), None)


def bare_name(filename: str) -> str:
    """A file's name in lower case without endings of compression and rotation: `auth.log.2.gz` -> `auth.log`."""
    return re.sub(r"(\.\d+|\.gz|\.zst|\.gzip|\.zstd)+$", "", filename.lower())
