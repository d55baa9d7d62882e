"""Shapes of answers: what members there are and of which kind, as an API's description shows them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import httpx

Shape = Any
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class OneOf(tuple):
    """Any of several shapes."""


def maybe(shape: Shape) -> OneOf:
    """The shape, or null."""
    return OneOf((shape, None))


def text(pattern: str) -> re.Pattern[str]:
    """A text that matches as a whole."""
    return re.compile(pattern)


TIME = _TIME
ID = text(r"\S+")
INCIDENT_ID = text(r"inc_\S+")


def assert_like(found: Any, shape: Shape, place: str = "answer") -> None:
    """Compare. A dict's members must be there, others may be, too; [shape] is a list of at least one; a type, its
    values; a pattern, texts that match; a function says whether; anything else equals itself."""
    if isinstance(shape, OneOf):
        assert any(_fits(found, each) for each in shape), f"{place}: {found!r}"
    elif isinstance(shape, Mapping):
        assert isinstance(found, dict), f"{place}: {found!r}"
        missing = [name for name in shape if name not in found]
        assert not missing, f"{place}: {missing} are missing in {found!r}"
        for name, each in shape.items():
            assert_like(found[name], each, f"{place}.{name}")
    elif isinstance(shape, list):
        assert isinstance(found, list), f"{place}: {found!r}"
        assert found, f"{place} is empty"
        for number, each in enumerate(found):
            assert_like(each, shape[0], f"{place}[{number}]")
    elif isinstance(shape, re.Pattern):
        assert isinstance(found, str), f"{place}: {found!r}"
        assert shape.fullmatch(found), f"{place}: {found!r}"
    elif isinstance(shape, type):
        assert type(found) is shape or (shape is float and type(found) is int), f"{place}: {found!r} is no {shape}"
    elif isinstance(shape, Callable):
        assert shape(found), f"{place}: {found!r}"
    else:
        assert found == shape, f"{place}: {found!r}"
        assert type(found) is type(shape), f"{place}: {found!r}"


def _fits(found: Any, shape: Shape) -> bool:
    try:
        assert_like(found, shape)
    except AssertionError:
        return False
    return True


def success(data: Shape) -> Shape:
    """The envelope of a success."""
    return {"isSuccess": True, "errorCode": 0, "message": str, "data": data}


def pasted(client: httpx.Client, command: str) -> httpx.Response:
    """Do what a line of curl does: the address, -X, -H and -d."""
    words = iter(shlex.split(command.replace("\\\n", " ")))
    assert next(words) == "curl"
    method, url, headers, body = None, "", {}, None
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(":")
            headers[name] = value.strip()
        elif word == "-d":
            body = next(words)
        else:
            assert not word.startswith("-"), word
            url = word
    return client.request(method or ("GET" if body is None else "POST"), url, headers=headers, content=body)


def without_comments(documented: str) -> str:
    """JSON as documentation shows it, without what it says beside the members."""
    return json.dumps(json.loads(re.sub(r"//.*", "", documented)))
