"""The command line as a script or a person sees it: output in a pipe, on a terminal, and exit codes."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from connectors import lake
from connectors.reader import open_reader
from connectors.store import Store
from query_api.incidents import IncidentFilter, find_incidents, get_incident
from query_api.render_incidents import show_incidents, show_timeline
from query_api.timeline import timeline
from tests.stores import AUTH, make_store
from tocsin import app

LIST = """\
id                              status      severity  rule           workspace  source    opened                duration  events  tenants  reopened
inc_timebbbbbbbbbbbbbbbbbbbbbb  Open        high      timeout_spike  default    orders    2025-03-26T08:06:24Z  0         5       1        3
inc_timfcccccccccccccccccccccc  Recovering  -         vip            default    orders    2025-03-26T08:06:12Z  6         2       0        0
inc_authaaaaaaaaaaaaaaaaaaaaaa  Closed      critical  auth_failure   default    payments  2025-03-26T08:00:00Z  1380      3       2        0
"""  # noqa: E501
COURSE = """\
at                    from        to          reason                         events  window  version
2025-03-26T08:00:00Z  -           Open        Pattern matched: auth_failure  1       1       v
2025-03-26T08:06:00Z  Open        Recovering  No events for 5 min            2       -       v
2025-03-26T08:08:00Z  Recovering  Open        New event during recovery      3       1       v
2025-03-26T08:13:00Z  Open        Recovering  No events for 5 min            3       -       v
2025-03-26T08:20:00Z  Recovering  Closed      Resolved manually              3       -       v

at                    alert                  cycle  tenant
2025-03-26T08:00:00Z  opened                 0      -
2025-03-26T08:08:00Z  blast_radius_expanded  0      beta

tenant  events  first_seen            last_seen
acme    2       2025-03-26T08:00:00Z  2025-03-26T08:01:00Z
beta    1       2025-03-26T08:08:00Z  2025-03-26T08:08:00Z
"""
DRAWN = """\
inc_authaaaaaaaaaaaaaaaaaaaaaa  auth_failure  payments
Closed · critical · High confidence · 3 events · 2 tenants · workspace default

2025-03-26           08:00:00  ● Open        Pattern matched: auth_failure  (1 in the window)
                               │ alert opened
                          +6m  │
                     08:06:00  ◐ Recovering  No events for 5 min  (2 events)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("cli"))


@pytest.fixture
def run(data: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("TOCSIN_DATA", str(data))
    return lambda *args: CliRunner().invoke(app, list(args))


def test_incidents_in_a_pipe(run) -> None:  # type: ignore[no-untyped-def]
    """Scripts read this: nothing cut, nothing coloured, the same every time."""
    assert run("incidents").output == LIST


def test_a_timeline_in_a_pipe(run) -> None:  # type: ignore[no-untyped-def]
    """Steps, alerts and tenants as three tables."""
    assert run("timeline", "auth").output == COURSE


def test_a_timeline_on_a_terminal_is_drawn(data: Path) -> None:
    """People see the gaps between the steps, and the alerts where they fell."""
    console = Console(force_terminal=True, no_color=True, width=120, color_system=None, record=True, quiet=False)
    con = open_reader(data).connection
    with console.capture() as shown:
        show_timeline(console, timeline(con, get_incident(con, AUTH)))
    assert "\n".join(line.rstrip() for line in shown.get().splitlines()).startswith(DRAWN.rstrip("\n"))


def test_foreign_text_cannot_steer_a_terminal(data: Path) -> None:
    """A source is whatever somebody sent: escape sequences in it are shown, not obeyed."""
    console = Console(force_terminal=True, color_system=None, width=200)
    found, _ = find_incidents(open_reader(data).connection, IncidentFilter(limit=1))
    evil = found[0].model_copy(update={"source": "a\x1b[2J[red]b", "group_key": "a\x1b[2J[red]b"})
    with console.capture() as shown:
        show_incidents(console, [evil], 1)
    assert "\x1b[2J" not in shown.get()
    assert "[red]b" in shown.get()


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["incidents", "--status", "OPEN", "--json"], 0, '"status": "Open"'),
        (["incidents", "--source", "nobody"], 0, "no such incidents"),
        (["incidents", "--status", "opn"], 2, "not one of Open"),
        (["incidents", "--from", "yesterday"], 2, "is no time"),
        (["incidents", "--data", "/nowhere"], 2, "there is no store in /nowhere"),
        (["timeline", "nope"], 2, "no incident"),
        (["timeline", "tim"], 2, "several incidents"),
        (["events", "--incident", "auth"], 0, "auth_failed"),
        (["explain", "time"], 0, "5 events within 3m"),
        (["explain", "--source", "search", "--rule", "timeout_spike", "--at", "2025-03-26T08:06"], 0, "Not enough: 3"),
        (["explain", "time", "--source", "search"], 2, "give the ID"),
        (["explain"], 2, "give the ID"),
        (["rules", "list"], 0, "auth_failure"),
        (["rules", "check", "/nowhere.yaml"], 2, "/nowhere.yaml"),
        (["sql", "SELECT count(*) AS n FROM events"], 0, "14"),
        (["sql", "DROP TABLE events"], 2, "only statements that read"),
        (["sql", "FROM range(5)", "--max-rows", "2"], 0, "only the first 2 rows"),
        (["sql", "SELECT count(*) AS n FROM events", "--workspace", "default"], 0, "14"),
        (["sql", "SELECT count(*) AS n FROM events", "--workspace", "other"], 0, "0"),
        (["sql", "FROM read_text('/etc/passwd')", "--workspace", "default"], 2, "Permission Error"),
        (["sql", "SELECT count(*) FROM range(1000000000000)", "--timeout", "1s"], 2, "longer than 1 s"),
        (["export", "nothing"], 2, "there is no table"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_exit_codes_and_sentences(run, args: list[str], code: int, says: str) -> None:  # type: ignore[no-untyped-def]
    """0 done, 2 not done and a sentence why; never a traceback."""
    result: Result = run(*args)
    assert (result.exit_code, says in result.output) == (code, True), result.output
    assert "Traceback" not in result.output


def test_json_is_json(run) -> None:  # type: ignore[no-untyped-def]
    """Every --json answer is one document."""
    for args in (["incidents"], ["timeline", "auth"], ["events", "--incident", "auth"], ["explain", "auth"],
                 ["rules", "list"], ["sql", "FROM rules"]):  # fmt: skip
        assert json.loads(run(*args, "--json").stdout), args
    assert json.loads(run("sql", "SELECT 'nan'::DOUBLE AS x", "--json").stdout) == [{"x": None}]
    assert run("sql", "SELECT 1 AS a, 'x,y' AS b", "--csv").stdout == 'a,b\n1,"x,y"\n'


def test_a_problem_in_a_rule_file_is_shown_with_its_place(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """File, line and field, so that it can be mended."""
    (tmp_path / "r.yaml").write_text("- id: a\n  macth: {type: x}\n")
    result: Result = run("rules", "check", str(tmp_path / "r.yaml"))
    assert result.exit_code == 2
    assert "r.yaml" in result.output
    assert "macth" in result.output


def test_every_command_shows_examples(run) -> None:  # type: ignore[no-untyped-def]
    """The first thing people look for."""
    for args in (["incidents"], ["timeline"], ["events"], ["explain"], ["sql"], ["export"], ["rules", "check"]):
        assert "Examples:" in run(*args, "--help").output, args


def test_while_a_service_writes_the_lake_answers(tmp_path: Path) -> None:
    """Nobody stops the service to look at an incident."""
    with Store.open(make_store(tmp_path) / "store.duckdb") as store:
        lake.publish(store, tmp_path)
        assert CliRunner().invoke(app, ["incidents", "--data", str(tmp_path)]).output == LIST
        out = CliRunner().invoke(app, ["export", "--to", str(tmp_path / "out"), "events", "--data", str(tmp_path)])
        assert out.output.strip() == str(tmp_path / "out" / "events.parquet")
