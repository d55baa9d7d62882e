"""A day in the life of two platforms, for `tocsin demo`: seeded, the same bytes every time, about 80,000 events.

What happens on it (UTC):

    06:05  a token expires and is renewed
    09:12  the database behind payments-service goes: refused connections, then time-outs at checkout-api, then errors
           in the other workspace, with more and more tenants; a relapse while it recovers
    11:00  email-gateway is throttled
    12:40  four time-outs in three minutes at email-gateway: one short of the pattern's threshold
    14:30  a webhook storm at payout-webhooks
    17:00  kyc-provider flaps, seven times, until its incident is chronic
    20:02  the certificate of shipping-webhooks expires; somebody renews it and resolves the incident by hand at 21:12
    23:52  inventory-sync stops syncing, and still does at the end of the day

Besides there is ordinary traffic, validation noise, records out of order by up to 25 s, a few minutes late, delivered
twice, and a few broken lines. Records carry the field names of the Integrations surface. A pure function of the seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

SEED = 17
MIDNIGHT_MS = 1_742_947_200_000  # 2025-03-26T00:00:00Z
DAY_MS = 86_400_000
MINUTE_MS = 60_000

ACME, NORTHWIND = "acme-retail", "northwind-pay"
SERVICES = {
    "checkout-api": ACME,
    "payments-service": ACME,
    "inventory-sync": ACME,
    "email-gateway": ACME,
    "shipping-webhooks": ACME,
    "ledger-api": NORTHWIND,
    "card-processor": NORTHWIND,
    "payout-webhooks": NORTHWIND,
    "kyc-provider": NORTHWIND,
}
TENANTS = {
    ACME: tuple(f"shop-{i:02d}" for i in range(1, 25)),
    NORTHWIND: tuple(f"merchant-{i:02d}" for i in range(1, 17)),
}
Kind = tuple[str, str | None]  # event type, error code

ORDINARY_EVENTS = 44_000
HEARTBEAT_MS = 30_000
# How busy each hour of the day is.
HOURS = (2, 1, 1, 1, 2, 3, 5, 7, 9, 10, 10, 11, 11, 10, 10, 10, 9, 9, 8, 7, 6, 5, 4, 3)
ORDINARY: tuple[Kind, ...] = (
    ("request_completed", "200"),
    ("webhook_delivered", "200"),
    ("record_synced", None),
    ("job_finished", None),
)
HEARTBEAT: Kind = ("heartbeat", None)
ENDPOINTS = ("/v2/orders", "/v2/payments", "/v2/webhooks/deliver", "/v1/sync", "/v1/tokens")


class Burst(NamedTuple):
    """Failures of one service: `events` of them in `minutes` from `start`, of the first `tenants` of its workspace.

    `spreads`: the tenants join one after the other instead of all at once.
    """

    start: str
    minutes: float
    source: str
    events: int
    tenants: int
    kinds: tuple[Kind, ...]
    spreads: bool = False


REFUSED = (("connection_refused", "ECONNREFUSED"), ("connection_failed", "ECONNREFUSED"), ("connection_reset", None))
TIMEOUTS = (("gateway_timeout", "504"), ("request_timeout", None))
ERRORS = (("server_error", "500"), ("bad_gateway", "502"), ("service_unavailable", "503"))
WEBHOOKS = (("webhook_failed", "503"), ("webhook_timeout", None), ("webhook_failed", "500"))
FLAPPING = (("dependency_failed", None), ("circuit_open", "circuit_open"))
INVALID = (("validation_failed", "422"), ("payload_invalid", "400"))

BURSTS = (
    Burst("06:05", 2.0, "ledger-api", 7, 2, (("token_refresh_failed", "401"), ("auth_failed", "token_expired"))),
    # The outage and how it spreads.
    Burst("09:12", 31.0, "payments-service", 2_400, 24, REFUSED, spreads=True),
    Burst("09:15", 27.0, "checkout-api", 1_300, 20, TIMEOUTS, spreads=True),
    Burst("09:18", 22.0, "checkout-api", 700, 18, ERRORS, spreads=True),
    Burst("09:21", 20.0, "card-processor", 800, 14, ERRORS, spreads=True),
    Burst("09:24", 15.0, "ledger-api", 260, 9, (("dependency_failed", None), ("upstream_unavailable", None)), True),
    Burst("09:49", 4.0, "payments-service", 90, 6, REFUSED),
    Burst("09:50", 3.0, "checkout-api", 45, 5, TIMEOUTS),
    Burst("11:00", 8.0, "email-gateway", 160, 11, (("throttled", "429"), ("rate_limit_exceeded", "429"))),
    Burst("12:40", 2.4, "email-gateway", 4, 2, (("request_timeout", None),)),
    Burst("14:30", 21.0, "payout-webhooks", 5_200, 16, WEBHOOKS, spreads=True),
    # Each pause is long enough to close the incident and short enough to reopen it.
    *(Burst(f"{17 + n * 22 // 60}:{n * 22 % 60:02d}", 3.0, "kyc-provider", 24, 4, FLAPPING) for n in range(7)),
    Burst("20:02", 66.0, "shipping-webhooks", 330, 12, (("tls_handshake_failed", "certificate_expired"),)),
    Burst("22:40", 2.0, "inventory-sync", 6, 1, (("quota_exceeded", "over_quota"),)),
    Burst("23:52", 8.0, "inventory-sync", 70, 6, (("sync_failed", "sync_error"), ("record_sync_failed", None))),
    # Noise: integrations that send rubbish now and then.
    *(
        Burst(start, 1.5, source, events, 1, INVALID)
        for start, source, events in (
            ("02:31", "inventory-sync", 1),
            ("05:47", "checkout-api", 2),
            ("08:02", "inventory-sync", 3),
            ("10:56", "card-processor", 1),
            ("13:14", "inventory-sync", 5),
            ("15:39", "checkout-api", 2),
            ("19:20", "inventory-sync", 4),
        )
    ),
)

# (instant, line): what arrives damaged.
BROKEN: tuple[tuple[str, bytes], ...] = (
    ("03:10", b'{"time":"2025-03-26T03:10:04.120Z","workspace":"acme-retail","integrationKey":"checkout-api","eventTy'),
    (
        "07:45",
        b'{"time":"yesterday","workspace":"acme-retail","integrationKey":"checkout-api","eventType":"job_finished"}',
    ),
    ("09:33", b'{"time":"2025-03-26T09:33:12.004Z","workspace":"northwind-pay","integrationKey":"ledger-api"}'),
    ("13:02", b"Traceback (most recent call last):"),
    ("16:21", b'{"workspace":"acme-retail","integrationKey":"email-gateway","eventType":"heartbeat"}'),
    (
        "18:08",
        b'{"time":"2025-03-26T18:08:55.300Z","workspace":"northwind-pay","integrationKey":["kyc-provider"],'
        b'"eventType":"circuit_open"}',
    ),
)
RESOLVED = ("21:12", "shipping-webhooks", "ssl_certificate_error")
LATE = 6  # records that arrive minutes after they happened
REPEATED = 40  # records that are delivered twice


class Draft(NamedTuple):
    """An event before it is written: when it happened (ms into the day), and what."""

    ms: int
    source: str
    kind: Kind
    tenant: str | None
    duration_ms: int


def _clock(text: str) -> int:
    """Milliseconds into the day of an "HH:MM"."""
    hours, minutes = text.split(":")
    return (int(hours) * 60 + int(minutes)) * MINUTE_MS


def _ordinary(rng: np.random.Generator) -> Iterator[Draft]:
    sources = tuple(SERVICES)
    shares = np.cumsum(HOURS) / sum(HOURS)
    hour = np.searchsorted(shares, rng.random(ORDINARY_EVENTS), side="right")
    picks = rng.random((ORDINARY_EVENTS, 5))
    for h, (when, which, kind, who, slow) in zip(hour.tolist(), picks.tolist(), strict=True):
        source = sources[int(which * len(sources))]
        tenants = TENANTS[SERVICES[source]]
        tenant = tenants[int(who * who * len(tenants))]
        ms = int((h + when) * 60 * MINUTE_MS)
        yield Draft(ms, source, ORDINARY[int(kind * len(ORDINARY))], tenant, 20 + int(700 * slow**4))


def _heartbeats() -> Iterator[Draft]:
    for phase, source in enumerate(SERVICES):
        for beat in range(DAY_MS // HEARTBEAT_MS):
            yield Draft(beat * HEARTBEAT_MS + phase * 3_137, source, HEARTBEAT, None, 1)


def _burst(rng: np.random.Generator, burst: Burst) -> Iterator[Draft]:
    start, length = _clock(burst.start), burst.minutes * MINUTE_MS
    tenants = TENANTS[SERVICES[burst.source]]
    for position, kind, who, slow in rng.random((burst.events, 4)).tolist():
        affected = max(1, int(burst.tenants * position)) if burst.spreads else burst.tenants
        yield Draft(
            start + int(position * length),
            burst.source,
            burst.kinds[int(kind * len(burst.kinds))],
            tenants[int(who * affected)],
            400 + int(14_000 * slow**2),
        )


def _line(draft: Draft, time: str, number: int) -> bytes:
    event: dict[str, Any] = {
        "id": f"evt-{number:06d}",
        "time": time,
        "workspace": SERVICES[draft.source],
        "integrationKey": draft.source,
        "eventType": draft.kind[0],
    }
    if draft.kind[1] is not None:
        event["errorCode"] = draft.kind[1]
    if draft.tenant is not None:
        event["tenantId"] = draft.tenant
        endpoint = ENDPOINTS[number % len(ENDPOINTS)]
        event["rawPayload"] = {"endpoint": endpoint, "durationMs": draft.duration_ms, "attemptNumber": 1 + number % 3}
    return orjson.dumps(event)


def _resolve(time: str) -> bytes:
    _, source, rule = RESOLVED
    body = {"rule_id": rule, "group_key": source}
    return orjson.dumps({"record": "resolve", "time": time, "workspace": SERVICES[source], "attributes": body})


def _times(ms: Any) -> list[str]:
    """RFC 3339 of milliseconds into the day."""
    instants = (np.asarray(ms, dtype=np.int64) + MIDNIGHT_MS).astype("datetime64[ms]")
    return [f"{text}Z" for text in np.datetime_as_string(instants).tolist()]


def lines(seed: int = SEED) -> Iterator[bytes]:
    """The records of the day as JSON lines, each with its line end, in order of arrival."""
    rng = np.random.default_rng(seed)
    drafts = [*_ordinary(rng), *_heartbeats()]
    for burst in BURSTS:
        drafts += _burst(rng, burst)
    drafts.sort(key=lambda draft: (draft.ms, draft.source))

    happened = np.array([draft.ms for draft in drafts], dtype=np.int64)
    luck = rng.random((len(drafts), 2))
    # Most records arrive at once, one in six takes up to 25 s.
    arrival = happened + (luck[:, 1] * np.where(luck[:, 0] < 1 / 6, 25_000, 400)).astype(np.int64)
    # Late are records of failures: those are the ones whose place in the counts matters.
    failures = np.flatnonzero([draft.kind not in ORDINARY and draft.kind != HEARTBEAT for draft in drafts])
    late = failures[(rng.random(LATE) * len(failures)).astype(np.int64)]
    arrival[late] += 2 * MINUTE_MS + (rng.random(LATE) * 8 * MINUTE_MS).astype(np.int64)

    written = (_line(draft, time, i) for i, (draft, time) in enumerate(zip(drafts, _times(happened), strict=True)))
    records = list(zip(arrival.tolist(), written, strict=True))
    for index in (rng.random(REPEATED) * len(drafts)).astype(np.int64).tolist():
        records.append((records[index][0] + 1_500, records[index][1]))
    records += [(_clock(instant), line) for instant, line in BROKEN]
    records.append((_clock(RESOLVED[0]), _resolve(_times([_clock(RESOLVED[0])])[0])))
    records.sort(key=lambda record: record[0])  # stable: equal arrivals stay as they are
    for _, line in records:
        yield line + b"\n"


def write(path: Path, seed: int = SEED) -> int:
    """Write the day to a file; returns the number of records. Written anew each time, the bytes are the same."""
    count = 0
    with path.open("wb") as out:
        for line in lines(seed):
            out.write(line)
            count += 1
    return count
