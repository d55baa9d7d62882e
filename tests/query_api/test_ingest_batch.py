"""POST /api/v1/events/batch: counts and errors by index; the good ones are stored as they came."""

import gzip
import json
import random

import orjson
import pytest

from connectors.log_lines import stamp
from query_api.ingest_batch import MOST, check
from query_api.ingest_event import NotAcceptable, accept
from query_api.pipeline import Unavailable
from tests.query_api.ingest_fakes import EVENT, NOW, NOW_TEXT, Service

BATCH = "/api/v1/events/batch"
TIMED = EVENT | {"time": "2026-01-31T08:29:00Z"}


@pytest.fixture
def service() -> Service:
    return Service()


def ndjson(*events: object) -> bytes:
    return b"".join((event if isinstance(event, bytes) else orjson.dumps(event)) + b"\n" for event in events)


def array(*events: object) -> bytes:
    return b"[" + b",\n ".join(e if isinstance(e, bytes) else orjson.dumps(e) for e in events) + b"]"


@pytest.mark.parametrize("form", [ndjson, array])
@pytest.mark.parametrize("count", [1, 3, 700])
def test_a_good_batch_is_one_append(service: Service, form: object, count: int) -> None:
    body = form(*(TIMED | {"message": str(n), "tenantId": f"t{n % 7}"} for n in range(count)))  # type: ignore[operator]
    answer = service.post(BATCH, body)
    assert answer.status_code == 200
    assert answer.json() == {
        "isSuccess": True,
        "errorCode": 0,
        "message": "",
        "data": {"accepted": count, "rejected": 0, "errors": []},
    }
    assert service.pipeline.calls == [(count, "ws", False)]
    assert service.pipeline.frame()["message"].to_list() == [str(n) for n in range(count)]
    assert service.rates.counted == count


@pytest.mark.parametrize("form", [ndjson, array])
def test_bad_items_do_not_keep_the_good_ones_out(service: Service, form: object) -> None:
    bad: list[tuple[object, str]] = [
        ({k: v for k, v in TIMED.items() if k != "integrationKey"}, "integrationKey is required."),
        ({k: v for k, v in TIMED.items() if k != "eventType"}, "eventType is required."),
        ({k: v for k, v in TIMED.items() if k != "tenantId"}, "tenantId is required."),
        (TIMED | {"workspace": "w"}, "workspace may not be set: it is that of your API key."),
        (TIMED | {"ingested_at": NOW_TEXT}, "ingested_at may not be set: the service says when it accepted an event."),
        (TIMED | {"record": "configure"}, "record may not be set: only events are accepted here."),
        (TIMED | {"time": stamp(NOW + 60_000_001)}, "time is more than 60 s in the future."),
        (TIMED | {"time": "soon"}, 'time: "soon" is not a time; RFC 3339 is expected, such as 2026-01-31T08:30:00Z.'),
        (TIMED | {"value": {}}, "value: {} is an object, a number is expected."),
        (TIMED | {"tenantId": "inactive"}, 'The tenant "inactive" is inactive: activate it to send its events.'),
        (b"7", "a JSON object is expected, this is a number."),
        ({}, "integrationKey is required."),
    ]
    items: list[object] = []
    for n, (item, _) in enumerate(bad):
        items += [TIMED | {"message": str(n)}, item]
    answer = service.post(BATCH, form(*items))  # type: ignore[operator]
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (data["accepted"], data["rejected"]) == (len(bad), len(bad))
    assert data["errors"] == [{"index": 2 * n + 1, "message": message} for n, (_, message) in enumerate(bad)]
    assert service.pipeline.frame()["message"].to_list() == [str(n) for n in range(len(bad))]


def test_a_broken_line_is_one_error(service: Service) -> None:
    data = service.post(BATCH, ndjson(TIMED, b'{"half', TIMED, b"\xff{}", TIMED)).json()["data"]
    assert (data["accepted"], [error["index"] for error in data["errors"]]) == (3, [1, 3])


def test_blank_lines_and_carriage_returns_count_as_lines_and_nothing_else(service: Service) -> None:
    body = b"\xef\xbb\xbf" + ndjson(TIMED).replace(b"\n", b"\r\n") + b"\n  \n" + b" " + ndjson(TIMED, {}) + b"\n"
    data = service.post(BATCH, body).json()["data"]
    assert (data["accepted"], data["rejected"], data["errors"][0]["index"]) == (2, 1, 4)
    assert len(service.pipeline.frame()) == 2


@pytest.mark.parametrize(
    "event",
    [
        EVENT,
        EVENT | {"rawPayload": {"time": "x"}},
        EVENT | {"time": None},
        EVENT | {"time": ""},
        orjson.dumps(EVENT)[:-1] + b',"message":"\\""}',
    ],
    ids=["none", "only deeper", "null", "empty", "with an escape"],
)
@pytest.mark.parametrize("beside", [0, 1, 500])
def test_events_without_time_happened_when_they_came(service: Service, event: object, beside: int) -> None:
    service.post(BATCH, ndjson(*[TIMED] * beside, event, *[TIMED] * beside))
    found = service.pipeline.frame()["time"].dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_list()
    times = ["2026-01-31T08:29:00.000000Z"] * beside
    assert found == [*times, NOW_TEXT, *times]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_line_cut_short_is_not_mended_by_what_we_add(service: Service, place: int) -> None:
    items: list[object] = [EVENT, EVENT]
    items.insert(place, orjson.dumps(EVENT | {"value": 12})[:-1])
    data = service.post(BATCH, ndjson(*items)).json()["data"]
    assert (data["accepted"], [error["index"] for error in data["errors"]]) == (2, [place])


def test_an_escaped_time_is_the_senders(service: Service) -> None:
    line = orjson.dumps(EVENT)[:-1] + b',"t\\u0069me":"2026-01-31T08:29:00Z"}'
    service.post(BATCH, ndjson(line, EVENT))
    assert service.pipeline.frame()["time"].dt.second().to_list() == [0, 0]
    assert service.pipeline.frame()["time"].dt.minute().to_list() == [29, 30]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "The batch is empty."),
        (b"\n\n", 400, "The batch is empty."),
        (b"[]", 400, "The batch is empty."),
        (b"[1", 400, "The body is not a JSON array"),
        (b"[{}]]", 400, "The body is not a JSON array"),
        (b"{}\n{}", 400, "No event of the batch is acceptable. integrationKey is required."),
        (b"{}\n" * (MOST + 1), 413, "A batch has at most 50,000 events, this one has 50,001."),
        (gzip.compress(b" " * (40 << 20)), 413, "The body is larger than"),
    ],
    ids=["nothing", "blank", "empty array", "half an array", "too much of it", "all bad", "too many", "a bomb"],
)
def test_what_is_no_batch_is_refused(service: Service, body: bytes, status: int, said: str) -> None:
    headers = {"Content_Encoding": "gzip"} if body.startswith(b"\x1f\x8b") else {}
    answer = service.post(BATCH, body, **headers)
    assert answer.status_code == status
    assert answer.json()["message"].startswith(said)
    assert service.pipeline.records == []


def test_the_list_of_errors_is_cut_and_says_so(service: Service) -> None:
    data = service.post(BATCH, ndjson(TIMED, *[{}] * 1500)).json()["data"]
    assert (data["rejected"], len(data["errors"]), data["truncated"]) == (1500, 1000, True)


def test_gzip_and_a_slow_flow(service: Service) -> None:
    service.pipeline.done = False
    answer = service.post(BATCH, gzip.compress(ndjson(TIMED)), Content_Encoding="gzip")
    assert (answer.status_code, answer.json()["data"]["accepted"]) == (202, 1)


def test_back_pressure_is_503(service: Service) -> None:
    service.pipeline.unavailable = Unavailable("the flow lags", 3)
    answer = service.post(BATCH, ndjson(TIMED))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


def test_a_key_gives_every_event_without_an_id_one_of_its_own(service: Service) -> None:
    """So that a batch that is sent again after a crash is not counted twice."""
    body = ndjson(TIMED, TIMED | {"id": "mine"}, {}, TIMED)
    answers = [service.post(BATCH, body, Idempotency_Key="k") for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert len(service.pipeline.calls) == 1
    ids = service.pipeline.frame()["id"].to_list()
    assert ids[1] == "mine"
    assert [id_[36:] for id_ in ids] == ["-0", "", "-3"]
    del service.app.state.answers
    service.post(BATCH, body, Idempotency_Key="k")
    assert service.pipeline.frame()["id"].to_list() == ids * 2
    assert service.post(BATCH, ndjson(TIMED), Idempotency_Key="k").status_code == 422


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_decides_as_single_events_do(seed: int) -> None:
    """Whatever way an event takes, it is taken or refused for the same reason, and stored with the same meaning."""
    draw = random.Random(seed)
    values: dict[str, list[object]] = {
        "integrationKey": ["a", "", None, 5, {}],
        "source": ["b", None],
        "eventType": ["c", "", None],
        "tenantId": ["d", "", None, 7, True],
        "time": ["2026-01-31T08:29:00Z", "", None, "x", 5, stamp(NOW + 60_000_000), stamp(NOW + 60_000_001)],
        "workspace": ["", None, "w"],
        "record": [None, "event", "resolve", "odd"],
        "ingested_at": [None, NOW_TEXT],
        "stream": ["deploy", None, "integration"],
        "value": [1, "x", None],
        "rawPayload": [{"time": "a"}, [1], "\\u0041"],
    }
    events = []
    for _ in range(300):
        names = [name for name in values if draw.random() < (0.9 if name in EVENT else 0.15)]
        draw.shuffle(names)
        picked = {n: values[n][0] if draw.random() < 0.8 else draw.choice(values[n]) for n in names}
        events.append(json.dumps(picked, separators=draw.choice([(",", ":"), (", ", ": ")])).encode())
    batch = check(ndjson(*events), NOW)
    singles: dict[int, str] = {}
    bodies = []
    for n, event in enumerate(events):
        try:
            bodies.append(orjson.loads(accept(event, NOW).body))
        except NotAcceptable as wrong:
            singles[n] = str(wrong)
    assert set(batch.errors) == set(singles)
    assert {n: batch.errors[n] for n in singles} == singles
    assert [orjson.loads(body) for body in batch.bodies] == bodies
    assert 50 < len(bodies) < 290
