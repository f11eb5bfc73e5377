"""The metrics of `/metrics` under OpenTelemetry's own names, as messages of OTLP.

Needs the extra ``otlp``; imported only where something is pushed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from prometheus_client import CollectorRegistry
from prometheus_client import Metric as Family
from prometheus_client.samples import Sample

from infergate import __version__

NAMES = {
    "http_server_request_duration_seconds": ("http.server.request.duration", "s"),
    "gen_ai_server_request_duration_seconds": ("gen_ai.server.request.duration", "s"),
    "gen_ai_server_time_to_first_token_seconds": ("gen_ai.server.time_to_first_token", "s"),
    "gen_ai_server_time_per_output_token_seconds": ("gen_ai.server.time_per_output_token", "s"),
    "gen_ai_client_token_usage": ("gen_ai.client.token.usage", "{token}"),
}
"""Names of the semantic conventions by Prometheus's, with their units."""

OWN = "infergate_"
"""Before the names of the gateway's own metrics, which are pushed as ``infergate.x_y``."""

UNITS = {"requests": "{request}", "streams": "{stream}", "lines": "{line}", "tokens": "{token}"}
"""Units by a word of the name."""

ATTRIBUTES = {
    "http_route": "http.route",
    "http_request_method": "http.request.method",
    "http_response_status_code": "http.response.status_code",
    "error_type": "error.type",
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_token_type": "gen_ai.token.type",
}

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE

SCOPE = InstrumentationScope(name="infergate", version=__version__)


def metrics_message(
    registry: CollectorRegistry, resource: Mapping[str, str], started: int, now: int
) -> bytes:
    """What `registry` holds, as the body of a push.

    `resource` are the attributes of this process; `started` and `now` are timestamps in
    nanoseconds since 1970.
    """
    metrics = [
        _metric(family, *named, started, now)
        for family in registry.collect()
        if (named := name_and_unit(family)) is not None
    ]
    of_process = ResourceMetrics(
        resource=Resource(attributes=attributes(resource)),
        scope_metrics=[ScopeMetrics(scope=SCOPE, metrics=metrics)],
    )
    message: bytes = ExportMetricsServiceRequest(resource_metrics=[of_process]).SerializeToString()
    return message


def name_and_unit(family: Family) -> tuple[str, str] | None:
    """What OpenTelemetry calls a metric, and its unit; None for one that is not pushed: what a
    process is says the resource, and how it is, other instruments."""
    known = NAMES.get(family.name)
    if known is not None:
        return known
    if family.type == "info" or not family.name.startswith(OWN):
        return None
    name = family.name.removeprefix(OWN)
    if name.endswith("_seconds"):
        return f"infergate.{name.removesuffix('_seconds')}", "s"
    units = [UNITS[word] for word in name.split("_") if word in UNITS]
    return f"infergate.{name}", units[-1] if units else "1"


def attributes(known: Mapping[str, str | int | float | bool]) -> list[KeyValue]:
    """Attributes as OTLP has them."""
    return [KeyValue(key=name, value=_value(value)) for name, value in known.items()]


def _value(value: str | int | float | bool) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(double_value=value)


def _metric(family: Family, name: str, unit: str, started: int, now: int) -> Metric:
    metric = Metric(name=name, description=family.documentation, unit=unit)
    if family.type == "histogram":
        metric.histogram.aggregation_temporality = CUMULATIVE
        metric.histogram.data_points.extend(
            _histogram_point(dict(labels), samples, started, now)
            for labels, samples in _by_labels(family.samples).items()
        )
        return metric
    points = [
        NumberDataPoint(
            attributes=_attributes(sample.labels),
            start_time_unix_nano=started,
            time_unix_nano=now,
            as_double=sample.value,
        )
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]
    if family.type == "counter":
        metric.sum.aggregation_temporality = CUMULATIVE
        metric.sum.is_monotonic = True
        metric.sum.data_points.extend(points)
    else:
        metric.gauge.data_points.extend(points)
    return metric


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
    )


def _attributes(labels: Mapping[str, str]) -> list[KeyValue]:
    """An empty label is an attribute that is not there; a status is a number."""
    known = {ATTRIBUTES.get(name, name): value for name, value in labels.items() if value}
    status = "http.response.status_code"
    return attributes({n: int(v) if n == status else v for n, v in known.items()})
