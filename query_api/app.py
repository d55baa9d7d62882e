"""The HTTP application: the catalogue of routers, and the layers around them."""

import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from connectors import rulefiles
from connectors.control import Control
from operators.rules import Rule, in_order
from query_api import (
    analytics_query,
    auth,
    channels,
    docs_page,
    errors,
    governance,
    health,
    ingest,
    integrations,
    keys,
    mcp,
    nhi,
    sql_endpoint,
    tenants,
    workspaces,
)
from query_api.access import Access
from query_api.bounds import Bounds
from query_api.http_metrics import HttpMetrics
from query_api.job_catalogue import HANDLERS
from query_api.jobs import JobRunner
from query_api.logs import Log, make_log
from query_api.openapi import document
from query_api.pipeline import Pipeline
from query_api.routes import operations
from query_api.services import Services
from query_api.settings import ServiceSettings

# Tried from top to bottom: what is asked most comes first.
ROUTERS: tuple[APIRouter, ...] = (
    ingest.router,
    integrations.router,
    sql_endpoint.router,
    workspaces.router,
    keys.router,
    governance.router,
    mcp.router,
    nhi.router,
    analytics_query.router,
    channels.router,
    tenants.router,
    auth.router,
    health.router,
)

_DESCRIPTION = """Event streams into incidents.

Every answer under `/api/v1` has the envelope `{isSuccess, errorCode, message, data}`. Errors of `/v1/analytics` and
`/v1/mcp` are `{error: {code, message}}`, those elsewhere `application/problem+json`. Send a key as
`X-Api-Key`, or a person's token as `Authorization: Bearer`.
"""
_TAGS = [
    {"name": "Events", "description": "What comes in, and what an incident counted."},
    {"name": "Incidents", "description": "What became of it."},
    {"name": "Stream", "description": "Steps and alerts as they happen."},
    {"name": "SQL", "description": "Whatever else one wants to know."},
    {"name": "Patterns", "description": "When incidents open, and when they alert."},
    {"name": "Authentication", "description": "People and their tokens."},
    {"name": "Workspaces", "description": "An isolated customer, its key and its windows."},
    {"name": "Keys", "description": "Further keys, each limited to scopes."},
    {"name": "Governance", "description": "What guardians decided."},
    {"name": "Tool calls", "description": "Which tools were called, in which sessions, and what became of the calls."},
    {"name": "Identities", "description": "Non-human identities: risk, posture, anomalies."},
    {"name": "Channels", "description": "Where alerts go."},
    {"name": "Analytics", "description": "Events in numbers: how many, how often, how long."},
    {"name": "Tenants", "description": "A workspace's own customers."},
    {"name": "Operation", "description": "For load balancers and monitoring; no key is needed."},
]


def create_app(
    control: Control,
    pipeline: Pipeline,
    settings: ServiceSettings,
    *,
    rules: Sequence[Rule] | None = None,
    registry: CollectorRegistry | None = None,
    log: Log | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """Return the application. It starts and stops nothing but, in its lifespan, the runner of the jobs
    (`app.state.jobs`): control and pipeline are the caller's to close.

    rules: those the pipeline runs with (the built-in ones). registry: for all metrics (a new one); log: where it
    writes (JSON lines on stderr); clock: seconds since 1970.
    """
    services = Services(
        control,
        pipeline,
        settings,
        rules=in_order(rulefiles.load((), with_builtin=True) if rules is None else rules),
        registry=_with_process(CollectorRegistry() if registry is None else registry),
        log=make_log(form=settings.log_format, level=settings.log_level) if log is None else log,
        clock=clock,
    )
    runner = JobRunner(services, HANDLERS)
    app = _Application(
        title="Tocsin",
        version=_version(),
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a path is right or 404, not moved
        lifespan=lambda _app: runner.running(),
    )
    app.state.services = services
    app.state.jobs = runner
    for router in ROUTERS:
        app.include_router(router)
    docs_page.install(app)
    errors.install(app)
    names = {id(operation.route): operation.path for operation in operations(app)}
    app.add_middleware(Bounds, settings=settings)
    # The last one added is the outermost.
    app.add_middleware(Access, log=services.log, metrics=HttpMetrics(services.registry), names=names)
    return app


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        return document(self)


def _with_process(registry: CollectorRegistry) -> CollectorRegistry:
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _version() -> str:
    try:
        return version("tocsin")
    except PackageNotFoundError:
        return "0"
