"""The twelve built-in patterns as the references need them: plain data, written down independently of `rules/`.

The benchmark compares incidents, so its own copy of the table is a second opinion on the rule file, not a duplicate.
"""

from typing import NamedTuple


class Pattern(NamedTuple):
    """One row of the pattern table. It opens at `threshold` matches within `window` seconds; 1 opens at once."""

    id: str
    types: tuple[str, ...]
    codes: tuple[str, ...] = ()
    threshold: int = 1
    window: int = 0


# In priority order: the first that matches takes the event.
PATTERNS = (
    Pattern("auth_failure", ("token_refresh_failed", "auth_failed"), ("401", "403", "invalid_grant", "token_expired")),
    Pattern("webhook_failure_spike", ("webhook_failed", "webhook_timeout", "webhook_undeliverable"), (), 10, 300),
    Pattern("rate_limit_exceeded", ("rate_limit_exceeded", "throttled"), ("429", "rate_limit", "too_many_requests")),
    Pattern("timeout_spike", ("request_timeout", "connection_timeout", "gateway_timeout"), (), 5, 180),
    Pattern("task_canceled_spike", ("task_canceled", "operation_canceled", "request_canceled"), (), 5, 180),
    Pattern(
        "validation_failure_spike",
        ("validation_failed", "schema_validation_failed", "payload_invalid"),
        ("400", "422"),
    ),
    Pattern("server_error_spike", ("server_error", "bad_gateway", "service_unavailable"), ("500", "502", "503", "504")),
    Pattern(
        "connection_failure",
        ("connection_failed", "connection_refused", "connection_reset", "host_unreachable"),
        ("econnrefused", "econnreset"),
        3,
        120,
    ),
    Pattern(
        "service_unavailable",
        ("service_unavailable", "dependency_failed", "circuit_open", "upstream_unavailable"),
        ("503", "circuit_open"),
    ),
    Pattern(
        "data_sync_failure",
        ("sync_failed", "sync_error", "data_sync_failed", "record_sync_failed", "batch_sync_failed"),
        ("sync_error", "data_mismatch", "mapping_error", "duplicate_record"),
    ),
    Pattern(
        "ssl_certificate_error",
        ("ssl_error", "tls_error", "certificate_error", "tls_handshake_failed", "certificate_expired"),
        ("ssl_error", "certificate_expired", "hostname_mismatch"),
    ),
    Pattern(
        "quota_exceeded",
        ("quota_exceeded", "limit_reached", "storage_full", "seats_exhausted", "resource_exhausted"),
        ("quota_exceeded", "storage_full", "over_quota", "account_limit"),
    ),
)

# The lifecycle, in seconds: silence until Recovering, until Closed after that, until the key is forgotten after that.
RECOVERY, CLOSE, COOLDOWN = 300, 600, 900
