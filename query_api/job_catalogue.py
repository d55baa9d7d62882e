"""What is done in the background, by kind: a new kind is one handler and one line here."""

from collections.abc import Mapping

from query_api import mcp_rollup, nhi_detection
from query_api.jobs import Handler

HANDLERS: Mapping[str, Handler] = {
    mcp_rollup.KIND: mcp_rollup.handle,
    nhi_detection.KIND: nhi_detection.handle,
}
