"""The metrics of `/metrics` under OpenTelemetry's own names, as messages of OTLP.

Needs the extra ``otlp``; imported only where metrics are pushed.

    on /metrics                                      as it is pushed
    http_server_request_duration_seconds             http.server.request.duration, s
    infergate_requests_total                         infergate.requests, {request}
    infergate_reactor_lag_seconds                    infergate.reactor_lag, s
    http_route="/v1/models"                          http.route = "/v1/models"
    error_type=""                                    no such attribute

The values are those of `/metrics`, counted from the start of the process (cumulative): both ways
tell the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
)
from prometheus_client import Metric as Family

from infergate.telemetry.histogram import Histogram, Series
from infergate.telemetry.metrics import Metrics
from infergate.telemetry.otlp import attribute, element

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

# Values count from the start of the process, as on `/metrics`.
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def metric_parts(metrics: Metrics, started: int, now: int) -> Iterator[bytes]:
    """Yield each metric, as `message` takes it; `started` and `now` are timestamps in nanoseconds
    since 1970.

    What is no metric comes as nothing (``b""``): a part is short to make, and a histogram of a
    hundred models is not. Called by `MetricsPusher` for each push, a part at a time.
    """
    for histogram in metrics.histograms:
        name, unit = name_and_unit(histogram.name)
        metric = Metric(name=name, description=histogram.about, unit=unit)
        metric.histogram.aggregation_temporality = CUMULATIVE
        for series in histogram.series():
            metric.histogram.data_points.append(_point(histogram, series, started, now))
            yield b""
        yield element(metric.SerializeToString())
    for family in metrics.others.collect():
        # What a process is says the resource, and how it is, other instruments.
        if family.type != "info" and family.name.startswith(OWN):
            yield element(_numbers(family, started, now).SerializeToString())


def name_and_unit(name: str) -> tuple[str, str]:
    """Return what OpenTelemetry calls a metric that Prometheus knows by `name`, and its unit, as in
    the module's examples. The unit is ``1`` where no word of the name says one."""
    known = NAMES.get(name)
    if known is not None:
        return known
    name = name.removeprefix(OWN)
    if name.endswith("_seconds"):
        return f"infergate.{name.removesuffix('_seconds')}", "s"
    units = [UNITS[word] for word in name.split("_") if word in UNITS]
    return f"infergate.{name}", units[-1] if units else "1"


def _numbers(family: Family, started: int, now: int) -> Metric:
    """Convert a counter, or a gauge, with all its samples. Called by `metric_parts` for all that is
    no histogram."""
    name, unit = name_and_unit(family.name)
    metric = Metric(name=name, description=family.documentation, unit=unit)
    points = [
        NumberDataPoint(
            attributes=_attributes(sample.labels),
            start_time_unix_nano=started,
            time_unix_nano=now,
            as_double=sample.value,
        )
        for sample in family.samples
    ]
    if family.type == "counter":
        metric.sum.aggregation_temporality = CUMULATIVE
        metric.sum.is_monotonic = True
        metric.sum.data_points.extend(points)
    else:
        metric.gauge.data_points.extend(points)
    return metric


def _point(histogram: Histogram, series: Series, started: int, now: int) -> HistogramDataPoint:
    """Convert one series: how many values fell into each bucket, which OTLP counts each for itself
    as we do, and Prometheus up to its end. Called by `metric_parts`."""
    labels = dict(zip(histogram.label_names, series.labels, strict=True))
    return HistogramDataPoint(
        attributes=_attributes(labels),
        start_time_unix_nano=started,
        time_unix_nano=now,
        count=sum(series.counts),
        sum=series.sum,
        bucket_counts=series.counts,
        explicit_bounds=histogram.bounds,
    )


def _attributes(labels: Mapping[str, str]) -> list[KeyValue]:
    """Convert labels to attributes: an empty label is an attribute that is not there; a status is a
    number. Called for each series and each sample."""
    known = {ATTRIBUTES.get(name, name): value for name, value in labels.items() if value}
    status = "http.response.status_code"
    return [
        KeyValue.FromString(attribute(name, int(value) if name == status else value))
        for name, value in known.items()
    ]
