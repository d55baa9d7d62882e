"""How the Integrations API changes something: by a record in the log, never in the store."""

from query_api.envelope import ApiError, ErrorCode
from query_api.pipeline import Pipeline, Receipt, Unavailable

SUBMIT_SECONDS = 2.0


async def submit(pipeline: Pipeline, workspace: str, body: bytes, *, detail: bool, timeout: float) -> Receipt:
    """Append one record and wait for what becomes of it. Raises ApiError Unavailable when it was not taken."""
    try:
        return await pipeline.submit([body], workspace, detail=detail, timeout=timeout)
    except Unavailable as wrong:
        raise ApiError(ErrorCode.UNAVAILABLE, f"{wrong}", retry_after=wrong.retry_after) from wrong
