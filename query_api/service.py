"""The whole service but for the dataflow: from the settings to the last closed connection."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Protocol

from prometheus_client import CollectorRegistry
from rich.console import Console

from connectors.control import Control, ControlError
from connectors.pipeline import Pipeline
from operators import rollup
from operators.rules import Rule
from query_api import reading, server
from query_api.app import create_app
from query_api.integrations_feed import close_streams
from query_api.logs import adopt, configure, make_log
from query_api.settings import ServiceSettings, SettingsError
from query_api.welcome import demo_key, show_welcome

SWITCH = 0.0005  # seconds that a thread may keep the interpreter from others


class ServiceError(Exception):
    """The service cannot start; the text says in one sentence why."""


class RunningPipeline(Pipeline, Protocol):
    """A pipeline that somebody started."""

    @property
    def rules(self) -> Sequence[Rule]:
        """Those it runs with."""
        ...

    def stop(self) -> None:
        """Finish what is under way and close everything."""
        ...


def serve_until_told(
    start: Callable[[Flag], RunningPipeline],
    data: Path,
    host: str,
    port: int,
    environ: Mapping[str, str],
    registry: CollectorRegistry,
    console: Console,
    *,
    demo: bool,
) -> None:
    """Serve until SIGINT or SIGTERM. start: starts the pipeline, with a flag that is set when it need not be waited
    for any more; demo: with a workspace for trying it.

    Raises ServiceError, AddressError, and what `start` raises.
    """
    try:
        settings = ServiceSettings.from_env(environ)
        log = make_log(form=settings.log_format, level=settings.log_level)
        configure(form=settings.log_format, level=settings.log_level)
        adopt(log, "uvicorn", "alembic")
        with ExitStack() as stack:
            told = stack.enter_context(server.told_to_stop())
            listener = stack.enter_context(server.listen(host, port))
            pipeline = start(told)
            stack.callback(pipeline.stop)
            stack.callback(reading.close, pipeline)
            url = settings.control_url or f"sqlite:///{data / 'control.sqlite'}"
            control = Control.open(url, settings.secret_file or data / "secret.key")
            stack.callback(control.close)
            app = create_app(control, pipeline, settings, rules=pipeline.rules, registry=registry, log=log)
            stack.callback(app.state.services.places.close)
            key = demo_key(control) if demo else None
            # Who asks while much comes in waits for the interpreter a dozen times a question.
            sys.setswitchinterval(SWITCH)
            warming = Thread(target=rollup.warm, name="warm", daemon=True)
            warming.start()
            stack.callback(warming.join)
            # What is here now stays: looking through it for garbage would stop everything for a tenth of a second.
            gc.collect()
            gc.freeze()
            stack.callback(gc.unfreeze)
            show_welcome(console, f"http://{host}:{listener.getsockname()[1]}", key)
            server.run(app, listener, told, stopping=lambda: close_streams(pipeline))
    except (ControlError, SettingsError) as wrong:
        raise ServiceError(str(wrong)) from wrong
