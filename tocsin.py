"""The command line: every command is one small function that asks, shows, and says with its exit code how it went.

0: done. 1: done, and something was found that a script should notice. 2: not done, one sentence on stderr says why.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from connectors import demo as demo_day
from connectors import files, mapping, rulefiles
from connectors.formats import FORMATS
from connectors.formats.types import DecodeOptions
from connectors.kafka.inputs import SCHEME
from connectors.kafka.inputs import plan as kafka_plan
from connectors.kafka.messages import READABLE
from connectors.kafka.serdes import SERDES, RegistrySettings, SerdeError
from connectors.kafka.settings import KafkaError, KafkaSettings
from connectors.lake_files import LakeError
from connectors.log import LogDamaged, LogUnavailable
from connectors.reader import open_reader
from connectors.schema import TABLES
from connectors.store import StoreError
from flows import cluster, progress, replay
from flows.plan import SHARDS, Input, Plan
from operators.durations import parse_duration
from operators.events import DEFAULT_WORKSPACE, SECOND, SEVERITIES
from operators.rule_errors import RuleError
from operators.rules import Rule, in_order
from query_api import as_json
from query_api.events import incident_events
from query_api.explain import explain_incident
from query_api.export import export_table
from query_api.fetch import QueryError
from query_api.incidents import STATUSES, IncidentFilter, find_incidents, get_incident
from query_api.render import frame, plural
from query_api.render_explain import show_explanation, show_rules, show_why_not
from query_api.render_incidents import show_incidents, show_timeline
from query_api.render_replay import show_summary
from query_api.sql import ask as ask_sql
from query_api.timeline import timeline
from query_api.why_not import why_not

# What a person can get wrong, or find in the way: one sentence each, no traceback.
EXPECTED = (
    StoreError, QueryError, RuleError, files.InputError, mapping.MappingError, replay.ReplayError, OSError,
    LogUnavailable, LogDamaged, KafkaError, LakeError, SerdeError,
)  # fmt: skip


class Commands(TyperGroup):
    """Turns expected errors into a sentence on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `tocsin sql … | head` is no error
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it once more on its way out
            raise typer.Exit(0) from None
        except EXPECTED as wrong:
            typer.echo(f"tocsin: {wrong}", err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)
rules_app = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode=None, help="Check and list rules.")
app.add_typer(rules_app, name="rules")


def _moment(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time; write 2025-03-26 or 2025-03-26T08:14:22Z") from None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _one_of(names: Iterable[str]) -> Callable[[list[str] | None], list[str] | None]:
    known = {name.lower(): name for name in names}

    def check(values: list[str] | None) -> list[str] | None:
        for value in values or ():
            if value.lower() not in known:
                raise typer.BadParameter(f"{value!r} is not one of {', '.join(known.values())}")
        return [known[value.lower()] for value in values] if values else None

    return check


Data = Annotated[Path, typer.Option("--data", envvar="TOCSIN_DATA", help="The data directory.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Workspace = Annotated[str | None, typer.Option("--workspace", help="Only this workspace.")]
Kafka = Annotated[str, typer.Option("--kafka", envvar="TOCSIN_KAFKA", metavar="HOST:PORT", help="Kafka's address.")]
KafkaConfig = Annotated[
    Path | None,
    typer.Option(
        "--kafka-config",
        envvar="TOCSIN_KAFKA_CONFIG",
        help="File with options of librdkafka, key=value a line: security.protocol, sasl.username, ssl.ca.location, …",
    ),
]
Prefix = Annotated[
    str, typer.Option("--prefix", envvar="TOCSIN_KAFKA_PREFIX", help="Of the topics: PREFIX.log, PREFIX.results, …")
]
Rules = Annotated[list[str] | None, typer.Option("--rules", help="Rule file or directory, besides the built-in ones.")]
Builtin = Annotated[bool, typer.Option("--builtin/--no-builtin", help="With the built-in rules.")]
DATA = Path("data")
TOPIC_FORMATS = (*READABLE, *SERDES)


def console() -> Console:
    """Return where answers go: with colours on a terminal only, and never where NO_COLOR is set."""
    return Console(highlight=False, soft_wrap=False)


@app.callback()
def about() -> None:
    """Tocsin turns event streams into incidents."""


def _duration(text: str) -> int:
    try:
        return parse_duration(int(text) if text.isdigit() else text)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong)) from None


def _micros(when: datetime | None) -> int | None:
    return None if when is None else (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _absolute(path: str) -> str:
    """A path that still means the same file when the replay is resumed from elsewhere."""
    return path if path == "-" else str(Path(path).resolve())


@app.command("replay")
def run_replay(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="[INPUT]...", help="Files, directories, globs, or - for stdin.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(FORMATS)}; told from each file by default.")
    ] = None,
    maps: Annotated[
        list[str] | None, typer.Option("--map", metavar="COLUMN=$.PATH", help="Where a column comes from, or its text.")
    ] = None,
    mapping_file: Annotated[Path | None, typer.Option("--mapping", help="A mapping file (docs/formats.md).")] = None,
    workspace: Annotated[str, typer.Option(help="Of events that name none.")] = DEFAULT_WORKSPACE,
    stream: Annotated[str | None, typer.Option(help="Of events that name none; else the format's own.")] = None,
    year: Annotated[int | None, typer.Option(help="Of syslog lines, which have none.")] = None,
    rules: Annotated[
        list[str] | None, typer.Option("--rules", help="A rule file or a directory of them; may be repeated.")
    ] = None,
    builtin: Annotated[bool, typer.Option("--builtin/--no-builtin", help="With the twelve built-in rules.")] = True,
    store_events: Annotated[
        bool, typer.Option("--events/--no-events", help="Store the events themselves, too.")
    ] = True,
    lateness: Annotated[
        int, typer.Option(parser=_duration, metavar="DURATION", help="How late an event may be.")
    ] = "30s",  # type: ignore[assignment]
    until: Annotated[
        datetime | None, typer.Option(parser=_moment, metavar="TIME", help="Settle up to then, not to the last event.")
    ] = None,
    drain: Annotated[bool, typer.Option("--drain", help="Let all timers run out at the end.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that share the files.")] = None,
    shards: Annotated[int, typer.Option(min=1, help="Parts of the keys; fixed for the life of a store.")] = SHARDS,
    epoch: Annotated[float, typer.Option(min=0.05, help="Seconds between snapshots.")] = 10.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted replay.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the data directory holds.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 where there are dead letters.")] = False,
    json: Json = False,
    config: KafkaConfig = None,
    data: Data = DATA,
) -> None:
    """Turn files of events into incidents: what would this day, or this year, have been?

    JSON lines, CSV, Parquet, access logs, syslog, CloudEvents, OTLP; plain, gzip or zstd; or a topic of Kafka, as far
    as it is now. Several files are read side by side. Ctrl-C stops cleanly, and so does a crash: --resume goes on where
    the last snapshot was.

    \b
    Examples:
      tocsin replay events.jsonl
      tocsin replay 'logs/*.gz' --workers 2 --data january
      tocsin replay access.log --map source=shop --rules rules/
      tocsin replay kafka://localhost:9092/tocsin.log
      tocsin replay --resume --data january
    """
    plan: Plan | None = None
    if resume:
        if inputs or overwrite:
            raise typer.BadParameter("--resume goes on as the replay began: without inputs, without --overwrite")
    else:
        fields = {**(mapping.load(mapping_file.read_text(), str(mapping_file)) if mapping_file else {})}
        fields |= mapping.assignments(maps or [])
        options = DecodeOptions(workspace=workspace, stream=stream, mapping=fields, year=year)
        plan = Plan(
            inputs=_inputs(inputs or [], form, options, config), kafka_config=str(config) if config else None,
            wall=time.time_ns() // 1000, rules=tuple(_absolute(path) for path in rules or ()), builtin=builtin,
            workspace=workspace, stream=stream, mapping=fields, year=year, events=store_events, lateness=lateness,
            until=_micros(until), drain=drain, shards=shards, workers=workers or 1, epoch=epoch,
        )  # fmt: skip
    with replay.held(data), progress.shown() as watch:
        if plan is None:
            plan = replay.resumable(data, workers)
        else:
            replay.prepare(plan, data, overwrite=overwrite)
        result = replay.run(plan, data, resumed=resume, watch=watch)
    if json:
        typer.echo(as_json.document({"finished": result.finished, "seconds": result.seconds, **result.counts}))
    else:
        show_summary(console(), result.counts, result.seconds)
    if not result.finished:
        typer.echo(f"Stopped. Go on with: tocsin replay --resume --data {data}", err=True)
        raise typer.Exit(130)
    if strict and result.counts["dead_letters"]:
        raise typer.Exit(1)


def _inputs(inputs: list[str], form: str | None, options: DecodeOptions, config: Path | None) -> tuple[Input, ...]:
    """Files and the like, or one topic."""
    if not any(text.startswith(SCHEME) for text in inputs):
        planned = files.plan(inputs, form, options)
        return tuple(Input(i.name, _absolute(i.path), i.format.name, i.size) for i in planned)
    if len(inputs) > 1:
        raise typer.BadParameter("a topic is replayed by itself: name only that")
    return tuple(Input(i.name, i.path, i.format, i.end, i.begin) for i in kafka_plan(inputs[0], form, config))


@app.command("demo")
def run_demo(
    data: Annotated[Path, typer.Option("--data", help="Where to put it; replaced each time.")] = Path("demo-data"),
) -> None:
    """Replay a made-up day of two platforms, and show what became of it.

    \b
    Examples:
      tocsin demo
      tocsin incidents --data demo-data --chronic
    """
    events = data / "day.jsonl"
    if data.exists() and not events.exists() and any(data.iterdir()):
        raise replay.ReplayError(
            f"{data} is not empty, and not from an earlier demo: name another directory with --data"
        )
    with replay.held(data):
        demo_day.write(events)
        typer.echo(f"A made-up day of two platforms: {events} ({events.stat().st_size / 1e6:.0f} MB)\n")
        [entry] = files.plan([str(events)])
        plan = Plan((Input(entry.name, str(events), entry.format.name, entry.size),), time.time_ns() // 1000)
        replay.prepare(plan, data, overwrite=True)
        with progress.shown() as watch:
            result = replay.run(plan, data, watch=watch)
    out = console()
    show_summary(out, result.counts, result.seconds)
    con = open_reader(data).connection
    found, total = find_incidents(con, IncidentFilter(limit=50))
    typer.echo("")
    show_incidents(out, found, total)
    widest = max(found, key=lambda incident: (incident.tenant_count, incident.event_count, incident.id))
    typer.echo("\nThe one that reached the most tenants:\n")
    show_timeline(out, timeline(con, widest))
    activate = "" if shutil.which("tocsin") else f"  export PATH={Path(sys.executable).parent}:$PATH\n"
    typer.echo(
        f"\nNext:\n{activate}"
        f"  export TOCSIN_DATA={data}\n"
        f"  tocsin explain {widest.id[:12]}\n"
        f"  tocsin incidents --chronic\n"
        f"  tocsin explain --source email-gateway --rule timeout_spike --at 2025-03-26T12:42:00Z\n"
        f"  tocsin sql 'SELECT error, count(*) FROM dead_letters GROUP BY ALL'\n"
        f"  unset TOCSIN_DATA\n"
        f"  tocsin replay YOUR_EVENTS.jsonl --data my-data"
    )


@app.command()
def serve(
    data: Data = DATA,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    rules: Annotated[list[str] | None, typer.Option(help="Rule file or directory, besides the built-in ones.")] = None,
    builtin: Annotated[bool, typer.Option("--builtin/--no-builtin", help="With the built-in rules.")] = True,
    lateness: Annotated[str, typer.Option(help="How late an event may be and still count at its own time.")] = "30s",
    demo: Annotated[bool, typer.Option("--demo", help="Make a workspace for trying it, and print its key.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make everything anew from the log first.")] = False,
    kafka: Kafka = "",
    config: KafkaConfig = None,
    prefix: Prefix = "tocsin",
) -> None:
    """Run the live service: take events over HTTP, open incidents, answer questions.

    Needs nothing else: the log, the store and the accounts are in the data directory. Ctrl-C stops it; what was
    accepted is kept, and the next start goes on.

    Examples:

      tocsin serve --demo

      tocsin serve --data /var/lib/tocsin --host 0.0.0.0 --port 8000

      TOCSIN_CONTROL_URL=postgresql://tocsin@db/tocsin tocsin serve

      tocsin serve --kafka localhost:9092 --demo

    With --kafka the log is a topic: one worker and one API node of a cluster, for trying; see `tocsin worker` and
    `tocsin api`.
    """
    if kafka:
        settings = KafkaSettings.read(kafka, config, prefix)
        again = [text for path in rules or () for text in ("--rules", path)]
        again += ["--lateness", lateness, "--builtin" if builtin else "--no-builtin"]
        again += ["--kafka-config", str(config)] if config else []
        with _beside(data, settings, again, rebuild=rebuild):
            _serve_node(settings, data, host, port, rules, builtin, demo, rebuild)
        return
    # Here: what only the service needs takes longer to import than most commands run.
    from flows.live import LiveOptions, LivePipeline
    from flows.live_metrics import LiveMetrics
    from query_api.service import ServiceError, serve_until_told

    metrics = LiveMetrics()
    options = LiveOptions(tuple(map(_absolute, rules or ())), builtin, _duration(lateness), rebuild=rebuild)

    def start(_: Event) -> LivePipeline:
        metrics.pipeline = LivePipeline.start(data, options, [metrics])
        return metrics.pipeline

    try:
        serve_until_told(start, data, host, port, os.environ, metrics.registry, console(), demo=demo)
    except ServiceError as wrong:
        typer.echo(f"tocsin: {wrong}", err=True)
        raise typer.Exit(2) from None


@app.command()
def worker(
    kafka: Kafka = "",
    index: Annotated[int, typer.Option(min=0, help="Which of the addresses is this worker's own.")] = 0,
    addresses: Annotated[
        str, typer.Option(envvar="TOCSIN_ADDRESSES", help="HOST:PORT of every worker, separated by commas.")
    ] = "127.0.0.1:2101",
    recovery: Annotated[Path, typer.Option(help="Where snapshots are, shared by all workers.")] = Path("recovery"),
    lake: Annotated[
        str | None, typer.Option(help="Where Parquet is written: a directory, or s3://bucket/prefix.")
    ] = None,
    shards: Annotated[int, typer.Option(min=1, max=1024, help="Parts of the keys; fixed once begun.")] = 8,
    partitions: Annotated[int, typer.Option(min=1, help="Of the log's topic, where it has to be made.")] = 8,
    rules: Rules = None,
    builtin: Builtin = True,
    lateness: Annotated[str, typer.Option(help="How late an event may be and still count at its own time.")] = "30s",
    epoch: Annotated[str, typer.Option(help="Time between snapshots.")] = "10s",
    topic: Annotated[
        list[str] | None, typer.Option(help="Somebody else's topic to read, too; may be repeated.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help=f"Of those topics' messages: {', '.join(TOPIC_FORMATS)}.")
    ] = "jsonl",
    maps: Annotated[list[str] | None, typer.Option("--map", metavar="COLUMN=$.PATH", help="As in replay.")] = None,
    message_type: Annotated[str | None, typer.Option(help="Protobuf: MODULE:CLASS of the messages.")] = None,
    workspace: Annotated[str, typer.Option(help="Of events from those topics.")] = DEFAULT_WORKSPACE,
    stream: Annotated[str | None, typer.Option(help="Of events from those topics.")] = None,
    metrics_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Serve Prometheus metrics there.")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make everything anew from the log (index 0).")] = False,
    config: KafkaConfig = None,
    prefix: Prefix = "tocsin",
) -> None:
    """Run one worker of a cluster over Kafka: it reads the log's topic, detects, and tells API nodes.

    All workers get the same options but for --index. When one of them dies all begin again from the last snapshot that
    is complete; each is started again by itself, so nobody has to do anything. What they have in common is the
    recovery directory.

    Examples:

      tocsin worker --kafka localhost:9092

      tocsin worker --kafka kafka:9092 --index 1 --addresses worker-0:2101,worker-1:2101 --recovery /shared/recovery

      tocsin worker --kafka kafka:9092 --topic payments --format avro --map type=$.kind --map source=$.service
    """
    from flows import kafka_data, kafka_process
    from flows.kafka_worker import ForeignTopic, WorkerOptions
    from flows.supervisor import SUPERVISED, supervise, this_command
    from query_api.logs import configure
    from query_api.server import told_to_stop
    from query_api.settings import ServiceSettings

    settings = ServiceSettings.from_env(os.environ)
    configure(form=settings.log_format, level=settings.log_level)
    everyone = [address.strip() for address in addresses.split(",") if address.strip()]
    if index >= len(everyone):
        raise typer.BadParameter(f"--index {index} is none of the {len(everyone)} addresses: they count from 0")
    if form not in TOPIC_FORMATS:
        raise typer.BadParameter(f"--format {form!r} is not one of {', '.join(TOPIC_FORMATS)}")
    fields = mapping.assignments(maps or [])
    options = WorkerOptions(
        KafkaSettings.read(kafka, config, prefix),
        recovery,
        lake,
        shards,
        partitions,
        tuple(map(_absolute, rules or ())),
        builtin,
        _duration(lateness),
        _duration(epoch) / 1_000_000,
        tuple(ForeignTopic(name, form, workspace, stream, fields, message_type) for name in topic or ()),
        RegistrySettings.from_env(os.environ) if os.environ.get("TOCSIN_SCHEMA_REGISTRY") else None,
    )
    if SUPERVISED in os.environ:
        kafka_process.leave(kafka_process.run(options, index, everyone, metrics_port))
    if rebuild and index == 0:
        kafka_data.rebuild(options.kafka, recovery, lake)
    arguments = [argument for argument in sys.argv[1:] if argument != "--rebuild"]
    with told_to_stop() as stop:
        code = supervise(this_command(*arguments), stop)
    raise typer.Exit(code)


@app.command()
def api(
    kafka: Kafka = "",
    data: Data = DATA,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    rules: Rules = None,
    builtin: Builtin = True,
    demo: Annotated[bool, typer.Option("--demo", help="Make a workspace for trying it, and print its key.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make the store anew from the topics first.")] = False,
    config: KafkaConfig = None,
    prefix: Prefix = "tocsin",
) -> None:
    """Run an API node: it takes events into Kafka, follows the workers' results, and answers questions.

    Any number of nodes may run side by side, each with a data directory of its own; they share their accounts in
    PostgreSQL (TOCSIN_CONTROL_URL) and one key file (TOCSIN_SECRET_FILE).

    Examples:

      tocsin api --kafka localhost:9092 --data ./node-0 --demo

      TOCSIN_CONTROL_URL=postgresql://tocsin@db/tocsin tocsin api --kafka kafka:9092 --host 0.0.0.0
    """
    _serve_node(KafkaSettings.read(kafka, config, prefix), data, host, port, rules, builtin, demo, rebuild)


@contextmanager
def _beside(data: Path, settings: KafkaSettings, options: list[str], *, rebuild: bool) -> Iterator[None]:
    """A worker that runs as long as this does, with its state in the data directory."""
    from flows import kafka_data
    from flows.supervisor import supervise, this_command

    recovery, lake = data / "worker" / "recovery", str(data / "worker" / "lake")
    if rebuild:
        kafka_data.rebuild(settings, recovery, lake)
    arguments = ["--kafka", settings.servers, "--prefix", settings.prefix, "--recovery", str(recovery), "--lake", lake]
    address = f"127.0.0.1:{cluster.free_ports(1)[0]}"
    command = this_command("worker", *arguments, "--addresses", address, *options)
    stop = Event()
    thread = Thread(target=supervise, args=(command, stop), name="worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _serve_node(
    settings: KafkaSettings,
    data: Path,
    host: str,
    port: int,
    rules: list[str] | None,
    builtin: bool,
    demo: bool,
    rebuild: bool,
) -> None:
    from flows.live_metrics import LiveMetrics
    from flows.node import NodeOptions, NodePipeline
    from query_api.service import ServiceError, serve_until_told

    metrics = LiveMetrics()
    options = NodeOptions(settings, tuple(map(_absolute, rules or ())), builtin, rebuild=rebuild)

    def start(told: Event) -> NodePipeline:
        metrics.pipeline = pipeline = NodePipeline.start(data, options, [metrics], told)
        return pipeline

    try:
        serve_until_told(start, data, host, port, os.environ, metrics.registry, console(), demo=demo)
    except ServiceError as wrong:
        typer.echo(f"tocsin: {wrong}", err=True)
        raise typer.Exit(2) from None


@app.command()
def incidents(
    status: Annotated[
        list[str] | None,
        typer.Option(callback=_one_of(STATUSES), help="open, recovering or closed; may be repeated."),
    ] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Of this rule; may be repeated.")] = None,
    severity: Annotated[
        list[str] | None, typer.Option(callback=_one_of(SEVERITIES), help="Of this severity; may be repeated.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="About this source.")] = None,
    workspace: Workspace = None,
    tenant: Annotated[str | None, typer.Option(help="That affected this tenant.")] = None,
    chronic: Annotated[bool, typer.Option("--chronic", help="Reopened three times or more.")] = False,
    start: Annotated[
        datetime | None, typer.Option("--from", parser=_moment, metavar="TIME", help="Opened then or later.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", parser=_moment, metavar="TIME", help="Opened before then.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    json: Json = False,
    data: Data = DATA,
) -> None:
    """List incidents, newest first.

    \b
    Examples:
      tocsin incidents --status open --status recovering
      tocsin incidents --rule auth_failure --from 2025-03-26 --to 2025-03-27
      tocsin incidents --chronic --json | jq '.[].id'
    """
    wanted = IncidentFilter(
        status=status, rule=rule or None, severity=severity, source=source, workspace=workspace, tenant=tenant,
        chronic=chronic, start=start, end=end, limit=limit,
    )  # fmt: skip
    found, total = find_incidents(open_reader(data).connection, wanted)
    if json:
        typer.echo(as_json.document(found))
    elif found:
        show_incidents(console(), found, total)
    else:
        typer.echo("no such incidents", err=True)


@app.command("timeline")
def show_course(
    incident: Annotated[str, typer.Argument(metavar="ID", help="Its id, or a beginning of it that is unique.")],
    json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the course of an incident: each step with its reason, alerts, tenants.

    \b
    Examples:
      tocsin timeline inc_8f2a1c9d
      tocsin timeline 8f2a --json
    """
    con = open_reader(data).connection
    course = timeline(con, get_incident(con, incident))
    typer.echo(as_json.document(course)) if json else show_timeline(console(), course)


@app.command()
def events(
    incident: Annotated[str, typer.Option("--incident", metavar="ID", help="Its id, or a unique beginning of it.")],
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the first.")] = None,
    json: Json = False,
    data: Data = DATA,
) -> None:
    """List the events of an incident in the order they counted.

    \b
    Examples:
      tocsin events --incident inc_8f2a1c9d
      tocsin events --incident 8f2a --json | jq '.[].attributes'
    """
    con = open_reader(data).connection
    found = get_incident(con, incident)
    rows = incident_events(con, found, limit)
    if json:
        typer.echo(as_json.rows(rows))
    elif rows.is_empty():
        typer.echo("its events are not stored (replayed with --no-events)", err=True)
    else:
        shown = ["at", "source", "type", "code", "tenant", "severity", "message", "partition", "offset"]
        used = [name for name in shown if rows[name].null_count() < rows.height]
        frame(console(), rows.select(used))


@app.command()
def explain(
    incident: Annotated[str | None, typer.Argument(metavar="[ID]", help="Why did this incident open?")] = None,
    source: Annotated[str | None, typer.Option(help="Why did none open for this source …")] = None,
    rule: Annotated[str | None, typer.Option(help="… by this rule …")] = None,
    at: Annotated[
        datetime | None, typer.Option("--at", parser=_moment, metavar="TIME", help="… around this time?")
    ] = None,
    workspace: Workspace = None,
    json: Json = False,
    data: Data = DATA,
) -> None:
    """Say why an incident opened, or why a rule opened none.

    \b
    Examples:
      tocsin explain inc_8f2a1c9d
      tocsin explain --source payments --rule timeout_spike --at 2025-03-26T08:14:00Z
    """
    con = open_reader(data).connection
    if incident is not None and source is None and rule is None and at is None:
        why = explain_incident(con, get_incident(con, incident))
        typer.echo(as_json.document(why)) if json else show_explanation(console(), why)
    elif incident is None and source is not None and rule is not None and at is not None:
        answer = why_not(con, source, rule, at, workspace)
        typer.echo(as_json.document(answer)) if json else show_why_not(console(), answer)
    else:
        raise typer.BadParameter("give the ID of an incident, or all of --source, --rule and --at")


@rules_app.command("check")
def check_rules(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Rule files, or directories of them.")],
) -> None:
    """Check rule files together with the built-in rules; every problem is printed. Exit code 2 where there is one.

    \b
    Examples:
      tocsin rules check alerts.yaml
    """
    found = rulefiles.load(files, with_builtin=True)
    typer.echo(plural(len(found) - len(rulefiles.builtin()), "rule") + " checked, nothing wrong")


@rules_app.command("list")
def list_rules(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="Besides the built-in rules.")] = None,
    json: Json = False,
) -> None:
    """List rules in the order they are tried.

    \b
    Examples:
      tocsin rules list
      tocsin rules list alerts.yaml --json
    """
    found: list[Rule] = list(in_order(rulefiles.load(files or [], with_builtin=True)))
    typer.echo(as_json.document(found)) if json else show_rules(console(), found)


@app.command()
def sql(
    query: Annotated[
        str, typer.Argument(metavar="SELECT", help="One SQL statement that reads; `-` reads it from stdin.")
    ],
    workspace: Annotated[
        str | None, typer.Option("--workspace", help="See this workspace's rows and no others, as over HTTP.")
    ] = None,
    most: Annotated[int | None, typer.Option("--max-rows", min=1, help="Print at most so many rows.")] = None,
    timeout: Annotated[
        int | None, typer.Option("--timeout", parser=_duration, metavar="DURATION", help="Give up after so long: 30s.")
    ] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    data: Data = DATA,
) -> None:
    """Ask the store in SQL (DuckDB's); docs/sql.md says how, docs/store.md which tables. While a service writes: the
    lake.

    \b
    Examples:
      tocsin sql 'SELECT rule_id, count(*) FROM incidents GROUP BY ALL ORDER BY 2 DESC'
      tocsin sql 'DESCRIBE events'
      tocsin sql --csv 'FROM dead_letters' > bad.csv
      tocsin sql --workspace shop --max-rows 20 --timeout 30s 'FROM events'
    """
    text = sys.stdin.read() if query == "-" else query
    seconds = None if timeout is None else timeout / SECOND
    found = ask_sql(open_reader(data).connection, text, workspace, most, seconds)
    rows = found.rows
    if found.truncated:
        typer.echo(f"only the first {plural(rows.height, 'row')}; there are more", err=True)
    if json:
        typer.echo(as_json.rows(rows))
    elif csv:
        typer.echo(rows.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ"), nl=False)
    else:
        frame(console(), rows)


@app.command()
def export(
    table: Annotated[
        list[str] | None, typer.Argument(metavar="[TABLE]...", help="Which tables; all if none is named.")
    ] = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="TARGET", help="A directory, or a .parquet, .csv or .jsonl file.")
    ] = Path("."),
    data: Data = DATA,
) -> None:
    """Write tables to files.

    \b
    Examples:
      tocsin export --to out incidents transitions
      tocsin export --to events.jsonl events
    """
    names = table or list(TABLES)
    if len(names) > 1 and to.suffix:
        raise typer.BadParameter("several tables go to a directory, not to one file")
    con = open_reader(data, writes_files=True).connection
    for name in names:
        typer.echo(str(export_table(con, name, to)))


def main() -> None:
    """Run the command line."""
    app(prog_name="tocsin")


if __name__ == "__main__":
    main()
