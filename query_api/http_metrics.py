"""How long requests take, by route and status, as Prometheus wants to know it."""

from prometheus_client import CollectorRegistry, Histogram

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class HttpMetrics:
    """The histogram `tocsin_http_request_seconds`. Routes, methods and statuses are few, whatever clients send."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "tocsin_http_request_seconds",
            "Time from the first byte of a request's head to the last byte of its answer.",
            ["method", "route", "status"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._children: dict[tuple[str, str, int], Histogram] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. status: 0 where the client went away before there was one."""
        child = self._children.get((method, route, status))
        if child is None:
            named = method if method in _METHODS else "other"
            child = self._seconds.labels(named, route, str(status))
            if named == method:
                self._children[method, route, status] = child
        child.observe(seconds)
