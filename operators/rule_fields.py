"""The types of a rule's fields: what is allowed in each, and how the error reads where it is not."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from operators.conditions import ConditionError, Where, parse_where
from operators.events import SEVERITIES, STREAMS
from operators.fields import NUMBER_COLUMNS, TEXT_COLUMNS, check_field
from operators.rule_errors import suggest

ANY_STREAM = "*"


class Model(BaseModel):
    """A part of a rule: unknown fields are errors, nothing changes once it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _listed(value: Any) -> Any:
    """Take one value for a list of one, and integers for their text: `code: [401]` means "401"."""
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(str(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values)


def _where(value: Any) -> Where:
    if isinstance(value, Where):
        return value
    try:
        return parse_where(value)
    except ConditionError as wrong:
        # One error for pydantic, taken apart again where rule files are read.
        raise PydanticCustomError("where", "{text}", {"text": str(wrong), "problems": wrong.problems}) from None


def _stream(value: str) -> str:
    if value != ANY_STREAM and value not in STREAMS:
        raise ValueError(f'unknown stream "{value}"; {suggest(value, (*STREAMS, ANY_STREAM))}')
    return value


def _streams(streams: tuple[str, ...]) -> tuple[str, ...]:
    if ANY_STREAM in streams and len(streams) > 1:
        raise ValueError('"*" means every stream and stands alone')
    return streams


def _severity(value: Any) -> Any:
    if value not in SEVERITIES:
        raise ValueError(f"expected one of {', '.join(SEVERITIES)}, got {value!r}")
    return value


Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
Level = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-9e12, le=9e12)]
Severity = Annotated[Literal["info", "low", "medium", "high", "critical"], BeforeValidator(_severity)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed), Field(min_length=1)]
Codes = Annotated[tuple[Annotated[Text, AfterValidator(str.lower)], ...], BeforeValidator(_listed), Field(min_length=1)]
Streams = Annotated[
    tuple[Annotated[Text, AfterValidator(_stream)], ...],
    BeforeValidator(_listed),
    Field(min_length=1),
    AfterValidator(_streams),
]
TextField = Annotated[Text, AfterValidator(lambda field: check_field(field, TEXT_COLUMNS))]
NumberField = Annotated[Text, AfterValidator(lambda field: check_field(field, NUMBER_COLUMNS))]
GroupBy = Annotated[tuple[TextField, ...], BeforeValidator(_listed), Field(min_length=1, max_length=8)]
Filter = Annotated[Where, BeforeValidator(_where), PlainSerializer(Where.raw)]
