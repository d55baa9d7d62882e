"""A real Apache Kafka broker for tests: one node, broker and controller in one process, on the loopback interface.

TOCSIN_TEST_KAFKA=host:port names a broker to use, which tests cannot kill. Else one is started by Java 17 or newer from
jars that Maven fetches once, into TOCSIN_TEST_CACHE or ~/.cache/tocsin.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

NOT_OURS = "The broker that TOCSIN_TEST_KAFKA names is not the test's own, to be started, stopped, killed or paused."

_POM = Path(__file__).parent / "kafka" / "pom.xml"
_PATIENCE = 60.0  # seconds until a broker answers, or has stopped
_FETCHING = 600.0  # seconds for Maven, on a slow line
_OLDEST_JAVA = 17  # Kafka 4 refuses to run on an older one
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"  # a random id may begin with a hyphen, which the format tool takes for an option

# Serial collection and the quick compiler alone: faster to start, and small.
_JAVA_OPTIONS = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
_SETTINGS: Mapping[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "advertised.listeners": "",  # here and below: known once there is a port
    "listeners": "",
    "controller.quorum.voters": "",
    "log.dirs": "",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENTS",
    "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": 1,
    "log.retention.ms": -1,
    "log.retention.bytes": -1,
    "log.cleaner.dedupe.buffer.size": 16 << 20,  # the default takes 128 MiB
    "group.initial.rebalance.delay.ms": 0,
    "offsets.topic.num.partitions": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.num.partitions": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # A broker that was killed may come back only when its last session has ended: after 9 s by default.
    "broker.session.timeout.ms": 1500,
    "broker.heartbeat.interval.ms": 200,
}


class Broker:
    """A broker of the test's own; may be started, stopped, killed and paused many times, on one port and one directory.

    address: "127.0.0.1:port". settings: of the broker, beside those that tests need; read at each start.
    """

    def __init__(self, directory: Path, jars: Path, settings: Mapping[str, str | int] | None = None) -> None:
        self.settings: dict[str, str | int] = dict(settings or {})
        self._directory, self._jars = directory, jars
        port, self._controller = _free_ports(2)
        self.address = f"127.0.0.1:{port}"
        self._log = directory / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether there is a process, even a paused one."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Broker:
        """Start it, on what the last run has left; wait until it answers and leads all its partitions."""
        assert not self.running, "the broker runs already"
        self._directory.mkdir(parents=True, exist_ok=True)
        written = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            properties = self._configure()
            first = not (self._directory / "data" / "meta.properties").exists()
            if first:
                command = self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(properties))
                done = subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False)
                assert done.returncode == 0, f"Kafka's storage was not formatted:\n{self._end_of_log(written)}"
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(properties)), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self._guard = _guard(self._process)
        try:
            trouble = _wait(self.address, self._process)
            assert trouble is None, f"Kafka did not start, {trouble}:\n{self._end_of_log(written)}"
            if first:
                _make_offsets_topic(self.address, int(self.settings.get("offsets.topic.num.partitions", 1)))
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Stop it in an orderly way, paused or not; kill it if it does not."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        self._process.send_signal(signal.SIGCONT)  # a paused process ends only when it goes on
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """Kill it in the middle of whatever it does (SIGKILL)."""
        for process in (self._guard, self._process):  # in this order: the guard must not see the id in other hands
            if process is not None:
                process.kill()
                process.communicate()
        self._guard = self._process = None

    def pause(self) -> None:
        """Let it hang: connections stay open, nothing is answered (SIGSTOP)."""
        process = self._send(signal.SIGSTOP)
        # The last of its threads stops a little later, and may still answer.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on where it was paused (SIGCONT)."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the broker does not run"
        self._process.send_signal(number)
        return self._process

    def _java(self, *arguments: str) -> list[str]:
        return ["java", *_JAVA_OPTIONS, "-cp", f"{self._jars}/*", *arguments]

    def _configure(self) -> Path:
        settings = {
            **_SETTINGS,
            "listeners": f"CLIENTS://{self.address},CONTROLLER://127.0.0.1:{self._controller}",
            "advertised.listeners": f"CLIENTS://{self.address}",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "log.dirs": self._directory / "data",
            **self.settings,
        }
        path = self._directory / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return path

    def _end_of_log(self, start: int) -> str:
        lines = self._log.read_bytes()[start:].decode(errors="replace").splitlines()
        return "\n".join(lines[-40:])


class GivenBroker(Broker):
    """The broker that TOCSIN_TEST_KAFKA names. A test that wants to start, stop, kill or pause it skips."""

    running = True

    def __init__(self, address: str) -> None:
        self.address = address
        trouble = _wait(address)
        assert trouble is None, f"No broker is at {address}, which TOCSIN_TEST_KAFKA names: {trouble}."

    def start(self) -> Broker:
        """Skips the test."""
        pytest.skip(NOT_OURS)

    def _skip(self) -> None:
        pytest.skip(NOT_OURS)

    stop = kill = pause = resume = _skip


class FetchError(Exception):
    """Maven is there but Kafka is not to be had, as on a machine without a network."""


def _guard(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Kill a process when this one ends, however it ends: the pipe between them closes."""
    command = ["/bin/sh", "-c", 'read -r _; kill -KILL "$0"', str(process.pid)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def given() -> str | None:
    """The address of a broker that runs already, if the environment names one."""
    return os.environ.get("TOCSIN_TEST_KAFKA") or None


def missing() -> str | None:
    """Say what is missing to test with a broker, as a sentence; None where nothing is."""
    if importlib.util.find_spec("confluent_kafka") is None:
        return "Kafka's client is not installed: pip install confluent-kafka"
    if given():
        return None
    otherwise = "or set TOCSIN_TEST_KAFKA=host:port."
    java = _java_version()
    if java is None:
        return f"There is no Java to run Kafka: install Java {_OLDEST_JAVA} or newer and Maven, {otherwise}"
    if java < _OLDEST_JAVA:
        return f"Kafka needs Java {_OLDEST_JAVA} or newer, and this is Java {java}: install one, {otherwise}"
    if not _kept().exists() and shutil.which("mvn") is None:
        return f"There is no Maven to fetch Kafka: install it, {otherwise}"
    return None


def jars() -> Path:
    """The directory with the jars of Kafka; fetched if need be, once however many processes ask at the same time."""
    kept = _kept()
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_name(f"{kept.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _fetch(kept)
    return kept


def _kept() -> Path:
    version = re.search(r"<kafka\.version>(.+)</kafka\.version>", _POM.read_text())
    assert version is not None
    cache = os.environ.get("TOCSIN_TEST_CACHE") or Path.home() / ".cache" / "tocsin"
    return Path(cache).absolute() / f"kafka-{version[1]}"


def _fetch(kept: Path) -> None:
    """Fetch the jars aside, and put them in place when they are complete."""
    with tempfile.TemporaryDirectory(prefix=f".{kept.name}-", dir=kept.parent) as aside:
        # -U: Maven remembers for a day what it could not fetch.
        command = ["mvn", "-q", "-B", "-U", "-f", str(_POM), "dependency:copy-dependencies"]
        options = [f"-DoutputDirectory={aside}/jars", "-DincludeScope=runtime"]
        done = subprocess.run(
            [*command, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=_FETCHING, check=False, text=True,
        )  # fmt: skip
        if done.returncode != 0:
            errors = [line for line in done.stdout.splitlines() if "ERROR" in line]
            raise FetchError(f"Maven could not fetch Kafka: {errors[0] if errors else done.stdout}")
        os.rename(f"{aside}/jars", kept)


def _java_version() -> int | None:
    """Return the major version of the Java on the path."""
    program = shutil.which("java")
    if program is None:
        return None
    said = subprocess.run([program, "-version"], capture_output=True, check=False, text=True).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(version[1]) if version else None


def _wait(address: str, process: subprocess.Popen[bytes] | None = None) -> str | None:
    """Wait until a broker serves; returns what is wrong if it does not."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": address, "reconnect.backoff.max.ms": 100, "log_level": 0})
    last = time.monotonic() + _PATIENCE
    while time.monotonic() < last:
        if process is not None and process.poll() is not None:
            return f"it ended with code {process.returncode}"
        try:
            cluster = client.list_topics(timeout=1.0)
        except KafkaException:
            continue
        leaders = [partition.leader for topic in cluster.topics.values() for partition in topic.partitions.values()]
        if cluster.brokers and (process is None or -1 not in leaders):
            return None
        time.sleep(0.05)
    return f"it did not answer within {_PATIENCE:g} s"


def _make_offsets_topic(address: str, partitions: int) -> None:
    """Make the topic in which the broker keeps groups, as it would itself: the first consumer would wait 3 s for it."""
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    name = "__consumer_offsets"
    config = {"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": str(100 << 20)}
    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    client.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(_PATIENCE)


def _free_ports(count: int) -> list[int]:
    """Ports below those that the system hands out to clients.

    Among the latter, a client that retries while the broker is down may get the broker's own port, and keep it.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
