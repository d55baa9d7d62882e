"""Messages written with a schema registry: framed Avro, Protobuf and JSON-Schema values -> JSON object texts.

confluent-kafka's own deserialisers read the bytes and run the rules that a schema carries. Here is decided which text a
value becomes, and whether a failure is the message's fault or the registry's:

- A message that cannot be used stays unusable, whenever it is read again: it gets an error, the others go on.
- A registry that cannot be asked, or gives no sensible answer, says nothing about a message: `RegistryUnavailable`,
  and the caller tries again later. Schemas seen before are remembered, so that only new ones need the registry.

Texts: times are RFC 3339 in UTC (local ones, which name no zone, are taken as UTC), dates, times of day and UUIDs their
ISO text, decimals a text with all their digits, bytes base64. What a JSON-Schema message says is passed on as written.
Protobuf fields are called as they are declared, and those left at their default are there, too.
"""

from __future__ import annotations

import importlib
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial, reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import orjson

if TYPE_CHECKING:
    from google.protobuf.message import Message

URL_VARIABLE = "TOCSIN_SCHEMA_REGISTRY"
CONFIG_VARIABLE = "TOCSIN_SCHEMA_REGISTRY_CONFIG"
NOTHING = b"null"  # the line of a message that cannot be used
UNKNOWN_FOR = 30.0  # seconds until the registry is asked again for a schema that it did not know
UNKNOWN_LIMIT = 10_000  # ids remembered as unknown: garbage may name any number of them

_LOGIN = "basic.auth.user.info"
_NUMBERS = frozenset(
    ("timeout", "cache.capacity", "cache.latest.ttl.sec", "max.retries", "retries.wait.ms", "retries.max.wait.ms")
)
# confluent's client waits for ever by default, and tries again for many seconds where our caller does so anyway.
_DEFAULTS: dict[str, object] = {"timeout": 10.0, "max.retries": 1}
_TEXT = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
_LARGEST_ID = 2**31 - 1
_REASON_LIMIT = 300
_NAMES = {list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number", bytes: "bytes"}

# The framed bytes of a value -> its line. Called from several threads; raises whatever the bytes make it raise.
Decode = Callable[[bytes], bytes]


class SerdeError(ValueError):
    """A configuration that makes no sense, or a package that is missing; the text is one sentence for the operator."""


class RegistryUnavailable(Exception):
    """The registry cannot be asked just now. It says nothing about the messages: try the same ones again later."""


class _Unusable(Exception):
    """A message that cannot be used; the text is the reason."""


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Where the registry is. `options` go to confluent's SchemaRegistryClient: `basic.auth.user.info`, `ssl.*`, ….

    `url` may name several registries, separated by commas. A login in it is moved to the options, because URLs are
    printed and logged; options never are. Raises SerdeError.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        urls, logins = zip(*[_without_login(url.strip()) for url in self.url.split(",")], strict=True)
        found = {login for login in logins if login}
        if len(found) + (_LOGIN in self.options) > 1:
            raise SerdeError("The schema registry has more than one login; give one, in the URL or in the options.")
        if "url" in self.options:
            raise SerdeError(f"The URL of the schema registry belongs in {URL_VARIABLE}, not in the options.")
        object.__setattr__(self, "url", ",".join(urls))
        object.__setattr__(self, "options", {**self.options, **({_LOGIN: found.pop()} if found else {})})

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> RegistrySettings:
        """Read TOCSIN_SCHEMA_REGISTRY and, where set, the file of TOCSIN_SCHEMA_REGISTRY_CONFIG. Raises SerdeError."""
        url = environ.get(URL_VARIABLE)
        if not url:
            raise SerdeError(f"{URL_VARIABLE} is not set; the URL of the schema registry is expected.")
        path = environ.get(CONFIG_VARIABLE)
        return cls(url, _properties(path) if path else {})

    def client_config(self) -> dict[str, object]:
        """The configuration of confluent's client. It holds secrets. Raises SerdeError."""
        numbers = {name: _number(name, text) for name, text in self.options.items() if name in _NUMBERS}
        return {**_DEFAULTS, **self.options, **numbers, "url": self.url}

    def hidden(self, text: str) -> str:
        """`text` without any secret of the options."""
        secret = [text for name, text in self.options.items() if name not in _NUMBERS and not name.endswith("location")]
        parts = {part for text in secret for part in (text, text.partition(":")[2]) if part}
        for part in sorted(parts, key=len, reverse=True):
            text = text.replace(part, "***")
        return text


class Deserializer:
    """The messages of one topic. Made by `deserializer`; several threads may use it at once."""

    def __init__(self, decode: Decode, registry: _Registry) -> None:
        self._decode = decode
        self._registry = registry

    def lines(self, values: Sequence[bytes | None]) -> tuple[list[bytes], dict[int, str]]:
        """One line for every value, in their order, and by index the reasons why a value cannot be used.

        A line is the text of a JSON object without line breaks, or `null` where there is a reason. Raises
        RegistryUnavailable, in which case nothing is lost by asking for the same values again.
        """
        lines = [NOTHING] * len(values)
        errors: dict[int, str] = {}
        for index, value in enumerate(values):
            try:
                lines[index] = self._line(value)
            except _Unusable as error:
                errors[index] = str(error)
        return lines, errors

    def close(self) -> None:
        """Close the connections to the registry."""
        self._registry.close()

    def _line(self, value: bytes | None) -> bytes:
        if value is None:
            raise _Unusable("the message has no value")
        schema = _schema_of(value)
        try:
            return self._decode(value)
        except (RegistryUnavailable, _Unusable):
            raise
        except Exception as error:  # bytes that do not fit make the deserialisers raise almost anything
            raise _Unusable(f"the message does not fit schema {schema}: {_reason(error)}") from None


def deserializer(name: str, registry: RegistrySettings, topic: str, message_type: str | None = None) -> Deserializer:
    """The deserialiser of a topic's values; the registry is not asked yet. Raises SerdeError.

    `name` is one of SERDES. `message_type` is for Protobuf, and needed there: `module:Class`, a generated class on
    Python's path.
    """
    serde = SERDES.get(name)
    if serde is None:
        raise SerdeError(f"{name!r} is no serde; allowed are {', '.join(SERDES)}.")
    if message_type and not serde.typed:
        raise SerdeError(f"{name} takes no message type; its schemas say everything.")
    try:
        client = _Registry(registry, serde.schema_type)
        return Deserializer(serde.build(client, topic, message_type), client)
    except ImportError:
        raise SerdeError(f"{name} needs: pip install 'tocsin[registry]'") from None


def _avro(registry: _Registry, topic: str, _message_type: str | None) -> Decode:
    from confluent_kafka.schema_registry.avro import AvroDeserializer

    context, options = _topic(topic)
    read = AvroDeserializer(registry, conf=options)
    return lambda value: _text(read(value, context))


def _json_schema(registry: _Registry, topic: str, _message_type: str | None) -> Decode:
    from confluent_kafka.schema_registry.json_schema import JSONDeserializer

    context, options = _topic(topic)
    read = JSONDeserializer(None, schema_registry_client=registry, conf=options, json_decode=orjson.loads)

    def line(value: bytes) -> bytes:
        record = read(value, context)
        text = _text(record)
        return _as_written(value, record) or text

    return line


def _protobuf(registry: _Registry, topic: str, message_type: str | None) -> Decode:
    from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
    from google.protobuf import json_format

    context, options = _topic(topic)
    message_class = _message_class(message_type)
    kind = message_class.DESCRIPTOR
    read = ProtobufDeserializer(message_class, {**options, "use.deprecated.format": False}, registry)
    written_type = _written_type(registry, f"{topic}-value")

    def line(value: bytes) -> bytes:
        # confluent reads a message of any type as the given class, and Protobuf often lets it: the fields get mixed up.
        written = written_type(value)
        if written != kind.full_name:
            raise _Unusable(f"the message is a {written}, a {kind.full_name} is expected")
        message: Any = read(value, context)
        record = json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return _text(_with_numbers(kind, record))

    return line


@dataclass(frozen=True, slots=True)
class Serde:
    """`build(registry, topic, message_type)` makes the decoder; `typed`: it needs a message type."""

    schema_type: str  # as the registry calls it
    build: Callable[[_Registry, str, str | None], Decode]
    typed: bool = False


SERDES: Mapping[str, Serde] = MappingProxyType(
    {
        "avro": Serde("AVRO", _avro),
        "protobuf": Serde("PROTOBUF", _protobuf, typed=True),
        "json-schema": Serde("JSON", _json_schema),
    }
)


class _Registry:
    """confluent's client, as the deserialisers see it: tells what is wrong with the registry from what with a message.

    The client remembers the schemas it has got. Ids that the registry does not know are remembered here, for a while:
    a topic may be full of them.
    """

    def __init__(self, settings: RegistrySettings, schema_type: str) -> None:
        from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError

        self._settings = settings
        self._schema_type = schema_type
        self._refused = SchemaRegistryError
        self._unknown: dict[str, float] = {}  # schema -> when to ask again, by the monotonic clock
        config = settings.client_config()
        try:
            self._client: Any = SchemaRegistryClient.new_client(config)
        except Exception as error:  # confluent, httpx and ssl each have their own for a setting that is wrong
            reason = settings.hidden(_reason(error))
            raise SerdeError(f"The settings of the schema registry make no sense: {reason}.") from None

    def get_schema(self, schema_id: int, subject: str | None = None, form: str | None = None) -> Any:
        return self._known(f"schema {schema_id}", "get_schema", schema_id, subject, form)

    def get_schema_by_guid(self, guid: str, form: str | None = None) -> Any:
        return self._known(f"schema {guid}", "get_schema_by_guid", guid, form)

    def __getattr__(self, name: str) -> Any:
        """Everything else the deserialisers may want: versions of schemas that refer to each other, and so on."""
        return partial(self._ask, name)

    def close(self) -> None:
        self._client.__exit__(None, None, None)

    def _known(self, schema: str, method: str, *arguments: object) -> Any:
        if self._unknown and self._unknown.get(schema, 0.0) > time.monotonic():
            raise _Unusable(f"{schema} is unknown to the registry")
        try:
            found = self._ask(method, *arguments)
        except _Unusable:
            if len(self._unknown) >= UNKNOWN_LIMIT:
                self._unknown.clear()
            self._unknown[schema] = time.monotonic() + UNKNOWN_FOR
            raise _Unusable(f"{schema} is unknown to the registry") from None
        kind = found.schema_type or "AVRO"
        if kind != self._schema_type:
            raise _Unusable(f"{schema} is of type {kind}, {self._schema_type} is expected")
        return found

    def _ask(self, method: str, *arguments: object, **options: object) -> Any:
        """The answer of the registry. Raises _Unusable where it says that there is no such schema."""
        try:
            return getattr(self._client, method)(*arguments, **options)
        except self._refused as error:
            status, code = error.http_status_code, error.error_code
            # 404xx is the registry's own "no such schema". A plain 404 is somebody else's: the URL may be wrong. But an
            # old registry, which has no such address, also answers it where it is asked for a GUID.
            if status == 404 and (method == "get_schema_by_guid" or (code or 0) // 100 == 404):
                raise _Unusable("the schema refers to one that is unknown to the registry") from None
            raise self._unavailable(f"answers HTTP {status}: {error.error_message}") from None
        except Exception as error:  # no connection, no token, a proxy's page in place of an answer, …
            raise self._unavailable(f"cannot be asked: {_reason(error)}") from None

    def _unavailable(self, reason: str) -> RegistryUnavailable:
        text = " ".join(reason.split())[:_REASON_LIMIT]
        return RegistryUnavailable(self._settings.hidden(f"The schema registry at {self._settings.url} {text}"))


def _topic(topic: str) -> tuple[Any, dict[str, Any]]:
    """The context in which the values of a topic are read, and the options to read them with.

    The strategy is given, because the default asks the registry what the subjects of the topic are called.
    """
    from confluent_kafka.schema_registry import topic_subject_name_strategy
    from confluent_kafka.serialization import MessageField, SerializationContext

    return (
        SerializationContext(topic, MessageField.VALUE),
        {"subject.name.strategy": topic_subject_name_strategy},
    )


def _schema_of(value: bytes) -> int | UUID:
    """The schema that a framed value names: by its id, or in newer messages by its GUID."""
    if value[:1] == b"\0" and len(value) >= 5:
        number = int.from_bytes(value[1:5], "big")
        if number > _LARGEST_ID:  # no registry has such an id, and some answer as if the URL were wrong
            raise _Unusable(f"schema {number} is unknown to the registry")
        return number
    if value[:1] == b"\1" and len(value) >= 17:
        return UUID(bytes=value[1:17])
    raise _Unusable("the message does not begin with a schema id: a zero byte and four more are expected")


def _text(record: object) -> bytes:
    if not isinstance(record, dict):
        raise _Unusable(f"a record is expected, the message is {_NAMES.get(type(record), 'null')}")
    return orjson.dumps(record, default=_plain, option=_TEXT)


def _plain(value: object) -> str:
    """What orjson has no text for."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(f"a value of type {type(value).__name__} has no JSON text")


def _as_written(value: bytes, record: object) -> bytes | None:
    """The JSON that a framed value holds, on one line, so that long numbers keep their digits.

    None where it is not what was read: a rule of the schema has changed it.
    """
    body = value[17 if value[:1] == b"\1" else 5 :]
    try:
        same = orjson.loads(body) == record
    except orjson.JSONDecodeError:
        return None
    # Inside its texts JSON has no plain line breaks, so that these stand between values.
    return body.replace(b"\n", b" ").replace(b"\r", b" ") if same else None


def _message_class(name: str | None) -> type[Message]:
    from google.protobuf.message import Message

    if not name:
        raise SerdeError("protobuf needs a message type: module:Class, a generated class on Python's path.")
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise SerdeError(f"{name!r} is no message type; module:Class is expected, such as orders_pb2:Order.")
    try:
        found: Any = reduce(getattr, path.split("."), importlib.import_module(module))
    except AttributeError:
        raise SerdeError(f"The module {module} has no class {path}.") from None
    except Exception as error:  # not there, or generated for another version of protobuf
        raise SerdeError(f"The module {module} cannot be imported: {_reason(error)}.") from None
    if not (isinstance(found, type) and issubclass(found, Message)) or found is Message:
        raise SerdeError(f"{name} is no generated message class.")
    return found


def _written_type(registry: _Registry, subject: str) -> Callable[[bytes], str]:
    """Gives the full name of the message type that a framed value was written as."""
    from confluent_kafka.schema_registry import prefix_schema_id_deserializer
    from confluent_kafka.schema_registry.serde import SchemaId
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    names: dict[tuple[object, ...], str] = {}

    def name_of(value: bytes) -> str:
        key = _schema_of(value)
        # Asked first, and answered from memory: what follows the id of an unknown schema is anything.
        if isinstance(key, UUID):
            found = registry.get_schema_by_guid(str(key), "serialized")
        else:
            found = registry.get_schema(key, subject, "serialized")
        place = SchemaId("PROTOBUF")
        prefix_schema_id_deserializer(value, None, place)
        indexes = tuple(place.message_indexes or ())
        if (key, indexes) not in names:
            names[key, indexes] = _name_at(FileDescriptorProto.FromString(b64decode(found.schema_str)), indexes)
        return names[key, indexes]

    return name_of


def _name_at(file: Any, indexes: Sequence[int]) -> str:
    """The full name of the message type at a place such as (2, 0): the first inside the third of the file."""
    found = file.message_type[indexes[0]]
    names = [file.package, found.name]
    for index in indexes[1:]:
        found = found.nested_type[index]
        names.append(found.name)
    return ".".join(name for name in names if name)


def _with_numbers(kind: Any, record: Any) -> Any:
    """A message's JSON with 64-bit integers as numbers, which are texts by the book: an event's value is a number."""
    if kind.full_name in ("google.protobuf.Int64Value", "google.protobuf.UInt64Value"):
        return int(record)
    if kind.file.package == "google.protobuf":  # these have JSON of their own kind
        return record
    return record | {each.name: _field(each, record[each.name]) for each in kind.fields if each.name in record}


def _field(kind: Any, found: Any) -> Any:
    message = kind.message_type
    if isinstance(found, list):
        return [_field(kind, each) for each in found]
    if message is not None and message.GetOptions().map_entry:
        return {key: _field(message.fields_by_name["value"], each) for key, each in found.items()}
    if message is not None:
        return _with_numbers(message, found)
    return int(found) if kind.cpp_type in (kind.CPPTYPE_INT64, kind.CPPTYPE_UINT64) else found


def _without_login(url: str) -> tuple[str, str | None]:
    """A URL and the `user:password` it contained. The errors do not quote it, since they may come from the password."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    bare = parts._replace(netloc=host).geturl()
    if parts.scheme not in ("http", "https", "mock") or not host or "@" in bare:
        raise SerdeError(
            "The URL of the schema registry makes no sense; https://host:port is expected,"
            " or https://user:password@host:port with special characters percent-encoded."
        )
    user, _, password = login.partition(":")
    return bare, f"{unquote(user)}:{unquote(password)}" if at else None


def _properties(path: str) -> dict[str, str]:
    """The `key=value` lines of a file. The errors do not quote them."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not valid UTF-8"
        raise SerdeError(f"{CONFIG_VARIABLE}: {path} cannot be read: {reason}.") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        key, equals, value = line.partition("=")
        if line and not line.startswith(("#", "!")):
            if not (equals and key.strip() and value.strip()):
                raise SerdeError(f"{CONFIG_VARIABLE}: {path}, line {number}: key=value is expected.")
            found[key.strip()] = value.strip()
    return found


def _number(name: str, text: str) -> float | int:
    try:
        number = float(text)
    except ValueError:
        raise SerdeError(f"The option {name} of the schema registry must be a number.") from None
    return int(number) if number.is_integer() else number


def _reason(error: Exception) -> str:
    """An exception on one line; those of a decoder often have no text."""
    text = " ".join(str(error).split())[:_REASON_LIMIT]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
