"""Files, globs, directories, logs and stdin -> named partitions, each with its format.

Everything that can be known to be wrong before the first event is read is one `InputError`: nothing has been touched
then. What is wrong inside a file becomes a dead letter (partitions.py).
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path

from connectors.chunks import LARGEST
from connectors.compression import Read, Unreadable, decompressed
from connectors.formats import FORMATS, Format, bare_name, format_of
from connectors.formats.types import DecodeOptions
from connectors.log_input import NAME, is_log, log_size
from connectors.partitions import HEAD, STDIN, PartitionReader, Position

# What is taken from a directory; a file that is named, or matched by a glob, is taken whatever it is called.
ENDINGS = (".log", *(ending for form in FORMATS.values() for ending in form.endings))


class InputError(ValueError):
    """An input that cannot be used at all; the text is one plain sentence."""


@dataclass(frozen=True, slots=True)
class Input:
    """A partition to be read. `name` is stable while the same inputs are named; `size` in bytes, None for a stream."""

    name: str
    path: str
    format: Format
    size: int | None


def plan(inputs: Sequence[str], format_name: str | None = None, options: DecodeOptions | None = None) -> list[Input]:
    """What is to be read, ordered by name. `format_name` None: told from each file. Raises InputError."""
    if format_name is not None and format_name not in FORMATS:
        raise InputError(f"unknown format {format_name!r}; known are {', '.join(sorted(FORMATS))}")
    paths = expand(inputs)
    year = None if options is None else options.year
    planned = [_input(name, path, format_name, year) for name, path in zip(names(paths), paths, strict=True)]
    return sorted(planned, key=lambda entry: entry.name)


def expand(inputs: Sequence[str]) -> list[str]:
    """Paths of files and logs, sorted, each once; `-` is stdin. Raises InputError where an input names nothing."""
    found: dict[str, str] = {}
    for text in inputs:
        for path in [STDIN] if text == STDIN else _expanded(text):
            found.setdefault(path if path == STDIN else os.path.realpath(path), path)
    if not found:
        raise InputError("no input: name a file, a directory, a glob or - for stdin")
    return sorted(found.values())


def names(paths: Sequence[str]) -> list[str]:
    """A name for each path: relative to the folder they have in common, with forward slashes. A log alone is `log`."""
    if len(paths) == 1 and is_log(paths[0]):
        return [NAME]
    files = [os.path.abspath(path) for path in paths if path != STDIN]
    common = os.path.commonpath([os.path.dirname(path) for path in files]) if files else ""
    relative = (path if path == STDIN else os.path.relpath(os.path.abspath(path), common) for path in paths)
    return [Path(path).as_posix() for path in relative]


def open_partition(
    entry: Input, options: DecodeOptions, position: Position | None = None, largest: int = LARGEST
) -> PartitionReader:
    """A reader that goes on at `position`. `largest`: bytes a chunk may grow to. Raises InputError."""
    try:
        return PartitionReader(entry.name, entry.path, entry.format, options, position, largest)
    except OSError as error:
        raise InputError(f"{entry.path}: {error.strerror}") from None


def head(path: str) -> bytes:
    """The first bytes of an input's content, decompressed; fewer where it is damaged. A stream is not used up."""
    if path == STDIN:
        stdin = sys.stdin.buffer
        return _content(BytesIO(stdin.peek(HEAD)).read) if isinstance(stdin, BufferedReader) else b""
    with open(path, "rb") as file:
        return _content(file.read)


def _content(raw: Read) -> bytes:
    content = b""
    try:
        read = decompressed(raw)
        while len(content) < HEAD and (block := read(HEAD)):
            content += block
    except Unreadable:
        pass
    return content[:HEAD].removeprefix(b"\xef\xbb\xbf")


def _expanded(text: str) -> list[str]:
    if os.path.isdir(text):
        files = _in_directory(text)
        if not files:
            raise InputError(f"{text}: no input in this directory; looked for {', '.join(ENDINGS)} (also .gz, .zst)")
        return files
    if os.path.exists(text):
        return [text]
    if not glob.has_magic(text):
        raise InputError(f"{text}: no such file")
    matches = glob.glob(os.path.expanduser(text), recursive=True)
    files = [path for match in matches for path in (_in_directory(match) if os.path.isdir(match) else [match])]
    if not files:
        raise InputError(f"{text}: no file matches")
    return files


def _in_directory(directory: str) -> list[str]:
    if is_log(directory):
        return [directory]
    files = [path for path in Path(directory).rglob("*") if path.is_file() and _is_visible(path.relative_to(directory))]
    taken = [path for path in files if bare_name(path.name).endswith(ENDINGS)]
    logs = {folder for folder in {path.parent for path in taken} if is_log(folder)}
    return [str(path) for path in taken if path.parent not in logs] + [str(folder) for folder in logs]


def _is_visible(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts)


def _input(name: str, path: str, format_name: str | None, year: int | None) -> Input:
    if is_log(path):
        return _log(name, path, format_name)
    is_file = path != STDIN and os.path.isfile(path)
    try:
        begins = head(path) if is_file or path == STDIN else b""  # looking into a named pipe would use it up
        size = os.path.getsize(path) if is_file else None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    form = FORMATS[format_name] if format_name else _told(path, begins)
    if form.frames and not is_file:
        raise InputError(f"{path}: Parquet cannot be read from a stream; name a file")
    if year is None and form.needs_year(begins):
        raise InputError(f"{path}: the times in this syslog file have no year; pass --year YYYY")
    return Input(name, path, form, size)


def _log(name: str, path: str, format_name: str | None) -> Input:
    if format_name not in (None, "jsonl"):
        raise InputError(f"{path}: this is a log of Tocsin, which is read as jsonl, not as {format_name}")
    try:
        return Input(name, path, FORMATS["jsonl"], log_size(Path(path)))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def _told(path: str, begins: bytes) -> Format:
    if begins.lstrip().startswith(b"["):
        raise InputError(f"{path}: a JSON array; one JSON object a line is expected, which jq -c '.[]' makes of it")
    form = format_of(os.path.basename(path), begins)
    if form is None and begins.strip():
        raise InputError(f"{path}: the format cannot be told; name it with --format ({', '.join(sorted(FORMATS))})")
    return form or FORMATS["jsonl"]
