"""What an operator may set: environment variables TOCSIN_<NAME>, each with a default that suits one machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

PREFIX = "TOCSIN_"


class SettingsError(ValueError):
    """An environment variable that makes no sense; the text names it."""


class ServiceSettings(BaseModel):
    """The settings of the HTTP service. `docs/api.md` describes each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    control_url: Annotated[str | None, Field(repr=False)] = None  # None: control.sqlite in the data directory
    secret_file: Path | None = None  # None: secret.key in the data directory; one file for all API nodes of a cluster
    redis_url: Annotated[str | None, Field(repr=False)] = None  # None: limits are counted in this process
    requests_per_minute: Annotated[int, Field(ge=1)] = 60_000
    events_per_minute: Annotated[int, Field(ge=1)] = 12_000_000
    sign_ins_per_minute: Annotated[int, Field(ge=1)] = 60
    password_attempts: Annotated[int, Field(ge=1)] = 10
    registration: bool = True
    workspaces_per_user: Annotated[int, Field(ge=1)] = 100
    private_webhooks: bool = False
    body_limit_bytes: Annotated[int, Field(ge=1_024)] = 32 << 20
    deadline_seconds: Annotated[float, Field(gt=0)] = 10.0
    max_concurrency: Annotated[int, Field(ge=1)] = 512
    sql_seconds: Annotated[float, Field(gt=0)] = 9.0
    sql_memory: Annotated[str, Field(pattern=r"^[1-9][0-9]*(MB|GB)$")] = "512MB"
    sql_rows: Annotated[int, Field(ge=1)] = 10_000
    ready_lag_seconds: Annotated[float, Field(gt=0)] = 30.0
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "ServiceSettings":
        """Read the settings; what is unset or empty has its default. Raises SettingsError."""
        values = {name: environ.get(variable(name)) for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in values.items() if value})
        except ValidationError as wrong:
            error = wrong.errors(include_input=False, include_url=False)[0]
            message = error["msg"].removeprefix("Input should be ")
            raise SettingsError(f"{variable(str(error['loc'][0]))} must be {message}.") from None


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"
