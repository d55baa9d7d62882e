"""How to reach Kafka: a file of options, of which some are not to be changed and some not to be seen."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from connectors.kafka.log import KafkaLog
from connectors.kafka.outbox import Outbox
from connectors.kafka.reader import Reader
from connectors.kafka.settings import OURS, KafkaError, KafkaSettings
from connectors.kafka.tail import tail
from connectors.kafka.topics import Topics, connected

SECRET = "hunter2-secret"


@pytest.fixture
def properties(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Writes a file of options."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "client.properties"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


Properties = Callable[[str | bytes], Path]

# ---------------------------------------------------------------- the file


def test_options_are_read_as_they_stand(properties: Properties) -> None:
    """A file as other clients take it: comments, blank lines, spaces, and values with any characters in them."""
    text = (
        "\ufeff# of the test cluster\r\n\n  security.protocol = SASL_SSL  \r\n\t# more\n"
        "sasl.username=a=b#c\nsasl.password= p w,ü=  \nssl.ca.location=\n"
    )
    settings = KafkaSettings.read("one:1,two:2", properties(text), "mine")
    assert settings.options == {
        "security.protocol": "SASL_SSL",
        "sasl.username": "a=b#c",
        "sasl.password": "p w,ü=",
        "ssl.ca.location": "",
    }
    assert (settings.servers, settings.prefix) == ("one:1,two:2", "mine")


def test_without_a_file_there_are_no_options() -> None:
    """The simplest case needs none."""
    assert KafkaSettings.read("one:1") == KafkaSettings("one:1", {}, "tocsin")


def test_topics_are_called_by_their_prefix() -> None:
    """Two clusters over one Kafka have nothing in common."""
    found = KafkaSettings("one:1", prefix="a")
    names = [found.log, found.records, found.results, found.incidents, found.dead_letters]
    assert names == ["a.log", "a.records", "a.results", "a.incidents", "a.dead-letters"]


def test_nobody_is_named() -> None:
    """What to do stands in the sentence."""
    with pytest.raises(KafkaError, match="--kafka HOST:PORT, or TOCSIN_KAFKA"):
        KafkaSettings.read("")


@pytest.mark.parametrize("line", [SECRET, f"={SECRET}", f"sasl.password: {SECRET}", f"   = {SECRET}"])
def test_a_line_that_is_no_option_is_named_and_not_shown(properties: Properties, line: str) -> None:
    """It may be half of a password."""
    with pytest.raises(KafkaError, match=r"client\.properties:3: expected key=value") as wrong:
        KafkaSettings.read("one:1", properties(f"a=b\n\n{line}\n"))
    assert SECRET not in shown(wrong.value)


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_exactly_once_rests_on_is_not_to_be_changed(properties: Properties, name: str) -> None:
    """One line of a copied file, such as acks=1, would lose what was acknowledged."""
    with pytest.raises(KafkaError, match=rf"client\.properties:1: {name} is Tocsin's own to set") as wrong:
        KafkaSettings.read("one:1", properties(f" {name} = {SECRET}"))
    assert SECRET not in shown(wrong.value)


SYNONYMS = (
    "acks request.required.acks",
    "bootstrap.servers metadata.broker.list",
    "message.timeout.ms delivery.timeout.ms",
    "retries message.send.max.retries",
    "max.in.flight max.in.flight.requests.per.connection",
)


@pytest.mark.parametrize("names", SYNONYMS)
def test_an_option_is_known_by_all_its_names(names: str) -> None:
    """librdkafka has several for some, and the last one said counts."""
    assert set(names.split()) <= OURS


def test_ours_are_options_that_there_are() -> None:
    """A name with a typing error in it would protect nothing."""
    texts = {"bootstrap.servers", "metadata.broker.list", "group.id", "transactional.id"}
    made: dict[str, Any] = dict.fromkeys(OURS - texts, "1")
    made |= {"isolation.level": "read_committed", "auto.offset.reset": "error", "partitioner": "murmur2"}
    made |= {"delivery.report.only.error": True, "enable.idempotence": True, "request.required.acks": "all"}
    made |= {"acks": "all", "message.timeout.ms": "5000", "delivery.timeout.ms": "5000"}
    Producer(made)


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path, properties: Properties) -> None:
    """With its name and the reason, and nothing of what stands in it."""
    with pytest.raises(KafkaError, match=r"nothing\.here cannot be read: No such file or directory"):
        KafkaSettings.read("one:1", tmp_path / "nothing.here")
    with pytest.raises(KafkaError, match=rf"{tmp_path.name} cannot be read: Is a directory"):
        KafkaSettings.read("one:1", tmp_path)
    with pytest.raises(KafkaError, match="it is not valid UTF-8") as wrong:
        KafkaSettings.read("one:1", properties(f"sasl.password={SECRET}\xfc".encode("latin-1")))
    assert SECRET not in shown(wrong.value)


# ---------------------------------------------------------------- secrets


def shown(error: BaseException) -> str:
    """Everything that a log would have of it."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)


SECRETS = (
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "ssl.key.pem",
)


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_not_shown(name: str) -> None:
    """Settings stand in tracebacks and logs of options."""
    settings = KafkaSettings("one:1", {name: SECRET, "security.protocol": "SASL_SSL"})
    assert SECRET not in repr(settings) + str(settings) + f"{settings}"
    assert settings.hidden(f"cannot use {SECRET} with SASL_SSL") == "cannot use *** with SASL_SSL"


def test_options_without_a_value_hide_nothing() -> None:
    """An empty password is in every text."""
    assert KafkaSettings("one:1", {"sasl.password": ""}).hidden("abc") == "abc"


def test_the_longer_secret_is_hidden_first() -> None:
    """Else the rest of it would be seen."""
    settings = KafkaSettings("one:1", {"sasl.password": "abc", "ssl.key.password": "abcdef"})
    assert settings.hidden("abcdef abc") == "*** ***"


CLIENTS: dict[str, Callable[[KafkaSettings], Any]] = {
    "log": lambda settings: KafkaLog(settings, 1, lambda: 0),
    "outbox": Outbox,
    "reader": lambda settings: Reader(settings, "g"),
    "reader of messages": lambda settings: Reader(settings, "g", headers=True),
    "tail": lambda settings: tail(settings, "t", 0, 0),
    "topics": Topics,
}
UNUSABLE = (
    {"security.protocol": SECRET},
    {"sasl.pasword": SECRET},
    {"fetch.wait.max.ms": SECRET, "socket.timeout.ms": SECRET},
)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("options", UNUSABLE, ids=lambda options: next(iter(options)))
def test_options_that_cannot_be_used_are_one_sentence(client: str, options: dict[str, str]) -> None:
    """Whichever part of the program meets them first; with the password that every client was given unseen."""
    settings = KafkaSettings("one:1", {**options, "sasl.password": SECRET})
    with pytest.raises(KafkaError, match="the Kafka options cannot be used: ") as wrong:
        CLIENTS[client](settings)
    assert SECRET not in shown(wrong.value)


def test_an_option_of_another_kind_is_no_crash() -> None:
    """confluent-kafka raises whatever comes to its mind."""
    for kind in (Producer, Consumer):
        with pytest.raises(KafkaError, match="the Kafka options cannot be used: "):
            connected(kind, KafkaSettings("one:1", {"error_cb": "x", "group.id": "g"}))


# ---------------------------------------------------------------- what a client is given


def test_what_we_set_is_stronger_than_the_options() -> None:
    """Also where somebody got around the file."""
    settings = KafkaSettings("one:1", {"acks": "0", "linger.ms": "7", "reconnect.backoff.max.ms": "9"})
    called = object()
    found = settings.client(acks="all", fetch_wait_max_ms="50", error_cb=called)
    assert (found["acks"], found["linger.ms"], found["reconnect.backoff.max.ms"]) == ("all", "7", "9")
    assert (found["fetch.wait.max.ms"], found["error_cb"]) == ("50", called)
    assert found["bootstrap.servers"] == "one:1"
