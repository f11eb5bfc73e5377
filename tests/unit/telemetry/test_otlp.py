"""The figures, pushed: what `/metrics` shows, under OpenTelemetry's own names."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from infergate.api.operations import CHAT
from infergate.api.usage import Usage
from infergate.telemetry.metrics import Metrics
from infergate.telemetry.record import Record

try:
    from opentelemetry.sdk.metrics.export import MetricExportResult
    from opentelemetry.sdk.resources import Resource

    from infergate.telemetry import otlp
except ImportError:  # the extra
    otlp = None  # type: ignore[assignment]


class Reactor(Clock):
    """A clock whose thread pool works at once."""

    def getThreadPool(self) -> Reactor:
        return self

    def callInThreadWithCallback(self, on_result: Any, function: Any, *args: Any) -> None:
        try:
            on_result(True, function(*args))
        except Exception:
            on_result(False, Failure())

    def callFromThread(self, function: Any, *args: Any) -> None:
        function(*args)


class Exporter:
    """Takes what is pushed, and says of it what it was told to."""

    def __init__(self) -> None:
        self.pushed: list[Any] = []
        self.error: Exception | None = None
        self.result = MetricExportResult.SUCCESS

    def export(self, data: Any, timeout_millis: float) -> Any:
        self.pushed.append(data)
        if self.error is not None:
            raise self.error
        return self.result


def metrics() -> Metrics:
    """The figures after one stream that took four seconds."""
    figures = Metrics()
    figures.count_dropped_lines(lambda: 0)
    record = Record(opened=100.0, client="192.0.2.1", request_id="id-1")
    record.method, record.route, record.status = "POST", CHAT.path, 200
    record.model, record.model_accepted = "tiny", True
    figures.began(record)
    record.operation, record.stream = CHAT.name, True
    figures.stream_began(record)
    record.first_token, record.usage = 101.0, Usage(7, 4, 11, "backend")
    record.close(104.0)
    figures.ended(record)
    return figures


class Setting(SynchronousTestCase):
    def setUp(self) -> None:
        if otlp is None:
            raise SkipTest("needs the extra otlp")


class Data(Setting):
    def setUp(self) -> None:
        super().setUp()
        data = otlp.metrics_data(metrics().registry, Resource.create(), 5, 9)
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        self.assertEqual(scope.scope.name, "infergate")
        self.metrics = {metric.name: metric for metric in scope.metrics}

    def test_names(self) -> None:
        """Every figure is there, under the name and unit of the semantic conventions."""
        expected = dict(otlp.NAMES.values())
        self.assertEqual({name: m.unit for name, m in self.metrics.items()}, expected)
        families = {family.name for family in metrics().registry.collect()}
        self.assertEqual(set(otlp.NAMES), families)

    def test_attributes(self) -> None:
        """So are the labels, without those that are empty, and with the status as a number."""
        (point,) = self.metrics["http.server.request.duration"].data.data_points
        self.assertEqual(
            dict(point.attributes),
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
        own = {"le", "route", "status", "outcome"}
        self.assertEqual(labels - set(otlp.ATTRIBUTES), own)

    def test_histogram(self) -> None:
        """A histogram has its count, its sum, and in each bucket what fell into it alone."""
        (point,) = self.metrics["gen_ai.server.request.duration"].data.data_points
        self.assertEqual((point.count, point.sum), (1, 4.0))
        self.assertEqual(len(point.bucket_counts), len(point.explicit_bounds) + 1)
        place = point.bucket_counts.index(1)
        self.assertEqual(sum(point.bucket_counts), 1)
        low, high = point.explicit_bounds[place - 1 : place + 1]
        self.assertTrue(low < 4.0 <= high)
        self.assertEqual((point.start_time_unix_nano, point.time_unix_nano), (5, 9))

    def test_two_histograms(self) -> None:
        """Each combination of labels is a point of its own."""
        points = self.metrics["gen_ai.client.token.usage"].data.data_points
        sums = {point.attributes["gen_ai.token.type"]: point.sum for point in points}
        self.assertEqual(sums, {"input": 7, "output": 4})

    def test_counter_and_gauge(self) -> None:
        """A counter only goes up, a gauge is what it is."""
        counter = self.metrics["infergate.requests"].data
        self.assertTrue(counter.is_monotonic)
        self.assertEqual([point.value for point in counter.data_points], [1])
        gauge = self.metrics["infergate.requests_in_flight"].data
        self.assertFalse(hasattr(gauge, "is_monotonic"))
        self.assertEqual([point.value for point in gauge.data_points], [0])


class Pushing(Setting):
    def setUp(self) -> None:
        super().setUp()
        self.reactor = Reactor()
        self.exporter = Exporter()
        self.pusher = otlp.Pusher(
            metrics().registry, self.reactor, "http://collector:4318", self.exporter
        )
        self.events: list[LogEvent] = []
        self.patch(otlp, "_log", Logger(observer=self.events.append))

    def test_regularly(self) -> None:
        """The figures are pushed once a minute, and a last time at the end."""
        self.pusher.start()
        self.assertEqual(len(self.exporter.pushed), 0)
        self.reactor.pump([otlp.INTERVAL] * 2)
        self.assertEqual(len(self.exporter.pushed), 2)
        self.successResultOf(self.pusher.stop())
        self.assertEqual(len(self.exporter.pushed), 3)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.events, [])

    def test_never_started(self) -> None:
        """What never started still pushes at its end."""
        self.successResultOf(self.pusher.stop())
        self.assertEqual(len(self.exporter.pushed), 1)

    def test_not_taken(self) -> None:
        """That the figures were not taken is said in the log, and ends nothing."""
        self.exporter.result = MetricExportResult.FAILURE
        self.successResultOf(self.pusher.push())
        self.exporter.error = ZeroDivisionError()
        self.successResultOf(self.pusher.push())
        levels = [event["log_level"].name for event in self.events]
        self.assertEqual(levels, ["warn", "critical"])

    def test_where(self) -> None:
        """They go to the endpoint's path for metrics."""
        pusher = otlp.Pusher(Metrics().registry, self.reactor, "http://collector:4318/")
        self.assertEqual(pusher._exporter._endpoint, "http://collector:4318/v1/metrics")
