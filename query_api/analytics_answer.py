"""Answers of the Analytics surface: plain JSON objects; errors are made of ApiError, as everywhere."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel

from query_api.analytics_window import Window
from query_api.openapi import responses

MOST = 1_000  # rows of a list that has no pages


def answer(body: Mapping[str, object], status: int = 200) -> Response:
    """Return a success."""
    return Response(orjson.dumps(body), status, media_type="application/json")


def answers(model: type[BaseModel], *errors: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return what FastAPI's `responses=` wants: the success with its model, and errors that not all operations say."""
    said = {200: "Success.", 202: "Taken; ask for it by its id."}[status]
    return {status: {"model": model, "description": said}} | responses(*errors)


def listed(data: list[dict[str, Any]], window: Window | None = None) -> dict[str, Any]:
    """Return the body of a list that has no pages: its first MOST rows, `truncated` where there are more."""
    body = {**(window.wire() if window else {}), "data": data[:MOST]}
    return body | ({"truncated": True} if len(data) > MOST else {})
