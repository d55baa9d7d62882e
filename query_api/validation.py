"""What is wrong with a request, in one sentence that names the field and never repeats its value."""

from collections.abc import Mapping, Sequence
from typing import Any

# Where a value was found; what people call it begins behind that.
_PLACES = ("body", "query", "path", "header", "cookie")


def sentence(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return the first of pydantic's errors as a sentence: `integrationKey is required.`"""
    if not errors:
        return "The request is not valid."
    error = errors[0]
    path = error.get("loc", ())
    kind, message = str(error.get("type", "")), str(error.get("msg", "is not valid"))
    if kind == "json_invalid":
        return "The body is not valid JSON."
    if kind == "value_error":
        return _end(message.removeprefix("Value error, "))
    field = field_name(path)
    if not field:
        return "Send a JSON object, with Content-Type: application/json."
    if kind == "missing":
        return f"{field} is required."
    if kind == "string_unicode":
        return f"{field} must be text in Unicode."
    for start, verb in (("Input should be ", "must be "), ("Input should have ", "must have ")):
        if message.startswith(start):
            return _end(f"{field} {verb}{message.removeprefix(start)}")
    _, should, rest = message.partition(" should ")
    if should:
        verb, _, rest = rest.partition(" ")
        return _end(f"{field} must {verb} {rest}")
    return _end(f"{field} is not valid: {message[:1].lower()}{message[1:]}")


def field_name(path: Sequence[str | int]) -> str:
    """Return what people call the field at pydantic's path: `config.webhookUrl`, `events[3].tenantId`."""
    parts = path[1:] if path and path[0] in _PLACES else path
    name = ""
    for part in parts:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name


def _end(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
