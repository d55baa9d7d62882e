"""`make bench`: Tocsin and the references on the same file, in one run, in alternating repetitions.

Every command is a process of its own. The file is read once before, so that all find it in the page cache. Printed are
medians; the JSON file holds every repetition. The exit code is 1 if Tocsin and the references disagree about the
incidents, never because of a time.

    python -m benchmarks.run --events 10_000_000 --repeat 3
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.agree import compare
from benchmarks.generate import generate
from benchmarks.measure import Run, machine, measure

ROOT = Path(__file__).resolve().parent.parent
MEMORY_LIMIT = 1536  # MiB
LINEAR = (0.25, 0.5, 1.0)  # fractions of the file for `--linear`


@dataclass(frozen=True, slots=True)
class Contender:
    """A command to measure. `makes` is the file or directory it writes, `incidents` where its incidents are."""

    name: str
    title: str
    command: tuple[str, ...]
    makes: Path
    incidents: Path | None


@dataclass(frozen=True, slots=True)
class Target:
    """`time of` divided by `time against` must be at least `ratio`: how many times faster `against` is."""

    title: str
    of: str
    against: str
    ratio: float


TARGETS = (
    Target("detection, against the DuckDB query", "duckdb_query", "replay", 0.9),
    Target("everything stored, against a DuckDB load", "duckdb_load", "replay_all", 0.5),
    Target("everything stored, against per-event Bytewax", "bytewax", "replay_all", 3.0),
    Target("detection from Parquet, against JSON lines", "replay", "replay_parquet", 2.0),
    Target("everything from Parquet, against JSON lines", "replay_all", "replay_all_parquet", 2.0),
)


def contenders(folder: Path, lines: Path, parquet: Path, threads: int) -> list[Contender]:
    python = sys.executable
    script = Path(python).with_name("tocsin")
    tocsin = (str(script),) if script.exists() else (python, "-c", "import tocsin; tocsin.main()")

    def replay(name: str, title: str, source: Path, *flags: str) -> Contender:
        data = folder / name
        return Contender(
            name,
            title,
            (*tocsin, "replay", str(source), "--data", str(data), *flags),
            data,
            data / "store.duckdb",
        )

    def reference(name: str, title: str, module: str, out: str, *flags: str, compared: bool = True) -> Contender:
        made = folder / out
        command = (python, "-m", f"benchmarks.{module}", str(lines), "--out", str(made), *flags)
        return Contender(name, title, command, made, made if compared else None)

    two = ("--threads", str(threads))
    return [
        reference("duckdb_query", "DuckDB query, incidents", "reference_duckdb", "reference.parquet", *two),
        replay("replay", "tocsin replay --no-events", lines, "--no-events"),
        reference("duckdb_load", "DuckDB load, events", "reference_duckdb_load", "load.duckdb", *two, compared=False),
        replay("replay_all", "tocsin replay", lines),
        reference("bytewax", "Bytewax per event, nothing stored", "reference_bytewax", "bytewax.jsonl"),
        replay("replay_parquet", "tocsin replay --no-events, Parquet", parquet, "--no-events"),
        replay("replay_all_parquet", "tocsin replay, Parquet", parquet),
    ]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _warm(files: Sequence[Path]) -> None:
    for file in files:
        with file.open("rb", buffering=0) as source:
            while source.read(1 << 24):
                pass


def repeat(chosen: Sequence[Contender], times: int, console: Console) -> dict[str, list[Run]]:
    """Alternate the commands, so that a slow minute of the machine falls on all of them."""
    runs: dict[str, list[Run]] = {contender.name: [] for contender in chosen}
    for round_ in range(times):
        for contender in chosen:
            _remove(contender.makes)
            run = measure(contender.command, ROOT)
            runs[contender.name].append(run)
            console.print(f"  {round_ + 1}/{times} {contender.title}: {run.wall:.1f} s", style="dim", highlight=False)
    return runs


def _median(runs: Sequence[Run]) -> float:
    return statistics.median(run.wall for run in runs)


def results_table(chosen: Sequence[Contender], runs: dict[str, list[Run]], n: int) -> Table:
    table = Table("command", title=f"{n:,} events")
    for column in ("seconds", "spread", "events/s", "CPU s", "peak MiB"):
        table.add_column(column, justify="right")
    for contender in chosen:
        own = runs[contender.name]
        walls = [run.wall for run in own]
        table.add_row(
            contender.title,
            f"{_median(own):.1f}",
            f"{min(walls):.1f}-{max(walls):.1f}",
            f"{n / _median(own):,.0f}",
            f"{statistics.median(run.cpu for run in own):.1f}",
            f"{max(run.rss for run in own):,.0f}",
        )
    return table


def ratios(runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """Measured against targets, for those whose both sides ran."""
    found: list[dict[str, Any]] = []
    for target in TARGETS:
        if target.of in runs and target.against in runs:
            ratio = _median(runs[target.of]) / _median(runs[target.against])
            found.append(
                {"title": target.title, "ratio": round(ratio, 2), "target": target.ratio, "met": ratio >= target.ratio}
            )
    return found


def ratios_table(found: Sequence[dict[str, Any]], peak: float | None) -> Table:
    table = Table("speed of Tocsin")
    for column in ("measured", "target", ""):
        table.add_column(column, justify="right")
    for row in found:
        table.add_row(
            row["title"], f"{row['ratio']:.2f} x", f"{row['target']:.1f} x", "met" if row["met"] else "missed"
        )
    if peak is not None:
        verdict = "met" if peak < MEMORY_LIMIT else "missed"
        table.add_row("peak memory of a replay", f"{peak:,.0f} MiB", f"{MEMORY_LIMIT:,} MiB", verdict)
    return table


def agreement(chosen: Sequence[Contender], console: Console) -> tuple[list[dict[str, Any]], bool]:
    """Compare everyone's incidents with those of the first that has any."""
    withs = [contender for contender in chosen if contender.incidents]
    report: list[dict[str, Any]] = []
    for other in withs[1:]:
        first = withs[0]
        assert first.incidents
        assert other.incidents
        result = compare(first.incidents, other.incidents)
        report.append({"reference": first.name, "other": other.name, **asdict(result)})
        console.print(
            f"  {result.other:,} incidents of {other.title}, {result.reference:,} of {first.title}: "
            + ("equal" if not result.different else f"{result.different:,} rows DIFFER"),
            highlight=False,
        )
        for example in result.examples:
            console.print("   ", example, style="red", highlight=False)
    return report, all(not row["different"] for row in report)


def linear(folder: Path, n: int, threads: int, console: Console) -> list[dict[str, Any]]:
    """Replay growing prefixes of the file: time should grow in proportion, memory not at all."""
    table = Table("events", title="growth: tocsin replay")
    for column in ("seconds", "events/s", "peak MiB"):
        table.add_column(column, justify="right")
    rows: list[dict[str, Any]] = []
    for fraction in LINEAR:
        part = round(n * fraction)
        lines = folder / f"events-{part}.jsonl"
        if not lines.exists():
            generate(part, lines, None)
        _warm([lines])
        contender = next(c for c in contenders(folder, lines, lines, threads) if c.name == "replay_all")
        _remove(contender.makes)
        run = measure(contender.command, ROOT)
        rows.append({"events": part, **asdict(run)})
        table.add_row(f"{part:,}", f"{run.wall:.1f}", f"{part / run.wall:,.0f}", f"{run.rss:,.0f}")
        _remove(contender.makes)
    console.print(table)
    return rows


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Tocsin against the references.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="for the DuckDB references")
    parser.add_argument("--dir", type=Path, default=ROOT / "bench-data", help="where files are made and kept")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of: " + ", ".join(_names()))
    parser.add_argument("--linear", action="store_true", help="also replay a quarter and a half of the file")
    parser.add_argument("--keep", action="store_true", help="keep what the commands wrote")
    return parser.parse_args()


def _names() -> list[str]:
    return [contender.name for contender in contenders(Path(), Path(), Path(), 2)]


def main() -> None:
    options = _options()
    unknown = set(options.only or ()) - set(_names())
    if unknown:
        sys.exit(f"--only: no such command: {', '.join(sorted(unknown))}; there are: {', '.join(_names())}")
    console = Console(width=None if sys.stdout.isatty() else 110)
    folder: Path = options.dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    n: int = options.events
    lines, parquet = folder / f"events-{n}.jsonl", folder / f"events-{n}.parquet"
    if not (lines.exists() and parquet.exists()):
        console.print(f"Generating {n:,} events ...", highlight=False)
        generate(n, lines, parquet)
    _warm([lines, parquet])

    about = machine()
    console.print(
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, {about['system']}, load "
        f"{about['load_before']}\nPython {about['python']}, "
        + ", ".join(f"{name} {about[name]}" for name in ("polars", "duckdb", "bytewax", "pyarrow"))
        + f"\n{lines.name}: {lines.stat().st_size / 2**20:,.0f} MiB, {parquet.name}: "
        f"{parquet.stat().st_size / 2**20:,.0f} MiB",
        highlight=False,
    )
    chosen = [
        contender
        for contender in contenders(folder, lines, parquet, options.threads)
        if not options.only or contender.name in options.only
    ]
    runs = repeat(chosen, options.repeat, console)
    found = ratios(runs)
    own = [run.rss for name, ones in runs.items() if name.startswith("replay") for run in ones]
    console.print(results_table(chosen, runs, n))
    console.print(ratios_table(found, max(own, default=None)))
    agreements, agreed = agreement(chosen, console)
    growth = linear(folder, n, options.threads, console) if options.linear else []
    if not options.keep:
        for contender in chosen:
            _remove(contender.makes)
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "events": n,
        "runs": {name: [asdict(run) for run in ones] for name, ones in runs.items()},
        "ratios": found,
        "agreement": agreements,
        "growth": growth,
    }
    written = folder / f"bench-{n}.json"
    written.write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"Written to {written}", highlight=False)
    sys.exit(0 if agreed else 1)


if __name__ == "__main__":
    main()
