"""The manifest of a lake: what its last publication made visible, and what must not be removed yet."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from connectors.schema import STORE_VERSION

FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The last complete publication.

    number: counts publications. positions: next offset of each partition, as far as `claims` were published. events:
    the files of events, relative to the data directory. kept: files that no longer count, or do not yet, but that a
    reader may know, by the number of the publication that found them so. views: a digest of the views. rollups: by day
    what its rows add up to; rollup_files: those that a replay wrote.
    """

    number: int = 0
    positions: Mapping[str, int] = field(default_factory=dict)
    events: tuple[str, ...] = ()
    kept: Mapping[str, int] = field(default_factory=dict)
    views: str = ""
    rollups: Mapping[str, str] = field(default_factory=dict)
    rollup_files: tuple[str, ...] = ()

    @staticmethod
    def read(lake: Path) -> "Manifest":
        """Return the manifest of a lake; that of an empty one where there is none, or one of another version."""
        try:
            body = json.loads((lake / FILE).read_text())
        except FileNotFoundError:
            return Manifest()
        if body.get("version") != STORE_VERSION:
            return Manifest()
        return Manifest(
            body["number"],
            body["positions"],
            tuple(body["events"]),
            body["kept"],
            body["views"],
            body["rollups"],
            tuple(body["rollup_files"]),
        )

    def write(self, lake: Path) -> None:
        """Put this in place of the old one, at once."""
        aside = lake / (FILE + ".new")
        body = {
            "version": STORE_VERSION,
            "number": self.number,
            "positions": dict(self.positions),
            "events": list(self.events),
            "kept": dict(self.kept),
            "views": self.views,
            "rollups": dict(self.rollups),
            "rollup_files": list(self.rollup_files),
        }
        aside.write_text(json.dumps(body, indent=1, sort_keys=True))
        os.replace(aside, lake / FILE)

    @property
    def known(self) -> set[str]:
        """Files of events that readers of the lake may have in hand."""
        return {*self.events, *self.kept}
