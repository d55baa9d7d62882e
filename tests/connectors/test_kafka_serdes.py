"""Messages of a schema registry become JSON lines: what they say, what is wrong with them, what with the registry."""

import io
import json
import logging
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Event, Thread
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from connectors.formats import FORMATS
from connectors.formats.types import DecodeOptions
from connectors.kafka import serdes
from connectors.kafka.serdes import (
    NOTHING,
    SERDES,
    RegistrySettings,
    RegistryUnavailable,
    SerdeError,
    deserializer,
)

TOPIC = "orders"
BY_TOPIC = {"subject.name.strategy": topic_subject_name_strategy}
QUICK = {"max.retries": "0"}
CONTEXT = SerializationContext(TOPIC, MessageField.VALUE)
# The whole answer to a request: status, type of content, body.
Answer = tuple[int, str, bytes]


class Registry:
    """A schema registry on a port of this machine, as far as serialisers and deserialisers need one."""

    def __init__(self) -> None:
        self.schemas: list[dict[str, Any]] = []
        self.versions: dict[str, list[int]] = {}
        self.requests: Counter[str] = Counter()
        self.logins: set[str | None] = set()
        self.broken: Answer | None = None  # given in place of every answer
        self.port = 0
        self.start()

    def start(self) -> None:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(registry.get(urlsplit(self.path).path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.reply(registry.post(urlsplit(self.path).path, json.loads(body)))

            def reply(self, answer: Answer) -> None:
                registry.logins.add(self.headers["Authorization"])
                status, kind, body = registry.broken or answer
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):  # who asked may have lost patience
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64  # the default of 5 makes some of several threads wait for a second

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> SchemaRegistryClient:
        """A producer's."""
        return SchemaRegistryClient({"url": self.url, "max.retries": 0})

    def get(self, path: str) -> Answer:
        self.requests[path] += 1
        match path.strip("/").split("/"):
            case ["schemas", "ids", text] if 0 < int(text) <= len(self.schemas):
                return answer(self.schemas[int(text) - 1])
            case ["schemas", "ids", text] if int(text) >= 2**31:  # no integer of Java's: as if there were no such page
                return answer({"error_code": 404, "message": "HTTP 404 Not Found"}, 404)
            case ["schemas", "ids", _]:
                return answer({"error_code": 40403, "message": "Schema not found"}, 404)
            case ["schemas", "guids", _]:
                return answer({"error_code": 404, "message": "HTTP 404 Not Found"}, 404)
            case ["subjects", subject, "versions", version] if subject in self.versions:
                schema_id = self.versions[subject][int(version) - 1]
                found = {"subject": subject, "version": int(version), "id": schema_id}
                return answer(found | self.schemas[schema_id - 1])
        return answer({"error_code": 40401, "message": "Subject not found"}, 404)

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        match path.strip("/").split("/"):
            case ["subjects", subject, "versions"]:
                if body not in self.schemas:
                    self.schemas.append(body)
                schema_id = self.schemas.index(body) + 1
                self.versions.setdefault(subject, []).append(schema_id)
                return answer({"id": schema_id})
        return answer({"error_code": 404, "message": "HTTP 404 Not Found"}, 404)


def answer(document: object, status: int = 200) -> Answer:
    return status, "application/vnd.schemaregistry.v1+json", json.dumps(document).encode()


@pytest.fixture
def registry() -> Iterator[Registry]:
    found = Registry()
    yield found
    found.stop()


def make(
    registry: Registry, name: str = "avro", message_type: str | None = None, **options: str
) -> serdes.Deserializer:
    given = {key.replace("_", "."): value for key, value in options.items()}
    return deserializer(name, RegistrySettings(registry.url, QUICK | given), TOPIC, message_type)


def avro(registry: Registry, schema: object, *records: object) -> list[bytes]:
    """Records as a producer of Avro sends them."""
    write = AvroSerializer(registry.client(), json.dumps(schema), conf=BY_TOPIC)
    return [written(write(record, CONTEXT)) for record in records]


def json_schema(registry: Registry, schema: object, *records: dict[str, object]) -> list[bytes]:
    write = JSONSerializer(json.dumps(schema), registry.client(), conf=BY_TOPIC)
    return [written(write(record, CONTEXT)) for record in records]


def protobuf(registry: Registry, *messages: Any) -> list[bytes]:
    write = ProtobufSerializer(type(messages[0]), registry.client(), BY_TOPIC | {"use.deprecated.format": False})
    return [written(write(message, CONTEXT)) for message in messages]


def written(value: bytes | None) -> bytes:
    assert value is not None
    return value


def record_of(*fields: object, name: str = "Order") -> dict[str, object]:
    return {"type": "record", "name": name, "namespace": "shop", "fields": list(fields)}


def of(name: str, kind: object, **more: object) -> dict[str, object]:
    return {"name": name, "type": kind, **more}


def logical(kind: str, name: str, **more: object) -> dict[str, object]:
    return {"type": kind, "logicalType": name, **more}


NUMBERED = record_of(of("n", "int"))


# -- what the messages say


def test_an_avro_record_becomes_json_with_its_logical_types(registry: Registry) -> None:
    schema = record_of(
        of("at", logical("long", "timestamp-millis")),
        of("exact", logical("long", "timestamp-micros")),
        of("local", logical("long", "local-timestamp-micros")),
        of("day", logical("int", "date")),
        of("clock", logical("int", "time-millis")),
        of("amount", logical("bytes", "decimal", precision=30, scale=4)),
        of("nothing", logical("bytes", "decimal", precision=12, scale=8)),
        of("key", logical("string", "uuid")),
        of("blob", "bytes"),
        of("hash", {"type": "fixed", "name": "Hash", "size": 2}),
        of("state", {"type": "enum", "name": "State", "symbols": ["OPEN", "DONE"]}),
        of("service", record_of(of("name", "string"), of("zone", ["null", "string"]), name="Service")),
        of("labels", {"type": "map", "values": "long"}),
        of("lines", {"type": "array", "items": "string"}),
        of("big", "long"),
        of("odd", "double"),
        of("ok", "boolean"),
    )
    key = UUID("12345678-1234-5678-1234-567812345678")
    zone = timezone(timedelta(hours=2))
    record = {
        "at": datetime(2026, 1, 31, 10, 30, 0, 123000, zone),
        "exact": datetime(2026, 1, 31, 8, 30, 0, 123456, UTC),
        "local": datetime(2026, 1, 31, 8, 30, 0, 5),
        "day": date(2026, 1, 31),
        "clock": datetime(2026, 1, 31, 8, 30, 1, 500000).time(),
        "amount": Decimal("-12345678901234567890.5000"),
        "nothing": Decimal(0),
        "key": key,
        "blob": b"\x00\xff\n",
        "hash": b"\x01\x02",
        "state": "DONE",
        "service": {"name": "cart", "zone": None},
        "labels": {"a": -1},
        "lines": ["one\ntwo", "drei\u2028ü"],
        "big": 2**63 - 1,
        "odd": 0.1,
        "ok": True,
    }
    lines, errors = make(registry).lines(avro(registry, schema, record))
    assert errors == {}
    assert json.loads(lines[0]) == {
        "at": "2026-01-31T08:30:00.123000Z",
        "exact": "2026-01-31T08:30:00.123456Z",
        "local": "2026-01-31T08:30:00.000005Z",
        "day": "2026-01-31",
        "clock": "08:30:01.500000",
        "amount": "-12345678901234567890.5000",
        "nothing": "0.00000000",
        "key": str(key),
        "blob": "AP8K",
        "hash": "AQI=",
        "state": "DONE",
        "service": {"name": "cart", "zone": None},
        "labels": {"a": -1},
        "lines": ["one\ntwo", "drei\u2028ü"],
        "big": 2**63 - 1,
        "odd": 0.1,
        "ok": True,
    }
    assert b"\n" not in lines[0]


def test_a_schema_that_refers_to_another_is_read(registry: Registry) -> None:
    client = registry.client()
    service = record_of(of("name", "string"), name="Service")
    client.register_schema("service", Schema(json.dumps(service), "AVRO"))
    order = record_of(of("service", "shop.Service"))
    reference = {"name": "shop.Service", "subject": "service", "version": 1}
    registry.post(f"/subjects/{TOPIC}-value/versions", {"schema": json.dumps(order), "references": [reference]})
    value = io.BytesIO()
    whole = fastavro.parse_schema(record_of(of("service", service)))
    fastavro.schemaless_writer(value, whole, {"service": {"name": "cart"}})
    lines, errors = make(registry).lines([framed(2, value.getvalue())])
    assert (lines, errors) == ([b'{"service":{"name":"cart"}}'], {})


def test_a_protobuf_message_has_its_fields_as_declared(registry: Registry, orders: ModuleType) -> None:
    order = orders.Order(
        order_id="o-1",
        total_cents=2**60 + 1,
        blob=b"\x00\xff",
        state=1,
        service=orders.Service(zone_name="eu", seen=[2**53 + 1, -1]),
        weights={"a": 2**62},
        ratio=0.5,
        limit=wrappers_pb2.Int64Value(value=2**61),
    )
    order.at.FromDatetime(datetime(2026, 1, 31, 8, 30, 0, 123456))
    lines, errors = make(registry, "protobuf", "orders_pb2:Order").lines(protobuf(registry, order))
    assert errors == {}
    assert json.loads(lines[0]) == {
        "order_id": "o-1",
        "at": "2026-01-31T08:30:00.123456Z",
        "total_cents": 2**60 + 1,
        "blob": "AP8=",
        "state": "FAILED",
        "service": {"zone_name": "eu", "seen": [2**53 + 1, -1]},
        "weights": {"a": 2**62},
        "ratio": 0.5,
        "limit": 2**61,
    }


def test_a_zero_in_a_protobuf_message_is_a_value(registry: Registry, orders: ModuleType) -> None:
    # Protobuf does not write zeros: left out, a mapped `value` of 0 would be none at all.
    lines, _ = make(registry, "protobuf", "orders_pb2:Order").lines(protobuf(registry, orders.Order(order_id="x")))
    found = json.loads(lines[0])
    assert (found["total_cents"], found["ratio"], found["state"]) == (0, 0, "OPEN")
    assert "at" not in found


def test_a_nested_protobuf_type_is_found(registry: Registry, orders: ModuleType) -> None:
    values = protobuf(registry, orders.Order.Line(sku="a"))
    lines, errors = make(registry, "protobuf", "orders_pb2:Order.Line").lines(values)
    assert (lines, errors) == ([b'{"sku":"a"}'], {})


JSON_ORDER = {"title": "Order", "type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}


def test_a_json_schema_message_is_passed_on_as_written(registry: Registry) -> None:
    values = json_schema(registry, JSON_ORDER, {"id": "ü", "deep": {"list": [1, None]}})
    body = b' {\r\n  "id" : "a\\nb",\n  "long": 12345678901234567890123, "price": 1.10 } \n'
    lines, errors = make(registry, "json-schema").lines([*values, framed(1, body)])
    assert errors == {}
    assert json.loads(lines[0]) == {"id": "ü", "deep": {"list": [1, None]}}
    assert json.loads(lines[1]) == {"id": "a\nb", "long": 12345678901234567890123, "price": 1.1}
    assert b'"price": 1.10' in lines[1]
    assert b"\n" not in lines[1]
    assert b"\r" not in lines[1]


def framed(schema_id: int, body: bytes) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big") + body


def test_several_schemas_in_one_list_keep_their_order_and_are_fetched_once(registry: Registry) -> None:
    second = record_of(of("n", "int"), of("zone", "string", default="eu"))
    old = avro(registry, NUMBERED, *({"n": n} for n in range(0, 100, 2)))
    new = avro(registry, second, *({"n": n, "zone": "us"} for n in range(1, 100, 2)))
    mixed = [value for pair in zip(old, new, strict=True) for value in pair]
    reader = make(registry)
    lines, errors = reader.lines(mixed)
    assert errors == {}
    assert [json.loads(line) for line in lines] == [{"n": n} | ({"zone": "us"} if n % 2 else {}) for n in range(100)]
    assert reader.lines(mixed)[0] == lines
    assert registry.requests == {"/schemas/ids/1": 1, "/schemas/ids/2": 1}


def test_columns_are_mapped_from_an_avro_record(registry: Registry) -> None:
    schema = record_of(
        of("created", logical("long", "timestamp-micros")),
        of("service", record_of(of("name", "string"), name="Service")),
        of("kind", "string"),
        of("latency", "double"),
        of("amount", logical("bytes", "decimal", precision=12, scale=2)),
    )
    record = {
        "created": datetime(2026, 1, 31, 8, 30, 0, 123456, UTC),
        "service": {"name": "cart"},
        "kind": "order_failed",
        "latency": 12.5,
        "amount": Decimal("10.50"),
    }
    values = avro(registry, schema, record, record | {"kind": "order_paid"})
    lines, errors = make(registry).lines([values[0], None, values[1]])
    mapping = {
        "time": "$.created",
        "source": "$.service.name",
        "type": "$.kind",
        "value": "$.latency",
        "code": "$.amount",
        "stream": "shop",
    }
    decoded = FORMATS["jsonl"].decode(b"\n".join(lines), DecodeOptions(mapping=mapping))
    assert list(errors) == [1]
    assert decoded.records == 3
    assert decoded.rejects["offset"].to_list() == [1]
    assert decoded.frame["offset"].to_list() == [0, 2]
    assert decoded.frame["time"].to_list() == [record["created"]] * 2
    assert decoded.frame["type"].to_list() == ["order_failed", "order_paid"]
    for column, value in {"source": "cart", "value": 12.5, "code": "10.50", "stream": "shop"}.items():
        assert decoded.frame[column].to_list() == [value] * 2


# -- what is wrong with a message


@pytest.mark.parametrize("name", SERDES)
def test_every_serde_says_which_messages_are_wrong_and_why(registry: Registry, orders: ModuleType, name: str) -> None:
    good = {
        "avro": lambda: avro(registry, NUMBERED, {"n": 1})[0],
        "protobuf": lambda: protobuf(registry, orders.Order(order_id="a"))[0],
        "json-schema": lambda: json_schema(registry, JSON_ORDER, {"id": "a"})[0],
    }[name]()
    wrong = {
        "avro": framed(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        "protobuf": framed(1, b"\0\x0a\x7fcut"),
        "json-schema": framed(1, b'{"id": 5}'),
    }[name]
    values = [good, None, b"", b"plain text", b'{"id":"a"}', framed(7, b"abc"), framed(2**31, b"abc"), wrong, good]
    reader = make(registry, name, "orders_pb2:Order" if name == "protobuf" else None)
    lines, errors = reader.lines(values)
    framing = "the message does not begin with a schema id: a zero byte and four more are expected"
    assert {index: text for index, text in errors.items() if index != 7} == {
        1: "the message has no value",
        2: framing,
        3: framing,
        4: framing,
        5: "schema 7 is unknown to the registry",
        6: "schema 2147483648 is unknown to the registry",
    }
    assert errors[7].startswith("the message does not fit schema 1: ")
    assert lines[1:8] == [NOTHING] * 7
    assert lines[0] == lines[8] != NOTHING
    assert reader.lines([framed(2**31 - 1, b"abc")])[1] == {0: "schema 2147483647 is unknown to the registry"}
    assert set(registry.requests) == {f"/schemas/ids/{n}" for n in (1, 7, 2**31 - 1)}


def test_a_truncated_avro_message_does_not_fit(registry: Registry) -> None:
    schema = record_of(of("text", "string"), of("n", "int"))
    value = avro(registry, schema, {"text": "some text", "n": 5})[0]
    lines, errors = make(registry).lines([value, value[:-1], value[:8], value[:5]])
    assert list(errors) == [1, 2, 3]
    assert lines[0] != NOTHING


def test_what_a_json_schema_forbids_is_named(registry: Registry) -> None:
    json_schema(registry, JSON_ORDER, {"id": "a"})
    _, errors = make(registry, "json-schema").lines([framed(1, b"{}"), framed(1, b"{cut"), framed(1, b"[1]")])
    assert "'id' is a required property" in errors[0]
    assert "JSONDecodeError" in errors[1]
    assert list(errors) == [0, 1, 2]


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ("string", "text", "a text"),
        ({"type": "array", "items": "int"}, [1], "a list"),
        ("long", 5, "a number"),
        (logical("bytes", "decimal", precision=4, scale=2), Decimal("1.50"), ""),
        (["null", "string"], None, "null"),
    ],
)
def test_what_is_no_record_is_an_error(registry: Registry, schema: object, value: object, said: str) -> None:
    registry.post(f"/subjects/{TOPIC}-value/versions", {"schema": json.dumps(schema)})
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), value)
    # confluent wants at least one byte after the id, also where Avro writes less.
    lines, errors = make(registry).lines([framed(1, body.getvalue())])
    assert lines == [NOTHING]
    assert errors[0].startswith("a record is expected, the message is " + said)


def test_a_schema_of_another_type_is_an_error(registry: Registry, orders: ModuleType) -> None:
    values = [*avro(registry, NUMBERED, {"n": 1}), *json_schema(registry, JSON_ORDER, {"id": "a"})]
    lines, errors = make(registry).lines(values)
    assert errors == {1: "schema 2 is of type JSON, AVRO is expected"}
    assert lines == [b'{"n":1}', NOTHING]
    _, errors = make(registry, "protobuf", "orders_pb2:Order").lines(values)
    assert errors[0] == "schema 1 is of type AVRO, PROTOBUF is expected"


def test_a_protobuf_message_of_another_type_is_not_read_as_ours(registry: Registry, orders: ModuleType) -> None:
    # Both begin with a text, so that the bytes of one can be read as the other.
    values = [*protobuf(registry, orders.Service(zone_name="eu")), *protobuf(registry, orders.Order(order_id="o"))]
    lines, errors = make(registry, "protobuf", "orders_pb2:Order").lines(values)
    assert errors == {0: "the message is a tocsin_tests.Service, a tocsin_tests.Order is expected"}
    assert json.loads(lines[1])["order_id"] == "o"


def test_an_old_registry_without_guids_does_not_stop_a_topic(registry: Registry) -> None:
    _, errors = make(registry).lines([b"\x01" + bytes(16) + b"abc"])
    assert errors == {0: "schema 00000000-0000-0000-0000-000000000000 is unknown to the registry"}


def test_an_unknown_schema_is_asked_for_again_only_after_a_while(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(serdes.time, "monotonic", lambda: now[0])
    reader = make(registry)
    assert len(reader.lines([framed(1, b"\x02")] * 100)[1]) == 100
    avro(registry, NUMBERED, {"n": 1})  # now there is a schema 1
    now[0] = serdes.UNKNOWN_FOR - 0.001
    assert len(reader.lines([framed(1, b"\x02")])[1]) == 1
    assert registry.requests["/schemas/ids/1"] == 1
    now[0] = serdes.UNKNOWN_FOR
    assert reader.lines([framed(1, b"\x02")]) == ([b'{"n":1}'], {})
    assert registry.requests["/schemas/ids/1"] == 2


# -- what is wrong with the registry


def test_a_stopped_registry_is_no_fault_of_the_messages(registry: Registry) -> None:
    known = avro(registry, NUMBERED, {"n": 1})
    new = avro(registry, record_of(of("m", "int")), {"m": 2})
    reader = make(registry)
    assert reader.lines(known) == ([b'{"n":1}'], {})
    registry.stop()
    assert reader.lines([*known, None]) == ([b'{"n":1}', NOTHING], {1: "the message has no value"})
    with pytest.raises(RegistryUnavailable, match=f"registry at {registry.url} cannot be asked: "):
        reader.lines([*known, *new])
    registry.start()
    assert reader.lines([*known, *new]) == ([b'{"n":1}', b'{"m":2}'], {})


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (answer({"error_code": 50001, "message": "Error in the backend"}, 500), "HTTP 500: Error in the backend"),
        (answer({"error_code": 401, "message": "Unauthorized"}, 401), "HTTP 401: Unauthorized"),
        (answer({"error_code": 40301, "message": "Forbidden"}, 403), "HTTP 403: Forbidden"),
        (answer({"error_code": 404, "message": "HTTP 404 Not Found"}, 404), "HTTP 404: HTTP 404 Not Found"),
        ((404, "text/html", b"<html>no such page</html>"), "HTTP 404: "),
        ((200, "text/html", b"<html>please sign in</html>"), "cannot be asked: JSONDecodeError"),
    ],
)
def test_an_answer_that_makes_no_sense_is_no_fault_of_the_messages(
    registry: Registry, broken: Answer, said: str
) -> None:
    values = avro(registry, NUMBERED, {"n": 1})
    reader = make(registry)
    registry.broken = broken
    with pytest.raises(RegistryUnavailable, match=said):
        reader.lines(values)
    registry.broken = None
    assert reader.lines(values) == ([b'{"n":1}'], {})


@pytest.mark.parametrize("name", SERDES)
def test_no_serde_takes_a_stopped_registry_for_a_bad_message(registry: Registry, orders: ModuleType, name: str) -> None:
    reader = make(registry, name, "orders_pb2:Order" if name == "protobuf" else None)
    registry.stop()
    with pytest.raises(RegistryUnavailable):
        reader.lines([framed(1, b"\0abc")])
    registry.start()


def test_a_reference_that_cannot_be_fetched_is_no_fault_of_the_messages(registry: Registry) -> None:
    # The schema itself was answered, what it refers to was not.
    reference = {"name": "shop.Service", "subject": "service", "version": 1}
    order = json.dumps(record_of(of("service", "shop.Service")))
    registry.post(f"/subjects/{TOPIC}-value/versions", {"schema": order, "references": [reference]})
    reader = make(registry)
    value = framed(1, b"\x08cart")
    assert reader.lines([value])[1] == {0: "the schema refers to one that is unknown to the registry"}
    registry.stop()
    with pytest.raises(RegistryUnavailable):
        reader.lines([value])
    registry.start()
    registry.client().register_schema("service", Schema(json.dumps(record_of(of("name", "string"), name="Service"))))
    assert reader.lines([value]) == ([b'{"service":{"name":"cart"}}'], {})


@pytest.mark.parametrize("name", SERDES)
def test_several_threads_share_one_deserializer(registry: Registry, orders: ModuleType, name: str) -> None:
    def batch(n: int) -> list[bytes]:
        fields = (of("n", "int"), of(f"extra{n}", "int", default=n))
        schema = JSON_ORDER | {"description": str(n)}
        return {
            "avro": lambda: avro(registry, record_of(*fields), *({"n": i, f"extra{n}": n} for i in range(50))),
            "protobuf": lambda: protobuf(registry, *(orders.Order(order_id=str(n), total_cents=i) for i in range(50))),
            "json-schema": lambda: json_schema(registry, schema, *({"id": str(n), "n": i} for i in range(50))),
        }[name]()

    def read(_: int) -> tuple[list[bytes], dict[int, str]]:
        together.wait()
        return reader.lines(values)

    values = [value for n in range(8) for value in batch(n)]
    message_type = "orders_pb2:Order" if name == "protobuf" else None
    alone = make(registry, name, message_type).lines(values)
    together = Barrier(8)
    reader = make(registry, name, message_type)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == [alone] * 8
    assert alone[1] == {}


# -- settings


SECRET = "s3cr/et:pa#ss"


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + str(error)


def test_no_secret_is_shown(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    quoted = "s3cr%2Fet%3Apa%23ss"
    settings = RegistrySettings(f"http://ann:{quoted}@127.0.0.1:{registry.port}/", QUICK)
    values = avro(registry, NUMBERED, {"n": 1})
    reader = deserializer("avro", settings, TOPIC)
    assert reader.lines(values)[1] == {}
    assert "Basic YW5uOnMzY3IvZXQ6cGEjc3M=" in registry.logins  # so it was used
    registry.broken = answer({"error_code": 401, "message": f"no login ann:{SECRET}, password {SECRET}"}, 401)
    with pytest.raises(RegistryUnavailable) as refused:
        reader.lines([framed(2, b"ab")])
    registry.stop()
    with pytest.raises(RegistryUnavailable) as stopped:
        reader.lines([framed(2, b"ab")])
    registry.start()
    said = [caplog.text, repr(settings), str(settings), settings.url, repr(reader), everything_said(refused.value)]
    for text in [*said, everything_said(stopped.value)]:
        assert SECRET not in text
        assert quoted not in text
        assert "YW5uOnMzY3IvZXQ6cGEjc3M=" not in text
    assert repr(settings) == f"RegistrySettings(url='{registry.url}/')"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://ann:se/cret@host:8081", {}),
        ("http://ann:se,cret@host:8081", {}),
        ("http://ann:se#cret@host:8081", {}),
        ("ann:se/cret@host", {}),
        ("http://ann:secret@one,http://bob:se/cret@two", {}),
        ("http://ann:secret@one", {"basic.auth.user.info": "bob:se/cret"}),
        ("http://host", {"basic.auth.user.info": "se/cret"}),
        ("http://host", {"timeout": "se/cret"}),
        ("http://host", {"se.cret.option": "se/cret"}),
        ("http://host", {"ssl.key.password": "se/cret"}),
        ("http://host", {"url": "http://se/cret"}),
        ("http://host", {"proxy": "se/cret://host"}),
    ],
)
def test_settings_that_make_no_sense_are_refused_without_quoting_them(url: str, options: dict[str, str]) -> None:
    with pytest.raises(SerdeError) as refused:
        deserializer("avro", RegistrySettings(url, options), TOPIC)
    said = everything_said(refused.value)
    assert "se/cret" not in said.replace(__file__, "")
    assert "se,cret" not in str(refused.value)
    assert "se#cret" not in str(refused.value)
    assert "schema registry" in str(refused.value)


def test_settings_come_from_the_environment_and_a_file(tmp_path: Path) -> None:
    file = tmp_path / "registry.properties"
    file.write_text("# login\n\n basic.auth.user.info = ann:a=b \n!old\nssl.ca.location=/ca.pem\ntimeout=2.5\n")
    environ = {"TOCSIN_SCHEMA_REGISTRY": "http://one:1,http://two:2", "TOCSIN_SCHEMA_REGISTRY_CONFIG": str(file)}
    settings = RegistrySettings.from_env(environ)
    assert settings.url == "http://one:1,http://two:2"
    assert settings.options == {
        "basic.auth.user.info": "ann:a=b",
        "ssl.ca.location": "/ca.pem",
        "timeout": "2.5",
    }
    config = settings.client_config()
    assert (config["timeout"], config["max.retries"], config["basic.auth.user.info"]) == (2.5, 1, "ann:a=b")
    assert RegistrySettings.from_env({"TOCSIN_SCHEMA_REGISTRY": "http://one:1"}).options == {}


def test_an_environment_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SerdeError, match="TOCSIN_SCHEMA_REGISTRY is not set"):
        RegistrySettings.from_env({})
    given = {"TOCSIN_SCHEMA_REGISTRY": "http://one:1", "TOCSIN_SCHEMA_REGISTRY_CONFIG": str(tmp_path / "none")}
    with pytest.raises(SerdeError, match=r"TOCSIN_SCHEMA_REGISTRY_CONFIG: .*none cannot be read: No such file"):
        RegistrySettings.from_env(given)
    (tmp_path / "none").write_text("timeout=5\nse/cret\n")
    with pytest.raises(SerdeError, match=r"none, line 2: key=value is expected") as refused:
        RegistrySettings.from_env(given)
    assert "se/cret" not in str(refused.value)


def test_a_timeout_is_kept(registry: Registry) -> None:
    # confluent's client itself would wait for ever on a registry that takes the connection and says nothing.
    released = Event()

    def stalled(_path: str) -> Answer:
        released.wait(10)
        return answer({}, 500)

    registry.get = stalled  # type: ignore[method-assign]
    reader = make(registry, timeout="0.2")
    with pytest.raises(RegistryUnavailable, match="cannot be asked: ReadTimeout"):
        reader.lines([framed(1, b"ab")])
    released.set()
    assert RegistrySettings("http://host").client_config()["timeout"] == 10.0


@pytest.mark.parametrize(
    ("name", "message_type", "said"),
    [
        ("thrift", None, "'thrift' is no serde; allowed are avro, protobuf, json-schema."),
        ("avro", "orders_pb2:Order", "avro takes no message type"),
        ("protobuf", None, "protobuf needs a message type: module:Class"),
        ("protobuf", "orders_pb2", "'orders_pb2' is no message type; module:Class is expected"),
        ("protobuf", "orders_pb2:Nobody", "The module orders_pb2 has no class Nobody."),
        ("protobuf", "no_such_pb2:Order", "The module no_such_pb2 cannot be imported: ModuleNotFoundError"),
        ("protobuf", "json:JSONDecoder", "json:JSONDecoder is no generated message class."),
    ],
)
def test_what_cannot_be_built_is_said(
    registry: Registry, orders: ModuleType, name: str, message_type: str | None, said: str
) -> None:
    with pytest.raises(SerdeError) as refused:
        make(registry, name, message_type)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("avro", "confluent_kafka.schema_registry.avro"),
        ("protobuf", "confluent_kafka.schema_registry.protobuf"),
        ("json-schema", "confluent_kafka.schema_registry.json_schema"),
        ("avro", "confluent_kafka.schema_registry"),
    ],
)
def test_a_missing_package_is_said(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, name: str, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SerdeError, match=rf"^{name} needs: pip install 'tocsin\[registry\]'$"):
        make(registry, name, "orders_pb2:Order" if name == "protobuf" else None)


# -- a generated module without a compiler


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("orders_pb2")
    for name in ("Order", "Service"):
        setattr(module, name, GetMessageClass(POOL.FindMessageTypeByName(f"tocsin_tests.{name}")))
    monkeypatch.setitem(sys.modules, "orders_pb2", module)
    return module


def _field(message: DescriptorProto, name: str, kind: str, type_name: str = "", repeated: bool = False) -> None:
    message.field.add(
        name=name,
        number=len(message.field) + 1,
        type=FieldDescriptorProto.Type.Value(f"TYPE_{kind}"),
        type_name=type_name or None,
        label=FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL,
    )


def _orders_file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="tocsin_tests/orders.proto", package="tocsin_tests", syntax="proto3")
    file.dependency.extend(known.DESCRIPTOR.name for known in (timestamp_pb2, wrappers_pb2))
    state = file.enum_type.add(name="State")
    state.value.add(name="OPEN", number=0)
    state.value.add(name="FAILED", number=1)
    order, service = file.message_type.add(name="Order"), file.message_type.add(name="Service")
    _field(service, "zone_name", "STRING")
    _field(service, "seen", "SINT64", repeated=True)
    _field(order, "order_id", "STRING")
    _field(order, "at", "MESSAGE", ".google.protobuf.Timestamp")
    _field(order, "total_cents", "INT64")
    _field(order, "blob", "BYTES")
    _field(order, "state", "ENUM", ".tocsin_tests.State")
    _field(order, "service", "MESSAGE", ".tocsin_tests.Service")
    _field(order, "weights", "MESSAGE", ".tocsin_tests.Order.WeightsEntry", repeated=True)
    _field(order, "ratio", "DOUBLE")
    _field(order, "limit", "MESSAGE", ".google.protobuf.Int64Value")
    entry = order.nested_type.add(name="WeightsEntry")
    entry.options.map_entry = True
    _field(entry, "key", "STRING")
    _field(entry, "value", "UINT64")
    _field(order.nested_type.add(name="Line"), "sku", "STRING")
    return file


POOL = Default()
POOL.AddSerializedFile(_orders_file().SerializeToString())
