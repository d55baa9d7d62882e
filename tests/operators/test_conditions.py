"""`where` filters: each modifier against events whose answer is plain to see, and errors that say what to change.

Random combinations are compared with a scalar evaluator in test_classify.
"""

import re
from typing import Any

import polars as pl
import pytest

from operators.conditions import ConditionError, parse_where
from operators.events import DECODED
from tests.operators import scalar

EVENT: dict[str, Any] = dict.fromkeys(DECODED) | {
    "source": "Payments-API",
    "code": "503",
    "message": "Connection refused (timeout=30)\nby peer",
    "value": 12.5,
    "attributes": '{"http":{"status":503,"ok":false},"k8s.pod":"web-1","ip":"10.1.2.3","v6":"2001:db8::7","n":"0401",'
    '"list":[1, 2],"none":null,"star":"a*b","back":"c:\\\\tmp"}',
}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"source": "payments-api"}, True),
        ({"source": "payments"}, False),
        ({"source": ["x", "PAYMENTS-api"]}, True),
        ({"source": "pay*"}, True),
        ({"source": "payments?api"}, True),
        ({"source": "payments\\?api"}, False),
        ({"attributes.star": "a\\*b"}, True),
        ({"attributes.back": "C:\\tmp"}, True),
        ({"message|contains": "REFUSED ("}, True),
        ({"message|contains": "refused*peer"}, True),
        ({"message|contains": ["x", "peer"]}, True),
        ({"message|contains|all": ["x", "peer"]}, False),
        ({"message|contains|all": ["timeout", "peer"]}, True),
        ({"message|startswith": "connection"}, True),
        ({"message|endswith": "peer"}, True),
        ({"message|endswith": "refused"}, False),
        ({"message|re": r"timeout=\d+"}, True),
        ({"message|re": "connection"}, False),
        ({"message|re": "(?i)^connection"}, True),
        ({"value|gt": 12.5}, False),
        ({"value|gte": 12.5}, True),
        ({"value|lt": 13}, True),
        ({"value|lte": 12}, False),
        ({"value": 12.5}, True),
        ({"value": None}, False),
        ({"code|gte": 500, "code|lt": 600}, True),
        ({"code": 503}, True),
        ({"attributes.http.status": 503}, True),
        ({"attributes.http.status": "503"}, True),
        ({"attributes.http.ok": False}, True),
        ({"attributes.k8s.pod|startswith": "web"}, True),
        ({"attributes.n|gt": 1}, False),
        ({"attributes.list": "[1,2]"}, True),
        ({"attributes.none": None}, True),
        ({"attributes.missing": None}, True),
        ({"attributes.missing|contains": ""}, False),
        ({"not": {"attributes.missing": "x"}}, True),
        ({"tenant": [None, "acme"]}, True),
        ({"attributes.ip|cidr": "10.0.0.0/8"}, True),
        ({"attributes.ip|cidr": ["192.168.0.0/16", "10.1.2.3"]}, True),
        ({"attributes.ip|cidr": "10.1.2.4/30"}, False),
        ({"attributes.ip|cidr": "2001:db8::/32"}, False),
        ({"attributes.v6|cidr": "2001:db8::/32"}, True),
        ({"source|cidr": "0.0.0.0/0"}, False),
        ([{"source": "x"}, {"code": "503"}], True),
        ({"source": "payments-api", "code": "500"}, False),
        ({"not": [{"source": "x"}, {"code": "503"}]}, False),
        ({"not": {"source": "payments-api", "code": "500"}}, True),
    ],
)
def test_means_what_the_reference_says(where: Any, expected: bool) -> None:
    """The examples of docs/rules.md: a filter that is read differently lets an outage pass."""
    parsed = parse_where(where)
    frame = pl.DataFrame([EVENT], schema=DECODED, orient="row")
    assert frame.select(parsed.expr().alias("x"))["x"].to_list() == [expected]
    assert scalar.holds(parsed, EVENT) is expected
    assert parse_where(parsed.raw()) == parsed


@pytest.mark.parametrize(
    ("where", "path", "said"),
    [
        ({}, (), "expected `field: value` entries"),
        ([], (), "expected `field: value` entries"),
        ("source", (), "expected `field: value` entries"),
        ({"sorce": "x"}, ("sorce",), 'did you mean "source"'),
        ({"attributes": "x"}, ("attributes",), "write attributes.key"),
        ({"attributes.a..b": "x"}, ("attributes.a..b",), "no path"),
        ({"source|contain": "x"}, ("source|contain",), 'did you mean "contains"'),
        ({"source|re|contains": "x"}, ("source|re|contains",), "one modifier at a time"),
        ({"source": []}, ("source",), "empty"),
        ({"source": {"a": 1}}, ("source",), "nested fields are written a.b"),
        ({"source|re": "("}, ("source|re",), "unclosed group"),
        ({"source|re": "(?=a)"}, ("source|re",), "look-around"),
        ({"source|cidr": ["10.0.0.0/8", "10.0.0.0/33"]}, ("source|cidr", 1), "is no network"),
        ({"source|gt": "5"}, ("source|gt",), "compares with a number"),
        ({"source|contains": None}, ("source|contains",), "null stands alone"),
        ({"value": "5"}, ("value",), "compares with a number"),
        ({"value|contains": 5}, ("value|contains",), "value is a number"),
        ({"not": {"x": 1}}, ("not", "x"), "unknown field"),
    ],
)
def test_says_where_and_what_is_wrong(where: Any, path: tuple[str | int, ...], said: str) -> None:
    """A slip in a filter is found when the file is read, not when an incident is missed."""
    with pytest.raises(ConditionError) as caught:
        parse_where(where)
    assert [p for p, message in caught.value.problems if re.search(re.escape(said), message)] == [path]
