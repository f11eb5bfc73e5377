"""The standard ``OTEL_*`` variables."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from infergate.config.otel import ENDPOINT, Signal, Telemetry, read_telemetry, variables
from infergate.config.sources import SettingsError
from infergate.telemetry.tracing import never
from tests.unit.backend.test_endpoint import CERTIFICATE

TRACE = "0" * 16 + "8" + "0" * 15


def read(**given: str) -> Telemetry:
    """With a collector for both signals, unless another endpoint is given."""
    known = {"EXPORTER_OTLP_ENDPOINT": "http://collector:4318", **given}
    return read_telemetry({f"OTEL_{name}": text for name, text in known.items()})


class Signals(SynchronousTestCase):
    def signals(self, **given: str) -> tuple[Signal, Signal]:
        telemetry = read(**given)
        assert telemetry.metrics is not None
        assert telemetry.traces is not None
        return telemetry.metrics, telemetry.traces

    def test_nothing_is_pushed_without_an_endpoint(self) -> None:
        """Nor with an empty one, whatever else is set."""
        for given in (
            {},
            {ENDPOINT: ""},
            {"OTEL_SERVICE_NAME": "x", "OTEL_BSP_SCHEDULE_DELAY": "x"},
        ):
            telemetry = read_telemetry(given)
            self.assertEqual((telemetry.metrics, telemetry.traces), (None, None))

    def test_general_endpoint_is_the_base_of_both(self) -> None:
        """Each signal has a path of its own below it."""
        for base in ("http://collector:4318", "http://collector:4318/"):
            urls = [signal.url for signal in self.signals(EXPORTER_OTLP_ENDPOINT=base)]
            self.assertEqual(
                urls, ["http://collector:4318/v1/metrics", "http://collector:4318/v1/traces"]
            )

    def test_own_endpoint_is_used_as_it_stands(self) -> None:
        """And is enough: the other signal is not pushed then."""
        own = {"EXPORTER_OTLP_TRACES_ENDPOINT": "https://other/x"}
        _, traces = self.signals(**own)
        self.assertEqual(traces.url, "https://other/x")
        self.assertEqual(traces.setting, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        telemetry = read(EXPORTER_OTLP_ENDPOINT="", **own)
        self.assertIsNone(telemetry.metrics)
        self.assertIsNotNone(telemetry.traces)

    def test_signals_are_turned_off(self) -> None:
        """One by one, or all at once; nothing about one that is off is looked at."""
        off = read(METRICS_EXPORTER="none", EXPORTER_OTLP_METRICS_TIMEOUT="x")
        self.assertIsNone(off.metrics)
        self.assertIsNotNone(off.traces)
        self.assertIsNone(read(TRACES_EXPORTER="none").traces)
        self.assertIsNotNone(read(METRICS_EXPORTER="prometheus,otlp").metrics)
        for disabled, pushed in (("true", False), ("TRUE", False), ("false", True), ("1", True)):
            telemetry = read(SDK_DISABLED=disabled)
            self.assertEqual(telemetry.metrics is not None, pushed, disabled)
            self.assertEqual(telemetry.traces is not None, pushed, disabled)

    def test_own_variables_come_before_those_of_all_signals(self) -> None:
        """Headers, time-outs in milliseconds, compression."""
        metrics, traces = self.signals(
            EXPORTER_OTLP_HEADERS="api-key=a%20b, x=y",
            EXPORTER_OTLP_TRACES_HEADERS="api-key=c",
            EXPORTER_OTLP_TIMEOUT="2500",
            EXPORTER_OTLP_METRICS_TIMEOUT="500",
            EXPORTER_OTLP_COMPRESSION="gzip",
            EXPORTER_OTLP_METRICS_COMPRESSION="none",
        )
        self.assertEqual(metrics.headers, {"api-key": "a b", "x": "y"})
        self.assertEqual(traces.headers, {"api-key": "c"})
        self.assertEqual((metrics.timeout, traces.timeout), (0.5, 2.5))
        self.assertEqual((metrics.gzip, traces.gzip), (False, True))

    def test_defaults_are_those_of_the_specification(self) -> None:
        """Where nothing is said."""
        metrics, traces = self.signals()
        for signal in (metrics, traces):
            self.assertEqual(
                (signal.headers, signal.timeout, signal.gzip, signal.trust), ({}, 10, False, None)
            )
        telemetry = read()
        self.assertEqual(telemetry.metrics_interval, 60)
        self.assertEqual(
            (telemetry.span_delay, telemetry.span_queue, telemetry.span_batch), (5, 2048, 512)
        )

    def test_certificate_is_what_is_trusted(self) -> None:
        """For the signal that it is for."""
        path = self.mktemp()
        Path(path).write_bytes(CERTIFICATE.dumpPEM())
        metrics, traces = self.signals(EXPORTER_OTLP_TRACES_CERTIFICATE=path)
        self.assertEqual((metrics.trust is None, traces.trust is None), (True, False))

    def test_header_values_are_never_shown(self) -> None:
        """They are secrets."""
        self.assertNotIn("canary", repr(read(EXPORTER_OTLP_HEADERS="api-key=canary")))
        for text in ("canary", "=canary", "x=canary%0a", "x%0d%0ay=canary", "x y=canary"):
            with self.assertRaises(SettingsError) as caught:
                read(EXPORTER_OTLP_HEADERS=text)
            self.assertNotIn("canary", str(caught.exception))


class Others(SynchronousTestCase):
    def test_resource(self) -> None:
        """Its name is the service's own, and each process has an id."""
        first, second = read().resource, read().resource
        self.assertEqual(first["service.name"], "infergate")
        self.assertNotEqual(first["service.instance.id"], second["service.instance.id"])
        known = read(
            SERVICE_NAME="mine",
            RESOURCE_ATTRIBUTES="service.name=other,deployment.environment=a%2Cb, x=1",
        ).resource
        self.assertEqual(known["service.name"], "mine")
        self.assertEqual((known["deployment.environment"], known["x"]), ("a,b", "1"))
        known = read(RESOURCE_ATTRIBUTES="service.name=other,service.instance.id=7").resource
        self.assertEqual((known["service.name"], known["service.instance.id"]), ("other", "7"))

    def test_samplers(self) -> None:
        """All of the specification; by default the caller decides."""
        for name, argument, root, asked, left in (
            ("", "", True, True, False),
            ("parentbased_always_on", "", True, True, False),
            ("parentbased_always_off", "", False, True, False),
            ("always_on", "", True, True, True),
            ("always_off", "", False, False, False),
            ("traceidratio", "0.6", True, True, True),
            ("traceidratio", "0.4", False, False, False),
            ("parentbased_traceidratio", "0.4", False, True, False),
        ):
            sampler = read(TRACES_SAMPLER=name, TRACES_SAMPLER_ARG=argument).sampler
            decisions = [sampler(TRACE, parent) for parent in (None, True, False)]
            self.assertEqual(decisions, [root, asked, left], name)
        self.assertIs(read(TRACES_EXPORTER="none").sampler, never)

    def test_numbers(self) -> None:
        """Times are in milliseconds."""
        telemetry = read(
            METRIC_EXPORT_INTERVAL="1500",
            BSP_SCHEDULE_DELAY="250",
            BSP_MAX_QUEUE_SIZE="10",
            BSP_MAX_EXPORT_BATCH_SIZE="5",
        )
        self.assertEqual((telemetry.metrics_interval, telemetry.span_delay), (1.5, 0.25))
        self.assertEqual((telemetry.span_queue, telemetry.span_batch), (10, 5))

    def test_wrong_variable_is_named(self) -> None:
        """With its value, and what is allowed."""
        for name, text in (
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "grpc://x"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1.5"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere"),
            ("OTEL_RESOURCE_ATTRIBUTES", "x"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ):
            with self.assertRaises(SettingsError) as caught:
                read(**{name.removeprefix("OTEL_"): text})
            self.assertTrue(str(caught.exception).startswith(name), caught.exception)

    def test_environment_comes_before_dotenv_and_an_option_before_both(self) -> None:
        """As for the settings."""
        environ = {"OTEL_SERVICE_NAME": "a", ENDPOINT: "http://a", "PATH": "x"}
        dotenv = {"OTEL_SERVICE_NAME": "b", ENDPOINT: "http://b", "OTEL_SDK_DISABLED": "true"}
        known = variables(environ, dotenv, None)
        self.assertEqual(
            known,
            {"OTEL_SERVICE_NAME": "a", ENDPOINT: "http://a", "OTEL_SDK_DISABLED": "true"},
        )
        self.assertEqual(variables(environ, dotenv, "http://c")[ENDPOINT], "http://c")
