"""The files that others run as they are: image, compose file, Prometheus. Nothing runs here.

A name that is wrong in one of them shows when somebody needs it: an alert on a metric that does not exist never fires.
"""

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import promql_parser
import pytest
import typer.main
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

import tocsin
from connectors.kafka.settings import KafkaSettings
from connectors.lake_files import LakeFiles
from connectors.pipeline import Health
from flows.live_metrics import LiveMetrics
from flows.worker_metrics import WorkerMetrics
from query_api.app import create_app
from query_api.routes import operations
from query_api.settings import ServiceSettings, variable

ROOT = Path(__file__).resolve().parents[1]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMAGE = f"tocsin:{PYPROJECT['project']['version']}"

# ------------------------------------------------------------ the compose file


def interpolated(value: Any, environ: dict[str, str]) -> Any:
    """What Compose makes of `${NAME:-default}` and `$$`. Other forms are not used: nothing is without a default."""
    if isinstance(value, dict):
        return {key: interpolated(each, environ) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, environ) for each in value]
    if not isinstance(value, str):
        return value
    text = re.sub(r"\$\$|\$\{(\w+):-([^}]*)\}", lambda m: "\0" if m[1] is None else environ.get(m[1]) or m[2], value)
    assert "$" not in text, f"{value}: a variable without a default"
    return text.replace("\0", "$")


RAW = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
COMPOSE = interpolated(RAW, {})
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = sorted(name for name, service in SERVICES.items() if service["restart"] != "no")
OURS = sorted(name for name, service in SERVICES.items() if service["image"] == IMAGE and "entrypoint" not in service)
services = pytest.mark.parametrize("name", sorted(SERVICES))


def words(command: str | list[str]) -> list[str]:
    """A command as the container gets it."""
    return shlex.split(command) if isinstance(command, str) else command


def parsed(args: list[str]) -> dict[str, Any]:
    """The options of a command line of ours, read by the command line itself; nothing runs."""
    group = typer.main.get_command(tocsin.app)
    context = group.make_context("tocsin", list(args))
    command = group.commands[args[0]]  # type: ignore[attr-defined]
    return dict(command.make_context(args[0], list(args[1:]), parent=context).params)


def mounts(name: str) -> dict[str, str]:
    """What is mounted where: path in the container -> volume or path."""
    found = {}
    for volume in SERVICES[name].get("volumes", []):
        source, target, *_ = volume.split(":")
        found[target] = source
    return found


def test_the_compose_file_follows_the_specification() -> None:
    """A key that does not exist is ignored by nobody: Compose refuses the file."""
    vendored = files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(vendored.read_text()), jsonschema.Draft202012Validator)


def test_one_up_starts_a_whole_cluster() -> None:
    """What has no profile starts; what is for another use of the image does not."""
    started = sorted(name for name, service in SERVICES.items() if "profiles" not in service)
    expected = [
        "api-0",
        "api-1",
        "bucket",
        "kafka",
        "minio",
        "owners",
        "postgres",
        "prometheus",
        "worker-0",
        "worker-1",
    ]
    assert started == expected
    assert {name: SERVICES[name]["profiles"] for name in SERVICES if name not in started} == {
        "serve": ["serve"],
        "tocsin": ["replay"],
    }


@services
def test_an_image_has_a_version(name: str) -> None:
    """Not whatever is newest on the day it is pulled."""
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    assert image
    assert re.search(r"\d+\.\d+|\d{4}-\d\d-\d\d", tag)


@services
def test_a_service_may_do_no_more_than_it_must(name: str) -> None:
    """Whoever breaks into one of them is nobody there."""
    service = SERVICES[name]
    root = service["user"].split(":")[0] in ("0", "root")
    assert root == (name == "owners")
    assert not root or (service["network_mode"] == "none" and service["restart"] == "no")
    assert service.get("cap_add", []) == (["CHOWN"] if root else [])
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("read_only", False) == (name != "kafka")  # whose image writes its own configuration
    assert "privileged" not in service


@services
def test_a_service_has_limits(name: str) -> None:
    """One that runs wild must not take the others down."""
    assert {"cpus", "memory", "pids"} <= SERVICES[name]["deploy"]["resources"]["limits"].keys()
    assert SERVICES[name]["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_what_runs_on_is_watched(name: str) -> None:
    """A process that hangs is as bad as one that has ended, and does not show otherwise."""
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert "stop_grace_period" in service
    check = service["healthcheck"]
    assert {"test", "interval", "timeout", "retries", "start_period"} <= check.keys()
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    if check["test"][1:3] == ["python", "-c"]:
        ast.parse(check["test"][3])


@services
def test_who_waits_waits_for_something_that_comes(name: str) -> None:
    """A service without a health check never becomes healthy, one that runs on never completes."""
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert "profiles" not in SERVICES[other]
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert how["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "no"


def needed(name: str) -> set[str]:
    """A service and all that it waits for."""
    return {name}.union(*(needed(other) for other in SERVICES[name].get("depends_on", {})))


def test_nobody_waits_for_himself() -> None:
    """In whatever roundabout way."""
    TopologicalSorter({name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}).prepare()


@pytest.mark.parametrize("name", OURS)
def test_the_image_is_built_before_it_is_needed(name: str) -> None:
    """Once: it is in no registry, and two that build the same tag at once get into each other's way."""
    assert len([each for each in needed(name) if "build" in SERVICES[each]]) == 1


@services
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    """Docker's ports pass by most firewalls."""
    assert [port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")] == []


def test_published_ports_differ() -> None:
    """Also with all profiles."""
    published = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert sorted(published) == ["8000", "8001", "8002", "9090"]


def test_volumes_are_declared_and_used() -> None:
    """And whatever is not a volume is a file of ours, or the input to replay, and cannot be written."""
    named = set()
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert volume.endswith(":ro"), name
                assert source == "./input" or (ROOT / source).is_file()
            else:
                named.add(source)
    assert named == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("environ", [{}, {"TOCSIN_REBUILD": "--rebuild"}], ids=["plain", "rebuild"])
def test_our_command_lines_are_right(name: str, environ: dict[str, str]) -> None:
    """An option that was renamed, for one."""
    options = parsed(words(interpolated(RAW["services"][name], environ)["command"]))
    assert options.get("rebuild", False) == (bool(environ) and name != "tocsin")


@pytest.mark.parametrize("name", OURS)
def test_our_variables_are_right(name: str) -> None:
    """A setting that is misspelt is not there, and nobody says so."""
    given = SERVICES[name].get("environment", {})
    known = {variable(field) for field in ServiceSettings.model_fields}
    assert [key for key in given if key.startswith("TOCSIN_") and key not in known] == []
    ServiceSettings.from_env(given)


def test_workers_find_each_other() -> None:
    """Each has an index of its own, under an address that is its own, and the same of everything else."""
    workers = {name: parsed(words(SERVICES[name]["command"])) for name in OURS if name.startswith("worker")}
    addresses = {options["addresses"] for options in workers.values()}
    assert len(addresses) == 1
    everyone = [address.split(":")[0] for address in addresses.pop().split(",")]
    assert everyone == [name for name, _ in sorted(workers.items(), key=lambda item: item[1]["index"])]
    assert [options["index"] for options in workers.values()] == list(range(len(workers)))
    same = [{key: value for key, value in options.items() if key != "index"} for options in workers.values()]
    assert all(each == same[0] for each in same)
    assert len({json.dumps(SERVICES[name]["environment"], sort_keys=True) for name in workers}) == 1


def test_workers_share_their_snapshots() -> None:
    """In a volume. Not the volume itself, which cannot be removed: --rebuild does that with the directory."""
    for name in ("worker-0", "worker-1"):
        recovery = parsed(words(SERVICES[name]["command"]))["recovery"]
        assert mounts(name)[str(recovery.parent)] == "recovery"


def test_workers_reach_the_lake(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the bucket that is made, at MinIO's address, with the credentials that MinIO has."""
    worker, minio, bucket = SERVICES["worker-0"], SERVICES["minio"]["environment"], SERVICES["bucket"]
    given = worker["environment"]
    assert urlsplit(given["AWS_ENDPOINT_URL"]).hostname == "minio"
    assert (given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"]) == (
        minio["MINIO_ROOT_USER"],
        minio["MINIO_ROOT_PASSWORD"],
    )
    assert (bucket["environment"]["S3_KEY"], bucket["environment"]["S3_SECRET"]) == (
        minio["MINIO_ROOT_USER"],
        minio["MINIO_ROOT_PASSWORD"],
    )
    lake = parsed(words(worker["command"]))["lake"]
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    LakeFiles(lake)  # reads the variables, and does not connect
    assert f"mb --ignore-existing lake/{urlsplit(lake).hostname}" in bucket["command"][0]
    assert "bucket" in needed("worker-0")


def test_nodes_share_accounts_and_key_and_nothing_else() -> None:
    """Two nodes with keys of their own would refuse each other's tokens."""
    first, second = SERVICES["api-0"], SERVICES["api-1"]
    assert first["environment"] == second["environment"]
    where = urlsplit(first["environment"]["TOCSIN_CONTROL_URL"])
    accounts = SERVICES["postgres"]["environment"]
    assert (where.hostname, where.username, where.password, where.path) == (
        "postgres",
        accounts["POSTGRES_USER"],
        accounts["POSTGRES_PASSWORD"],
        f"/{accounts['POSTGRES_DB']}",
    )
    key = Path(first["environment"]["TOCSIN_SECRET_FILE"])
    assert mounts("api-0")[str(key.parent)] == mounts("api-1")[str(key.parent)] == "keys"
    assert mounts("api-0")["/data"] != mounts("api-1")["/data"]


@pytest.mark.parametrize("name", [name for name in OURS if name != "tocsin"])
def test_services_listen_where_they_are_asked(name: str) -> None:
    """By the health check, and through the port that is published."""
    options = parsed(words(SERVICES[name]["command"]))
    port = options.get("metrics_port") or options["port"]
    assert f"127.0.0.1:{port}/" in SERVICES[name]["healthcheck"]["test"][-1]
    assert all(published.endswith(f":{port}") for published in SERVICES[name].get("ports", []))
    if "host" in options:
        assert options["host"] == "0.0.0.0"
        assert str(options["data"]) in mounts(name)
    if options["kafka"]:
        host, _, kafka_port = options["kafka"].partition(":")
        assert f"PLAINTEXT://{host}:{kafka_port}" == SERVICES[host]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        assert host in needed(name)


def test_the_owner_of_the_volumes_is_who_writes_them() -> None:
    """Otherwise nobody may."""
    owner = SERVICES["owners"]["entrypoint"][1]
    handed_over = set(mounts("owners").values())
    assert set(SERVICES["owners"]["command"]) == set(mounts("owners"))
    for name in ("minio", "worker-0", "worker-1", "api-0", "api-1"):
        assert SERVICES[name]["user"] == owner
        assert set(mounts(name).values()) <= handed_over
        assert "owners" in needed(name)
    assert f"--uid {owner.split(':')[0]} " in (ROOT / "Dockerfile").read_text()


def test_secrets_come_from_outside() -> None:
    """What the file itself says is for trying, and says so; how to set it is documented."""
    found: dict[str, set[str]] = {}
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / "docker-compose.yml").read_text()):
        found.setdefault(name, set()).add(default)
    assert all(len(defaults) == 1 for defaults in found.values())
    assert {name for name in found if name not in OPERATIONS} <= {"TOCSIN_INPUT"}
    secret = {name: defaults.pop() for name, defaults in found.items() if re.search("PASSWORD|KEY|SECRET", name)}
    assert set(secret) == {"TOCSIN_POSTGRES_PASSWORD", "TOCSIN_S3_KEY", "TOCSIN_S3_SECRET"}
    assert all("trying" in default or "demo" in default for default in secret.values())
    for name, service in RAW["services"].items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|ACCESS_KEY|ROOT_USER", key) and key != "TOCSIN_SECRET_FILE":
                assert value.startswith("${"), f"{name}: {key}"


# ------------------------------------------------------------ the image


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, in order."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def final_stage() -> list[tuple[str, str]]:
    """The instructions of what is shipped."""
    found = instructions()
    return found[max(n for n, (word, _) in enumerate(found) if word == "FROM") :]


def copied() -> list[str]:
    """What goes into the build."""
    return [source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]]


def test_the_image_is_pinned_and_slim() -> None:
    """Python's version is one that Bytewax has wheels for, in both stages."""
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert len(set(bases)) == 1
    version = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", bases[0])
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in PYPROJECT["project"]["classifiers"]


def test_the_image_does_not_run_as_root() -> None:
    """Nor does anything after the last USER."""
    users = [rest for word, rest in final_stage() if word == "USER"]
    assert users
    assert users[-1] not in ("root", "0")


def test_signals_reach_tocsin() -> None:
    """A shell in between would keep SIGTERM to itself, and after ten seconds the process would be killed."""
    stage = dict(final_stage())
    assert json.loads(stage["ENTRYPOINT"]) == ["tocsin"]
    assert json.loads(stage["CMD"]) == ["--help"]


def test_the_image_has_every_package() -> None:
    """And what pyproject.toml names besides; nothing of it is kept from Docker."""
    project, setuptools = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
    wanted = {pattern.rstrip("*") for pattern in setuptools["packages"]["find"]["include"]}
    wanted |= {f"{module}.py" for module in setuptools["py-modules"]}
    wanted |= {"pyproject.toml", project["readme"], *project["license-files"]}
    assert set(copied()) == wanted
    let_through = (ROOT / ".dockerignore").read_text().split()
    assert [path for path in copied() if f"!{path}" not in let_through] == []


def test_the_image_has_what_a_cluster_needs() -> None:
    """The same extras in both stages, and such that exist."""
    asked = [set(found.split(",")) for found in re.findall(r"'[.\w]+\[([\w,]+)\]'", (ROOT / "Dockerfile").read_text())]
    assert len(asked) == 2
    assert asked[0] == asked[1]
    assert {"postgres", "registry"} <= asked[0] <= set(PYPROJECT["project"]["optional-dependencies"])


# ------------------------------------------------------------ Prometheus

PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
GROUPS = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())["groups"]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
JOBS = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}
alerts = pytest.mark.parametrize("name", ALERTS)


class Measured:
    """A pipeline that has been measured."""

    store_waiting = 0
    last_write_seconds = 0.0

    def health(self) -> Health:
        """All is well."""
        return Health(None, None, None, 0, 0.0, 0)

    def active(self) -> dict[str, int]:
        """One is open."""
        return {"Open": 1}


def service(registry: CollectorRegistry | None = None) -> FastAPI:
    """The HTTP service, as far as it can be asked how it does."""
    return create_app(None, Measured(), ServiceSettings(), registry=registry)  # type: ignore[arg-type]


def labels_of(registry: CollectorRegistry) -> dict[str, set[str]]:
    """The labels of each series that a registry tells, by name."""
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, set[str]]]:
    """What each job tells: its series and their labels."""
    live = LiveMetrics()
    live.pipeline = Measured()
    TestClient(service(live.registry)).get("/health").raise_for_status()
    worker = WorkerMetrics(KafkaSettings("127.0.0.1:1"))
    worker.reached("tocsin.log-0", 1)
    worker._ends["tocsin.log-0"] = 2  # as Kafka would have said
    return {"tocsin-api": labels_of(live.registry), "tocsin-worker": labels_of(worker.registry)}


def selectors(expression: Any) -> Iterator[Any]:
    """The selectors of series in an expression."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(expression, visit)
    return iter(found)


def sections() -> dict[str, str]:
    """The text under each heading of docs/operations.md."""
    parts = re.split(r"^#+ (.*)$", OPERATIONS, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_prometheus_reads_the_alerts() -> None:
    """Both files are where it looks for them."""
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]
    assert {target: source for target, source in mounts("prometheus").items() if source.startswith(".")} == {
        "/etc/prometheus/prometheus.yml": "./deploy/prometheus.yml",
        "/etc/prometheus/alerts.yml": "./deploy/alerts.yml",
    }
    assert "--config.file=/etc/prometheus/prometheus.yml" in SERVICES["prometheus"]["command"]


def test_prometheus_asks_everybody() -> None:
    """Each worker and each node, where it answers."""
    expected: dict[str, list[str]] = {"tocsin-worker": [], "tocsin-api": []}
    for name in OURS:
        if "profiles" not in SERVICES[name]:
            options = parsed(words(SERVICES[name]["command"]))
            if "metrics_port" in options:
                expected["tocsin-worker"].append(f"{name}:{options['metrics_port']}")
            else:
                expected["tocsin-api"].append(f"{name}:{options['port']}")
    asked = {name: [target for one in JOBS[name]["static_configs"] for target in one["targets"]] for name in expected}
    assert asked == expected


def test_metrics_are_where_prometheus_asks() -> None:
    """It asks for /metrics where nothing else is said."""
    assert "/metrics" in {operation.path for operation in operations(service())}
    assert all("metrics_path" not in job for job in JOBS.values())


def test_alerts_have_names_of_their_own() -> None:
    """Prometheus does not mind two of one name; people do."""
    assert len(ALERTS) == sum(len(group["rules"]) for group in GROUPS)
    assert all(re.fullmatch(r"Tocsin[A-Z]\w+", name) for name in ALERTS)


@alerts
def test_an_alert_says_what_to_do(name: str) -> None:
    """To somebody who was asleep a minute ago."""
    rule = ALERTS[name]
    assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"[1-9]\d*m", rule["for"])
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert len(rule["annotations"]["summary"]) <= 120
    assert rule["annotations"]["description"].endswith(".")


@alerts
def test_an_alert_has_its_section(name: str) -> None:
    """The section that it names exists, and is about it."""
    page, _, heading = ALERTS[name]["annotations"]["runbook"].partition(": ")
    assert (ROOT / page).read_text() == OPERATIONS
    assert f"`{name}`" in sections()[heading]


def test_every_section_about_trouble_has_its_alert() -> None:
    """And in the order in which one should look."""
    named = [rule["annotations"]["runbook"].partition(": ")[2] for rule in ALERTS.values()]
    chapter = OPERATIONS[OPERATIONS.index("## When something is wrong") :]
    assert re.findall(r"^### (.*)$", chapter, re.MULTILINE) == list(dict.fromkeys(named))


@alerts
def test_an_alert_can_fire(name: str, told: dict[str, dict[str, set[str]]]) -> None:
    """Each series exists, of the job that is asked, with the labels that are matched."""
    expression = promql_parser.parse(ALERTS[name]["expr"])
    found = list(selectors(expression))
    assert found
    for selector in found:
        matched = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        job = matched.pop("job")
        assert job in JOBS
        known = told[job] | {"up": set()}
        assert selector.name in known, f"{job} has no {selector.name}"
        assert set(matched) <= known[selector.name], selector.name
    groups = re.findall(r"(?:by|on) \(([\w, ]*)\)", ALERTS[name]["expr"])
    assert {label for group in groups for label in group.split(", ")} <= {"instance", "job", "le", ""}


@alerts
def test_an_alert_names_labels_that_it_has(name: str) -> None:
    """A label that was summed away is an empty place in a sentence."""
    rule = ALERTS[name]
    used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    aggregated = re.search(r"\b(sum|max|min|avg|count)\b", rule["expr"])
    kept = {label for names in re.findall(r"by \(([\w, ]*)\)", rule["expr"]) for label in names.split(", ")}
    assert used <= (kept if aggregated and "and on" not in rule["expr"] else {"instance", "job"})


def test_every_route_that_an_alert_leaves_out_exists() -> None:
    """A stream is open for hours and would make every request seem slow."""
    routes = {operation.path for operation in operations(service())}
    named = re.findall(r'route!?="([^"]+)"', json.dumps([rule["expr"] for rule in ALERTS.values()]).replace('\\"', '"'))
    assert named
    assert set(named) <= routes


def test_every_metric_is_documented(told: dict[str, dict[str, set[str]]]) -> None:
    """With all the alerts, in the table of what it means."""
    text = sections()["What the metrics mean"]
    series = {name for job in told.values() for name in job if name.startswith("tocsin_")}
    names = {re.sub("_(bucket|count|sum)$", "", name) for name in series if not name.endswith("_created")}
    assert sorted(name for name in names if f"`{name}`" not in text) == []
    documented = set(re.findall(r"`(tocsin_\w+[a-z])`", text))
    assert documented <= names
    assert set(re.findall(r"`(Tocsin\w+)`", text)) <= set(ALERTS)
