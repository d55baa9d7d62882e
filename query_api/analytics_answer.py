"""Answers of the Analytics surface: plain JSON objects; errors are made of ApiError, as everywhere."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel

from query_api.openapi import responses


def answer(body: Mapping[str, object], status: int = 200) -> Response:
    """Return a success."""
    return Response(orjson.dumps(body), status, media_type="application/json")


def answers(model: type[BaseModel], *errors: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return what FastAPI's `responses=` wants: the success with its model, and errors that not all operations say."""
    said = {200: "Success.", 202: "Taken; ask for it by its id."}[status]
    return {status: {"model": model, "description": said}} | responses(*errors)
