"""The endpoints of non-human identities (NHIs), in one router."""

from fastapi import APIRouter

from query_api import nhi_anomalies, nhi_detection, nhi_observability, nhi_posture, nhi_risk

router = APIRouter(prefix="/v1/analytics", tags=["Identities"])
for part in (nhi_risk, nhi_observability, nhi_posture, nhi_anomalies, nhi_detection):
    router.include_router(part.router)
