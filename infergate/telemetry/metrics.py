"""One record into every figure.

The instruments carry the names, units and buckets of OpenTelemetry's semantic conventions for
HTTP servers and for generative AI. `prometheus_client` shows them; recording a figure with the
OpenTelemetry SDK costs some twenty times as much. `otlp` pushes the same ones.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from infergate.telemetry.callers import CallerMetrics
from infergate.telemetry.escaping import escaped
from infergate.telemetry.record import Record

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

MAX_MODELS = 100
"""Names of models that become a label; clients choose them, so they must not be endless."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_SECONDS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75,
    1, 2.5, 5, 7.5, 10, 30, 60, 120, 300, 600,
)  # fmt: skip
_GEN_AI_SECONDS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    163.84, 327.68, 655.36,
)  # fmt: skip
_FIRST_TOKEN_SECONDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60,
)  # fmt: skip
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)
_TOKENS = tuple(4**power for power in range(14))
_OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1, 10)

_HTTP = ("http_route", "http_request_method", "http_response_status_code", "error_type")
_GEN_AI = ("gen_ai_operation_name", "gen_ai_request_model", "error_type")


class Metrics:
    """The figures of one process. `registry` is what ``/metrics`` shows."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        # In the text form, each would be a metric of its own.
        disable_created_metrics()  # type: ignore[no-untyped-call]

        def histogram(
            name: str, about: str, labels: Sequence[str], buckets: Sequence[float]
        ) -> _Histogram:
            one = _Histogram(name, about, labels, buckets)
            registry.register(one)
            return one

        self._http = histogram(
            "http_server_request_duration_seconds",
            "Duration of HTTP server requests.", _HTTP, _SECONDS,
        )  # fmt: skip
        self._chat = histogram(
            "gen_ai_server_request_duration_seconds",
            "Duration of chat completions, to the last token.", _GEN_AI, _GEN_AI_SECONDS,
        )  # fmt: skip
        self._first_token = histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to the first token of streams.", _GEN_AI, _FIRST_TOKEN_SECONDS,
        )  # fmt: skip
        self._per_token = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per token after the first, of streams.", _GEN_AI, _TOKEN_SECONDS,
        )  # fmt: skip
        self._tokens = histogram(
            "gen_ai_client_token_usage",
            "Tokens used.", ("gen_ai_token_type", "gen_ai_request_model"), _TOKENS,
        )  # fmt: skip
        self._overhead = histogram(
            "infergate_overhead_seconds",
            "The exchange less the time spent waiting for the backend.", (), _OVERHEAD_SECONDS,
        )  # fmt: skip
        self._requests = Counter(
            "infergate_requests_total",
            "Exchanges that have ended.", ("route", "status", "outcome"), registry=registry,
        )  # fmt: skip
        self._requests_in_flight = Gauge(
            "infergate_requests_in_flight", "Exchanges under way.", registry=registry
        )
        self._streams_in_flight = Gauge(
            "infergate_streams_in_flight", "Streams under way.", registry=registry
        )
        # Finding a child costs more than using it; labels are out of bounded sets, and so is this.
        self._count = cache(self._requests.labels)
        self._in_flight = self._streams = 0
        self._requests_in_flight.set_function(lambda: self._in_flight)
        self._streams_in_flight.set_function(lambda: self._streams)
        self._models: set[str] = set()
        self.callers = CallerMetrics(registry)

    def count_dropped_lines(self, dropped: Callable[[], int]) -> None:
        """Show what `dropped` returns as the number of log lines that nobody could read."""
        self.registry.register(_Dropped(dropped))

    def watch(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Show a gauge of a part that is not always there; `read` gives its value when asked."""
        Gauge(name, about, registry=self.registry).set_function(read)

    def began(self, record: Record) -> None:
        self._in_flight += 1

    def stream_began(self, record: Record) -> None:
        """The request of `record`, which has begun, asks for a stream, as `record.stream` says."""
        self._streams += 1

    def ended(self, record: Record) -> None:
        """Account for an exchange that has been closed."""
        self._in_flight -= 1
        self._streams -= record.stream
        error = record.error or ""
        method = record.method if record.method in METHODS else "other"
        status = str(record.status)
        self._http.observe(record.duration, record.route, method, status, error)
        self._count(record.route, status, record.outcome).inc()
        self.callers.ended(record)
        if record.operation is not None and record.model is not None:
            self._ended_chat(record, error, self._model_label(record))

    def _ended_chat(self, record: Record, error: str, model: str) -> None:
        assert record.closed is not None
        self._chat.observe(record.duration, "chat", model, error)
        self._overhead.observe(record.duration - (record.backend_seconds or 0))
        usage = record.usage
        if usage.source != "none":
            self._tokens.observe(usage.prompt_tokens, "input", model)
            self._tokens.observe(usage.completion_tokens, "output", model)
        if record.stream and record.first_token is not None:
            first = record.first_token - record.opened
            self._first_token.observe(first, "chat", model, error)
            if usage.completion_tokens > 1:
                pause = (record.closed - record.first_token) / (usage.completion_tokens - 1)
                self._per_token.observe(pause, "chat", model, error)

    def _model_label(self, record: Record) -> str:
        assert record.model is not None
        # Shown in the terminals of those who look at `/metrics`.
        model = escaped(record.model)
        if model in self._models:
            return model
        if record.model_accepted and len(self._models) < MAX_MODELS:
            self._models.add(model)
            return model
        return "other"

    def text(self) -> bytes:
        """All figures in Prometheus's text form."""
        return generate_latest(self.registry)


class _Dropped(Collector):
    def __init__(self, dropped: Callable[[], int]) -> None:
        self._dropped = dropped

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "infergate_log_lines_dropped",
            "Log lines that were dropped, since nothing took them.",
            value=self._dropped(),
        )


class _Histogram(Collector):
    """One histogram of a registry. The library's own takes two locks and eight calls to record a
    figure, which happens five times a request."""

    def __init__(
        self, name: str, about: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self._name = name
        self._about = about
        self._labels = labels
        self._bounds = bounds
        # For each set of labels: how many fell into each bucket and above the last, and their sum.
        self._figures: dict[tuple[str, ...], list[float]] = {}
        if not labels:
            self._figures[()] = self._empty()

    def _empty(self) -> list[float]:
        return [0] * (len(self._bounds) + 1) + [0.0]

    def observe(self, value: float, *labels: str) -> None:
        figures = self._figures.get(labels)
        if figures is None:
            figures = self._figures[labels] = self._empty()
        figures[bisect_left(self._bounds, value)] += 1
        figures[-1] += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._about, labels=self._labels)
        bounds = (*self._bounds, math.inf)
        names = [floatToGoString(bound) for bound in bounds]  # type: ignore[no-untyped-call]
        for labels, (*counts, total) in self._figures.items():
            family.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), total)
        yield family
