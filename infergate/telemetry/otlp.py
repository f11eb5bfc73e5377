"""The figures, pushed: what `/metrics` shows, under OpenTelemetry's own names, over OTLP.

Needs the extra ``otlp``; imported only where `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client import Metric as Family
from prometheus_client.samples import Sample
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from infergate import __version__

INTERVAL = 60.0
"""Seconds between two pushes, OpenTelemetry's own default. The last push is at the stop."""

LAST_PUSH = 1.0
"""Seconds for the push at the stop, which the process waits for."""

NAMES = {
    "http_server_request_duration_seconds": ("http.server.request.duration", "s"),
    "gen_ai_server_request_duration_seconds": ("gen_ai.server.request.duration", "s"),
    "gen_ai_server_time_to_first_token_seconds": ("gen_ai.server.time_to_first_token", "s"),
    "gen_ai_server_time_per_output_token_seconds": ("gen_ai.server.time_per_output_token", "s"),
    "gen_ai_client_token_usage": ("gen_ai.client.token.usage", "{token}"),
    "infergate_requests": ("infergate.requests", "{request}"),
    "infergate_requests_in_flight": ("infergate.requests_in_flight", "{request}"),
    "infergate_streams_in_flight": ("infergate.streams_in_flight", "{stream}"),
    "infergate_overhead_seconds": ("infergate.overhead", "s"),
    "infergate_log_lines_dropped": ("infergate.log_lines_dropped", "{line}"),
}
"""Prometheus's name of each instrument, and OpenTelemetry's name and unit."""

ATTRIBUTES = {
    "http_route": "http.route",
    "http_request_method": "http.request.method",
    "http_response_status_code": "http.response.status_code",
    "error_type": "error.type",
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_token_type": "gen_ai.token.type",
}

_log = Logger(namespace="infergate")


class Pusher:
    """Pushes the figures of `registry` to `endpoint`, an OTLP/HTTP base URL, from a thread."""

    def __init__(
        self,
        registry: CollectorRegistry,
        reactor: Any,
        endpoint: str,
        exporter: MetricExporter | None = None,
    ) -> None:
        # What goes wrong is logged here, once, and not on stderr by the exporter.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False
        self._registry = registry
        self._reactor = reactor
        self._exporter = exporter or OTLPMetricExporter(endpoint.rstrip("/") + "/v1/metrics")
        self._resource = Resource.create({"service.name": "infergate"})
        self._started = time.time_ns()
        self._loop = LoopingCall(self.push)
        self._loop.clock = reactor

    def start(self) -> None:
        self._loop.start(INTERVAL, now=False)

    def stop(self) -> Deferred[None]:
        """Push what there is a last time."""
        if self._loop.running:
            self._loop.stop()
        return self.push(LAST_PUSH)

    def push(self, seconds: float = INTERVAL / 6) -> Deferred[None]:
        """Push once, within so many seconds; never fails, but says so in the log."""
        pool = self._reactor.getThreadPool()
        data = metrics_data(self._registry, self._resource, self._started, time.time_ns())
        pushed: Deferred[Any] = deferToThreadPool(
            self._reactor, pool, self._exporter.export, data, seconds * 1000
        )
        return pushed.addCallback(self._said).addErrback(
            lambda failure: _log.failure("Pushing the metrics failed", failure)
        )

    @staticmethod
    def _said(result: MetricExportResult) -> None:
        if result is not MetricExportResult.SUCCESS:
            _log.warn("The OTLP endpoint did not take the metrics")


def metrics_data(
    registry: CollectorRegistry, resource: Resource, started: int, now: int
) -> MetricsData:
    """What `registry` holds, as OpenTelemetry has it; moments in nanoseconds since 1970."""
    metrics = [
        _metric(family, started, now) for family in registry.collect() if family.name in NAMES
    ]
    scope = ScopeMetrics(InstrumentationScope("infergate", __version__), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(family: Family, started: int, now: int) -> Metric:
    name, unit = NAMES[family.name]
    data: Sum | Gauge | Histogram
    if family.type == "histogram":
        points = [
            _histogram_point(dict(labels), samples, started, now)
            for labels, samples in _by_labels(family.samples).items()
        ]
        data = Histogram(points, AggregationTemporality.CUMULATIVE)
    else:
        numbers = [
            NumberDataPoint(_attributes(sample.labels), started, now, sample.value)
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]
        if family.type == "counter":
            data = Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=True)
        else:
            data = Gauge(numbers)
    return Metric(name, family.documentation, unit, data)


def _by_labels(samples: Iterable[Sample]) -> dict[tuple[tuple[str, str], ...], list[Sample]]:
    """The samples of each histogram of a family."""
    histograms = defaultdict(list)
    for sample in samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        histograms[labels].append(sample)
    return histograms


def _histogram_point(
    labels: dict[str, str], samples: list[Sample], started: int, now: int
) -> HistogramDataPoint:
    buckets = [sample for sample in samples if sample.name.endswith("_bucket")]
    upto = [0, *(int(sample.value) for sample in buckets)]
    (total,) = [sample.value for sample in samples if sample.name.endswith("_sum")]
    return HistogramDataPoint(
        attributes=_attributes(labels),
        start_time_unix_nano=started,
        time_unix_nano=now,
        count=upto[-1],
        sum=total,
        bucket_counts=[high - low for low, high in pairwise(upto)],
        explicit_bounds=[float(sample.labels["le"]) for sample in buckets[:-1]],
        min=None,  # type: ignore[arg-type]  # optional on the wire, and not known
        max=None,  # type: ignore[arg-type]
    )


def _attributes(labels: dict[str, str]) -> dict[str, str | int]:
    """An empty label is an attribute that is not there; a status is a number."""
    attributes: dict[str, str | int] = {}
    for name, value in labels.items():
        if value:
            known = ATTRIBUTES.get(name, name)
            attributes[known] = int(value) if known == "http.response.status_code" else value
    return attributes
