"""The reading side of the Integrations API under /api/v1: an explicit catalogue of its routers."""

from fastapi import APIRouter

from query_api import (
    integrations_events,
    integrations_incident,
    integrations_incident_list,
    integrations_patterns,
    integrations_stats,
    integrations_stream,
    integrations_trends,
)

ROUTERS = {
    "Incidents": (integrations_incident_list.router, integrations_incident.router),
    "Events": (integrations_events.router,),
    "Patterns": (integrations_patterns.router,),
    "Workspaces": (integrations_stats.router, integrations_trends.router),
    "Stream": (integrations_stream.router,),
}

router = APIRouter(prefix="/api/v1")
for tag, parts in ROUTERS.items():
    for part in parts:
        router.include_router(part, tags=[tag])
