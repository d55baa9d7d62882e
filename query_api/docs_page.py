"""The page `/docs`: Swagger UI over the OpenAPI document, with everything it needs served from here."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

PATH, ASSETS = "/docs", "/docs/assets"


def install(app: FastAPI) -> None:
    """Add the page. Browsers may have no way to the Internet, so its parts come out of an installed package."""
    app.mount(ASSETS, StaticFiles(packages=[("fastapi_offline", "static")]))

    @app.get(PATH, include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Tocsin",
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon.png",
        )
