"""A lake that the workers of a cluster write together: Parquet in a shared directory or in S3-compatible storage.

    lake/events/date=2025-03-26/tocsin.log-3-00000000000000104857.parquet   events, by day of `at` (UTC)
    lake/claims/tocsin.log-3-00000000000000104857.parquet                   a table without `at` lies flat
    lake/_staged/tocsin.log-3/events/date=2025-03-26/...                    what no completed snapshot names yet

A file belongs to a part, one of the sinks that write at the same time (an input partition, a shard), and is named by
the first offset or by the number that the part gives it. `dead_letters` without a time lie in
`date=__HIVE_DEFAULT_PARTITION__`, as Hive and DuckDB call it.

Guarantee: a reader of the final paths, all below `lake` but `_staged`, sees each row exactly once, by glob and without
a manifest, provided that a part stages while an epoch runs, keeps the names in its snapshot, commits them once that
snapshot is complete on all workers, and recovers with the names of the snapshot from which it goes on. A file becomes
visible as a whole and never changes; a name is never written over. The files of one commit become visible one after
another. What `stage` returned survives the loss of power (locally files and folders are synced). Parts do not wait
for, and do not disturb, each other; two processes that write the same part at the same time do.

Lost: nothing. Left behind after a crash: in S3 an unfinished upload of a file above 10 MB (a lifecycle rule of the
bucket, AbortIncompleteMultipartUpload, removes those). Who merges or removes final files leaves those of the last hour
alone: a part that recovers must find what its snapshot names.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import urlsplit

import polars as pl
from pyarrow import fs

from connectors import rolled
from connectors.durable import sync
from connectors.event_files import ROW_GROUP, by_day, events_select
from connectors.schema import TABLES, Table, column_list, no_rows
from connectors.sql import literal
from operators.rollup import ROLLUP

_STAGED = "_staged"
# The table whose files hold minutes as `operators.rollup` makes them; views show them (`connectors.rolled`).
ROLLED = "rollup_1m"
# No part is called so, see _safe.
_CHECK = f"{_STAGED}/~check"
# Their rows are written again when they change; the newest version counts.
_VERSIONED = ("incidents", "incident_tenants")
_NO_DAY = "date=__HIVE_DEFAULT_PARTITION__/"
# Files written or moved at the same time: a request to S3 mostly waits.
_AT_ONCE = 8
# With a hash, a number and a suffix it still fits into the 255 bytes that file systems allow.
_LONGEST_PART = 180
_S3 = "s3://"
_RIGHTS = "s3:GetObject, s3:PutObject and s3:DeleteObject on the prefix and s3:ListBucket on the bucket"
# What storage says, and what to do about it.
_ADVICE = (
    (r"NO_SUCH_BUCKET", "there is no such bucket; create it, or correct its name"),
    (
        r"INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|EXPIRED_TOKEN|CLIENT_TOKEN|UNRECOGNIZED_CLIENT|"
        r"MISSING_AUTHENTICATION|InvalidToken|ExpiredToken",
        "the credentials are refused; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, where "
        "they are temporary)",
    ),
    (
        r"configured region|HTTP status 301|PERMANENT_REDIRECT|AuthorizationHeaderMalformed",
        "the bucket lies in another region; set AWS_REGION",
    ),
    (r"ACCESS_DENIED|HTTP status 403", f"access is denied; allow these credentials {_RIGHTS}"),
    (r"NETWORK_CONNECTION|REQUEST_TIMEOUT", "the storage does not answer; check AWS_ENDPOINT_URL and the network"),
    (r"\[Errno (1|13)\]", "this process may not write there; give it the right to, or name another directory"),
    (r"\[Errno 30\]", "it is read-only; mount it writable, or name another directory"),
    (r"\[Errno (17|20)\]", "a file is in the way; name a directory"),
    (r"\[Errno (28|122)\]", "there is no room left; free some, and start again"),
)

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class LakeError(Exception):
    """The lake cannot be used, or does not hold what it must; the text says where, why and what to do."""


class LakeFiles:
    """The lake as its writers see it. Every method raises LakeError where the storage refuses.

    S3 is spoken to as the usual variables say: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION
    (else AWS_DEFAULT_REGION), and AWS_ENDPOINT_URL, http or https, for storage that is not Amazon's, such as MinIO.
    """

    def __init__(self, where: str) -> None:
        """Prepare to use the lake at `where`, a directory or `s3://bucket/prefix`, without touching it yet."""
        self.where = where
        self._local = not where.startswith(_S3)
        if self._local:
            if "://" in where:
                raise LakeError(f"{where}: a lake is a directory or s3://bucket/prefix; name one of these")
            self._base = str(Path(where).resolve())
            self._root = self._base
            self._fs = fs.LocalFileSystem()
        else:
            self._base = where.removeprefix(_S3).strip("/")
            self._root = self._base.partition("/")[0]
            if not self._root:
                raise LakeError(f"{where}: the bucket is missing; write s3://bucket/prefix")
            self._fs = _s3()

    @classmethod
    def open(cls, where: str) -> LakeFiles:
        """Return the lake at `where`; a directory is made if need be, a bucket is not.

        It is tried out, with a small file that is staged, committed and removed, so that a missing right shows now.
        """
        lake = cls(where)
        name = f"check-{uuid.uuid4().hex}"
        with _explaining(where):
            if lake._local:
                _make(Path(lake._base))
            lake._write(f"{_CHECK}/{name}", b"This file was written to see whether it can be.\n")
            lake._move(lake._path(f"{_CHECK}/{name}"), lake._path(name))
            lake._fs.delete_file(lake._path(name))
        return lake

    def stage(
        self, part: str, table: str, frame: pl.DataFrame, first: int, version: int | None = None
    ) -> tuple[str, ...]:
        """Write rows aside, durable when this returns; return the names by which `commit` knows the files.

        frame: the table's columns (of ROLLED those of ROLLUP), n rows, cast to their types; no file comes of none.
        first: not negative, and another one each time for a part and table; staged a second time before it is
        committed, it replaces what it had for the same days. version: of incidents and their tenants, grows whenever a
        row comes again; if not given, `first`. Names are relative to the lake.
        """
        if first < 0:
            raise ValueError(f"first is {first}; it must not be negative")
        kinds = ROLLUP if table == ROLLED else TABLES[table].columns
        columns = [pl.col(name).cast(dtype) for name, dtype in kinds.items()]
        if table in _VERSIONED:
            columns.append(pl.lit(first if version is None else version, pl.Int64()).alias("version"))
        folder = _safe(part)
        files = {
            f"{_STAGED}/{folder}/{table}/{day}{folder}-{first:020d}.parquet": rows
            for day, rows in _by_folder(frame.select(columns))
        }
        with _explaining(self.where):
            _each(self._stage_file, list(files.items()))
            self._settle(files)
        return tuple(files)

    def commit(self, names: Sequence[str]) -> None:
        """Make staged files visible, durably. What was committed before, in full or in part, is not done again.

        Raises LakeError where a file is neither staged nor visible: rows would be missing, and nobody would know.
        """
        with _explaining(self.where):
            found = _each(self._publish, names)
            self._settle([_final(name) for name in names])
        lost = [_final(name) for name, there in zip(names, found, strict=True) if not there]
        if lost:
            raise LakeError(
                f"{self.where}: a snapshot names {lost[0]}{_more(lost)}, which is neither staged nor committed: it was "
                "removed, or this is another lake than before; put it back, name the right lake, or start over with an "
                "empty recovery directory and an empty lake"
            )

    def recover(self, part: str, names: Sequence[str]) -> None:
        """Take up a part again where a completed snapshot left it: commit what it names, delete all else it staged.

        To be called before the part stages anything; the rows that are deleted come again.
        """
        self.commit(names)
        with _explaining(self.where):
            try:
                self._fs.delete_dir(self._path(f"{_STAGED}/{_safe(part)}"))
            except FileNotFoundError:
                pass  # it never staged anything

    def clear(self) -> None:
        """Remove everything that workers have written, staged or visible; other files stay."""
        with _explaining(self.where):
            for name in (_STAGED, *TABLES):
                try:
                    self._fs.delete_dir(self._path(name))
                except FileNotFoundError:
                    pass

    def _stage_file(self, file: tuple[str, pl.DataFrame]) -> None:
        name, rows = file
        final = _final(name)
        # A part that starts from nothing on a lake that has its rows would double them all.
        if self._exists(final):
            raise LakeError(
                f"{self.where}: {final} is there already: this part has begun again at rows that were committed "
                "before; give back the recovery directory it had, or name another lake"
            )
        content = BytesIO()
        # As the store's own files of events are written, see there.
        rows.write_parquet(content, compression="zstd", compression_level=1, row_group_size=ROW_GROUP, statistics=True)
        self._write(name, content.getbuffer())

    def _write(self, name: str, content: bytes | memoryview) -> None:
        path = self._path(name)
        if self._local:
            self._fs.create_dir(str(Path(path).parent), recursive=True)
        with self._fs.open_output_stream(path, compression=None) as file:
            file.write(content)
        if self._local:
            sync(Path(path))

    def _publish(self, name: str) -> bool:
        """Move a staged file to its final path; return False where it is neither here nor there."""
        final = _final(name)
        try:
            self._move(self._path(name), self._path(final))
        except OSError:
            if self._exists(name):
                raise
            return self._exists(final)
        return True

    def _move(self, source: str, target: str) -> None:
        if self._local:
            self._fs.create_dir(str(Path(target).parent), recursive=True)
            self._fs.move(source, target)
        else:
            # Between the two it is staged and visible; copied once more, it is the same object.
            self._fs.copy_file(source, target)
            self._fs.delete_file(source)

    def _settle(self, names: Iterable[str]) -> None:
        """Make the entries of these files in their folders durable, and those of the folders. S3 has none."""
        if self._local:
            # Also of folders that were there: another process may have made them a moment ago.
            _each(sync, sorted({Path(self._base, folder) for name in names for folder in PurePosixPath(name).parents}))

    def _exists(self, name: str) -> bool:
        return bool(self._fs.get_file_info(self._path(name)).type == fs.FileType.File)

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _files(self, folder: str) -> Iterator[str]:
        """Yield the paths of the Parquet files of a folder, or of a folder of days."""
        for found in self._fs.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            if found.type == fs.FileType.Directory and found.base_name.startswith("date="):
                yield from self._files(found.path)
            elif found.type == fs.FileType.File and found.extension == "parquet":
                yield found.path

    def _select(self, name: str, table: Table) -> str:
        """Return the SELECT of a table's view."""
        shows_minutes = name in rolled.VIEWS
        folder = ROLLED if shows_minutes else name
        if next(self._files(self._path(folder)), None) is None:
            return no_rows(table)
        base = re.sub(r"[*?[]", r"[\g<0>]", self._base if self._local else f"{_S3}{self._base}")
        pattern = f"{base}/{folder}/{'date=*/' if 'at' in table.columns else ''}*.parquet"
        source = f"read_parquet({literal(pattern)}, hive_partitioning = false)"
        if name == "events":
            return events_select(Path(), (), source)
        if shows_minutes:
            return rolled.view(name, source)
        select = f"SELECT {column_list(table)} FROM {source}"
        if not table.upsert:
            return select
        key = ", ".join(f'"{column}"' for column in table.key)
        newest = ' ORDER BY "version" DESC' if name in _VERSIONED else ""  # else rows of a key are equal
        return f"{select} QUALIFY row_number() OVER (PARTITION BY {key}{newest}) = 1"


def views(where: str) -> list[str]:
    """Return CREATE VIEW statements over the final paths of the lake at `where`, one a table, with TABLES' columns.

    Of incidents and their tenants a view shows the newest version. Files that come later are seen by the views; a table
    that has none yet gets a view without rows, so ask again once it has. Reads the lake and writes nothing. For S3 the
    paths are s3://..., for which DuckDB needs its extension httpfs and a secret (`CREATE SECRET (TYPE s3, ...)`).
    Raises LakeError where the lake cannot be read.
    """
    lake = LakeFiles(where)
    with _explaining(where):
        if lake._fs.get_file_info(lake._root).type != fs.FileType.Directory:
            raise LakeError(f"{where}: there is no such {'directory' if lake._local else 'bucket'}; correct the name")
        return [f'CREATE VIEW "{name}" AS {lake._select(name, table)}' for name, table in TABLES.items()]


def _s3() -> fs.S3FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    # Delayed: a file below 10 MB is one request, not three.
    if not endpoint:
        return fs.S3FileSystem(region=region, allow_delayed_open=True)
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.netloc:
        raise LakeError(f"AWS_ENDPOINT_URL is {endpoint!r}; write it as http://host:port or https://host")
    # Storage that is not Amazon's mostly does not care, but a request must name some region.
    region = region or "us-east-1"
    return fs.S3FileSystem(
        endpoint_override=url.netloc + url.path.rstrip("/"), scheme=url.scheme, region=region, allow_delayed_open=True
    )


def _final(name: str) -> str:
    """Return where a staged file goes: its name without `_staged` and the part."""
    return name.split("/", 2)[2]


def _safe(part: str) -> str:
    """Return a part's name as a file name; different names stay different.

    Readers such as Spark pass over files whose name begins with a dot or an underscore.
    """
    raw = part.encode("utf-8", "surrogateescape")
    safe = re.sub(rb"[^A-Za-z0-9._-]|^[._-]", lambda found: b"~%02X" % ord(found[0]), raw).decode() or "~"
    if len(safe) <= _LONGEST_PART:
        return safe
    return f"{safe[:_LONGEST_PART]}~{hashlib.blake2b(raw, digest_size=16).hexdigest()}"


def _by_folder(frame: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the folder below the table's, and the rows that belong there."""
    if frame.is_empty():
        return
    if "at" not in frame.columns:
        yield "", frame
        return
    without = frame.filter(pl.col("at").is_null())
    if without.height:
        yield _NO_DAY, without
        frame = frame.filter(pl.col("at").is_not_null())
    for day, rows in by_day(frame):
        yield f"date={day}/", rows


def _each(do: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
    """Return what `do` returns for each item, several at a time."""
    if len(items) < 2:
        return [do(item) for item in items]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(do, items))


@contextmanager
def _explaining(where: str) -> Iterator[None]:
    """Raise what the storage raises as LakeError with advice."""
    try:
        yield
    except OSError as error:
        text = str(error)
        advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, text)), None)
        raise LakeError(f"{where}: {advice} ({text})" if advice else f"{where} cannot be used: {text}") from error


def _more(lost: Sequence[str]) -> str:
    return f" and {len(lost) - 1} more" if len(lost) > 1 else ""


def _make(folder: Path) -> None:
    """Make a folder and those above it, durably."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)
