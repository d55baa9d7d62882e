"""Which incidents were there, which one is meant, and which events are its own?"""

from typing import Any

import pytest
from duckdb import DuckDBPyConnection

from query_api.events import incident_events, positions
from query_api.fetch import QueryError
from query_api.incidents import IncidentFilter, find_incidents, get_incident
from query_api.timeline import timeline
from tests.stores import AUTH, TIMEOUT, VIP, t

HOSTILE = "x' OR '1'='1"


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, [TIMEOUT, VIP, AUTH]),
        ({"limit": 1}, [TIMEOUT]),
        ({"status": ["Open", "Recovering"]}, [TIMEOUT, VIP]),
        ({"rule": ["auth_failure"]}, [AUTH]),
        ({"severity": ["critical"]}, [AUTH]),
        ({"source": "orders"}, [TIMEOUT, VIP]),
        ({"workspace": "other"}, []),
        ({"tenant": "beta"}, [TIMEOUT, AUTH]),
        ({"chronic": True}, [TIMEOUT]),
        ({"start": t(6.2), "end": t(6.4)}, [VIP]),  # from inclusive, to exclusive
        ({"source": "orders", "rule": ["vip"], "status": ["Recovering"]}, [VIP]),
    ],
)
def test_filters(con: DuckDBPyConnection, wanted: dict[str, Any], ids: list[str]) -> None:
    """Each filter alone and together; the newest first."""
    found, total = find_incidents(con, IncidentFilter(**wanted))
    assert [incident.id for incident in found] == ids
    assert total == (3 if wanted == {"limit": 1} else len(ids))


@pytest.mark.parametrize("field", ["source", "workspace", "tenant", "rule", "severity", "status"])
def test_a_filter_is_a_value_and_never_sql(con: DuckDBPyConnection, field: str) -> None:
    """A quote in a value must find nothing, rather than everything."""
    value: Any = [HOSTILE] if field in ("rule", "severity", "status") else HOSTILE
    assert find_incidents(con, IncidentFilter(**{field: value})) == ([], 0)


@pytest.mark.parametrize("given", [AUTH, "inc_a", "a", "AUTH", " inc_auth "])
def test_the_beginning_of_an_id_is_enough(con: DuckDBPyConnection, given: str) -> None:
    """Nobody types 30 characters."""
    assert get_incident(con, given).id == AUTH


@pytest.mark.parametrize(
    ("given", "says"),
    [("tim", "several"), ("zz", "no incident"), ("", "which incident"), ("inc_", "which"), (HOSTILE, "no incident")],
)
def test_an_id_that_names_no_single_incident_is_told(con: DuckDBPyConnection, given: str, says: str) -> None:
    """The first of several would be a wrong answer that looks right."""
    with pytest.raises(QueryError, match=says):
        get_incident(con, given)


def test_events_of_an_incident_are_those_that_counted(con: DuckDBPyConnection) -> None:
    """The event four minutes before the spike is of the same key, and not of the incident."""
    assert positions(incident_events(con, get_incident(con, TIMEOUT))) == ["p:3", "p:4", "p:5", "p:6", "p:7"]
    assert positions(incident_events(con, get_incident(con, TIMEOUT), limit=2)) == ["p:3", "p:4"]


def test_events_of_a_further_rule_come_from_its_claims(con: DuckDBPyConnection) -> None:
    """`events.rule_id` names one rule; an alert configuration that claims the same event has its own incident."""
    assert positions(incident_events(con, get_incident(con, VIP))) == ["p:5", "p:6"]


def test_a_timeline_has_steps_tenants_and_alerts(con: DuckDBPyConnection) -> None:
    """All of an incident in one answer, each part in its order."""
    course = timeline(con, get_incident(con, AUTH))
    assert [step.to_status for step in course.transitions] == ["Open", "Recovering", "Open", "Recovering", "Closed"]
    assert [(tenant.tenant, tenant.event_count) for tenant in course.tenants] == [("acme", 2), ("beta", 1)]
    assert [alert.kind for alert in course.alerts] == ["opened", "blast_radius_expanded"]
