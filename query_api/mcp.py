"""The Analytics surface about tool calls: an explicit catalogue of its routers."""

from fastapi import APIRouter

from query_api import mcp_config_audit, mcp_rollup, mcp_sessions, mcp_tools

router = APIRouter(prefix="/v1/mcp/analytics", tags=["Tool calls"])
for part in (mcp_tools.router, mcp_sessions.router, mcp_config_audit.router, mcp_rollup.router):
    router.include_router(part)
