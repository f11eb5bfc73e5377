"""The metrics as messages of OTLP."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from infergate.api.operations import CHAT
from infergate.api.usage import Usage
from infergate.telemetry.batch import Batch
from infergate.telemetry.metrics import Metrics
from infergate.telemetry.record import Record

try:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
    )

    from infergate.telemetry import otlp, otlpmetrics
except ImportError:  # the extra
    otlp = None  # type: ignore[assignment]


def metrics() -> Metrics:
    """The figures after one stream that took four seconds."""
    batch = Batch()
    figures = Metrics(batch)
    figures.count_dropped_lines(lambda: 0)
    record = Record(opened=100.0, client="192.0.2.1", request_id="id-1")
    record.method, record.route, record.status = "POST", CHAT.path, 200
    record.model, record.model_accepted = "tiny", True
    figures.began(record)
    record.operation, record.stream = CHAT.name, True
    record.first_token, record.usage = 101.0, Usage(7, 4, 11, "backend")
    record.close(104.0)
    batch.add([record])
    return figures


def known(point: Any) -> dict[str, object]:
    """Its attributes."""
    return {
        attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value"))
        for attribute in point.attributes
    }


class WithOTLP(SynchronousTestCase):
    def setUp(self) -> None:
        if otlp is None:
            raise SkipTest("needs the extra otlp")


class Data(WithOTLP):
    def setUp(self) -> None:
        super().setUp()
        parts = otlpmetrics.metric_parts(metrics(), 5, 9)
        message = otlp.message({"service.name": "mine"}, filter(None, parts))
        (resource,) = ExportMetricsServiceRequest.FromString(message).resource_metrics
        self.assertEqual(known(resource.resource), {"service.name": "mine"})
        (scope,) = resource.scope_metrics
        self.assertEqual(scope.scope.name, "infergate")
        self.metrics = {metric.name: metric for metric in scope.metrics}

    def test_names(self) -> None:
        """Every figure is there, under the name and unit of the semantic conventions."""
        units = {name: metric.unit for name, metric in self.metrics.items()}
        self.assertEqual(
            units,
            {
                "http.server.request.duration": "s",
                "gen_ai.server.request.duration": "s",
                "gen_ai.server.time_to_first_token": "s",
                "gen_ai.server.time_per_output_token": "s",
                "gen_ai.client.token.usage": "{token}",
                "infergate.overhead": "s",
                "infergate.reactor_lag": "s",
                "infergate.requests": "{request}",
                "infergate.requests_in_flight": "{request}",
                "infergate.streams_in_flight": "{stream}",
                "infergate.log_lines_dropped": "{line}",
                "infergate.caller_requests": "{request}",
                "infergate.caller_tokens": "{token}",
                "infergate.limited": "1",
            },
        )

    def test_attributes(self) -> None:
        """So are the labels, without those that are empty, and with the status as a number."""
        (point,) = self.metrics["http.server.request.duration"].histogram.data_points
        self.assertEqual(
            known(point),
            {
                "http.route": CHAT.path,
                "http.request.method": "POST",
                "http.response.status_code": 200,
            },
        )
        labels = {
            name
            for family in metrics().registry.collect()
            for sample in family.samples
            for name in sample.labels
        }
        own = {"le", "route", "status", "outcome", "limit"}
        build = {"version", "python", "twisted"}
        self.assertEqual(labels - set(otlpmetrics.ATTRIBUTES) - build, own)

    def test_histogram(self) -> None:
        """A histogram has its count, its sum, and in each bucket what fell into it alone."""
        (point,) = self.metrics["gen_ai.server.request.duration"].histogram.data_points
        self.assertEqual((point.count, point.sum), (1, 4.0))
        self.assertEqual(len(point.bucket_counts), len(point.explicit_bounds) + 1)
        place = list(point.bucket_counts).index(1)
        self.assertEqual(sum(point.bucket_counts), 1)
        low, high = point.explicit_bounds[place - 1 : place + 1]
        self.assertTrue(low < 4.0 <= high)
        self.assertEqual((point.start_time_unix_nano, point.time_unix_nano), (5, 9))

    def test_two_histograms(self) -> None:
        """Each combination of labels is a point of its own."""
        points = self.metrics["gen_ai.client.token.usage"].histogram.data_points
        sums = {known(point)["gen_ai.token.type"]: point.sum for point in points}
        self.assertEqual(sums, {"input": 7, "output": 4})

    def test_counter_and_gauge(self) -> None:
        """A counter only goes up, a gauge is what it is."""
        counter = self.metrics["infergate.requests"].sum
        self.assertTrue(counter.is_monotonic)
        self.assertEqual([point.as_double for point in counter.data_points], [1])
        self.assertTrue(self.metrics["infergate.requests_in_flight"].HasField("gauge"))
        gauge = self.metrics["infergate.requests_in_flight"].gauge
        self.assertEqual([point.as_double for point in gauge.data_points], [0])
