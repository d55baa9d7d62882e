"""Bodies that several endpoints share, as /docs shows them.

Those of the Integrations API are camelCase outside and snake_case inside (`Wire`); native ones are snake_case.
"""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool
from pydantic.alias_generators import to_camel

T = TypeVar("T")

# For the document only: what `connectors.control.text` asks of a name, of an address.
_PLAIN = "\\u0000-\\u001f\\u007f-\\u009f"
NAME = {"pattern": f"^[^{_PLAIN}]*[^\\s{_PLAIN}][^{_PLAIN}]*$"}
ADDRESS = {"pattern": f"^[^@\\s{_PLAIN}]+@[^@\\s{_PLAIN}]+$"}


class Wire(BaseModel):
    """A body. Members that we do not know are ignored: clients may be newer than we are."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)

    def body(self) -> dict[str, Any]:
        """Return it as it is sent."""
        return self.model_dump(mode="json", by_alias=True)


class Envelope(Wire, Generic[T]):
    """A success."""

    is_success: Annotated[StrictBool, Field(examples=[True])] = True
    error_code: Annotated[int, Field(description="0: success.")] = 0
    message: str = ""
    data: T


class Failure(Wire):
    """What did not succeed, and why."""

    is_success: Annotated[StrictBool, Field(examples=[False])] = False
    error_code: Annotated[
        int,
        Field(
            description="1 not found, 2 unauthorized, 3 forbidden, 4 validation error, 5 conflict, 6 rate limited, "
            "7 payload too large, 8 unavailable, 9 internal, 10 unprocessable, 11 timeout, 12 method not allowed."
        ),
    ]
    message: str
    status_code: Annotated[int | None, Field(description="Only where it is 429.")] = None


class AnalyticsError(BaseModel):
    """Which error, and a sentence about it."""

    code: Annotated[str, Field(examples=["validation_error"])]
    message: str


class AnalyticsFailure(BaseModel):
    """What did not succeed, and why, as the Analytics surface says it."""

    error: AnalyticsError


class Problem(BaseModel):
    """What did not succeed, and why (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Mark(BaseModel):
    """Where a page ended. next_cursor: passed as `cursor` it gives the page after it; null on the last one."""

    next_cursor: str | None
    has_more: bool


class Listing(BaseModel, Generic[T]):
    """A page of a native list."""

    data: list[T]
    page: Mark
