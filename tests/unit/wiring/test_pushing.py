"""What is pushed by OTLP, out of the ``OTEL_*`` variables."""

from __future__ import annotations

import sys
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.config.loading import load
from infergate.config.otel import Telemetry, read_telemetry
from infergate.config.sources import SettingsError
from infergate.telemetry.batch import Batch
from infergate.telemetry.metrics import Metrics
from infergate.wiring.pushing import telemetry
from infergate.wiring.servers import Servers
from tests.unit.inmemory import BackendPort


class Pushing(SynchronousTestCase):
    def setUp(self) -> None:
        clock = Clock()
        self.servers = Servers(clock, lambda url, trust: BackendPort(clock))
        self.batch = Batch()
        self.metrics = Metrics(self.batch)

    def test_nothing_is_pushed_or_traced_where_nothing_is_asked_for(self) -> None:
        """Without an endpoint there is no tracer, nothing to push, and nobody to reach."""
        tracer, pushers = telemetry(
            load({}, {}, {}), self.servers, Telemetry(), self.metrics, self.batch
        )
        self.assertIsNone(tracer)
        self.assertEqual(pushers, ())
        self.assertEqual(self.servers.pools, [])

    def test_missing_extra_names_the_endpoint_that_needs_it(self) -> None:
        """Whoever asks for telemetry without its libraries is told what to install."""
        for signal in ("METRICS", "TRACES"):
            name = f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"
            asked = read_telemetry({name: "http://collector:4318/x"})
            with (
                mock.patch.dict(sys.modules, {"infergate.telemetry.otlp": None}),
                self.assertRaises(SettingsError) as caught,
            ):
                telemetry(load({}, {}, {}), self.servers, asked, self.metrics, self.batch)
            self.assertIn(name, str(caught.exception))
            self.assertIn("'.[otlp]'", str(caught.exception))
