"""The worker out of the settings."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.config.loading import load
from infergate.telemetry.batch import Batch
from infergate.wiring.backing import Backing, backing
from infergate.wiring.servers import Servers
from infergate.worker import BackendWorker, EchoWorker
from tests.unit.inmemory import BackendPort


class Workers(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.port = BackendPort(self.clock)
        self.servers = Servers(self.clock, lambda url, trust: self.port)

    def made(self, **environ: str) -> Backing:
        return backing(load({}, environ, {}), self.servers, Batch())

    def test_without_a_backend_there_is_an_echo(self) -> None:
        """The echo calls itself what DEFAULT_MODEL says, and reaches nobody."""
        self.assertEqual(self.made().worker, EchoWorker("default"))
        self.assertEqual(self.made(DEFAULT_MODEL="mine").worker, EchoWorker("mine"))
        self.assertEqual(self.servers.pools, [])

    def test_scrape_asks_the_health_route_where_there_is_one(self) -> None:
        """With BACKEND_HEALTH_PATH set to nothing a scrape asks the backend nothing."""
        for path, attempts in (("/health", 1), ("", 0)):
            made = self.made(BACKEND_URL="http://backend", BACKEND_HEALTH_PATH=path)
            self.assertIsInstance(made.worker, BackendWorker)
            self.assertEqual(self.port.attempts, 0)
            made.look()
            self.clock.advance(0)
            self.assertEqual(self.port.attempts, attempts, path)
            self.port.attempts = 0
