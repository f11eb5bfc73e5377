"""The wiring of one gateway out of its settings."""

from __future__ import annotations

import time
from typing import Any

import jwt
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.compose import compose
from infergate.config.loading import load
from infergate.config.sources import SettingsError
from infergate.ledger.sqlite import SqliteStore
from infergate.ledger.writer import Ledger
from infergate.telemetry.record import Record
from infergate.wiring.stores import Stores
from tests.unit.inmemory import BackendPort, Client, Wire, chat, request


class Composing(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.reached: list[str] = []

    def reach(self, url: str, trust: object) -> IStreamClientEndpoint:
        self.reached.append(url)
        return BackendPort(self.clock)

    def test_nothing_is_reached_or_scheduled_before_the_first_request(self) -> None:
        """To wire a gateway costs no connection and sets no timer."""
        settings = load({}, {"BACKEND_URL": "http://a", "JWT_JWKS_URL": "https://b/keys"}, {})
        wired = compose(settings, self.clock, self.reach)
        self.assertEqual(self.reached, ["http://a/v1", "https://b/keys"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((len(wired.pools), len(wired.parts)), (2, 2))

    def test_url_that_cannot_be_reached_names_its_setting(self) -> None:
        """A URL that shows to be wrong only when it is wired stops the start by its setting."""

        def reach(url: str, trust: object) -> IStreamClientEndpoint:
            raise ValueError("must be another")

        for name in ("BACKEND_URL", "JWT_JWKS_URL"):
            settings = load({}, {name: "https://a/v1"}, {})
            with self.assertRaises(SettingsError) as caught:
                compose(settings, self.clock, reach)
            self.assertEqual(str(caught.exception), f"{name}='https://a/v1': must be another")

    def test_record_of_each_exchange_is_in_the_metrics_and_handed_to_the_log(self) -> None:
        """Each exchange is accounted for once, in the metrics and by whatever logs it."""
        records: list[Record] = []
        wired = compose(load({}, {}, {}), self.clock, self.reach, log=records.append)
        for edge, data in ((wired.front, chat()), (wired.metrics_edge, request("GET", "/metrics"))):
            Client(self.clock, edge, Wire(self.clock, "192.0.2.1")).send(data)
        routes = ["/v1/chat/completions", "/metrics"]
        self.assertEqual([record.route for record in records], routes)
        for route in routes:
            labels = {"route": route, "status": "200", "outcome": "ok"}
            counted = wired.metrics.registry.get_sample_value("infergate_requests_total", labels)
            self.assertEqual(counted, 1)

    def test_tokens_expire_by_the_wall_clock(self) -> None:
        """The `exp` of a token is a date, whatever the clock of the deadlines says."""
        wired = compose(load({}, {"JWT_SECRET": "s" * 32}, {}), self.clock, self.reach)
        self.assertLess(self.clock.seconds(), 1000)
        for seconds, status in ((60, 200), (-60, 401)):
            claims = {"sub": "alice", "exp": time.time() + seconds}
            token = jwt.encode(claims, "s" * 32, "HS256")
            client = Client(self.clock, wired.front, Wire(self.clock, "192.0.2.1"))
            asked = request("GET", "/v1/models", f"Authorization: Bearer {token}")
            self.assertEqual(client.ask(asked).status, status)

    def test_ledger_counts_each_exchange_and_is_seen_in_the_metrics(self) -> None:
        """What waits for the database of USAGE_DB is a metric; without one there is none."""
        ledger = Ledger(SqliteStore(self.mktemp()), Waiting(), self.clock)
        wired = compose(load({}, {}, {}), self.clock, self.reach, stores=Stores(ledger))
        Client(self.clock, wired.front, Wire(self.clock, "192.0.2.1")).send(chat())
        Client(self.clock, wired.front, Wire(self.clock, "192.0.2.1")).send(
            request("GET", "/v1/models")
        )
        self.assertEqual(ledger.pending, 1)
        read = wired.metrics.registry.get_sample_value
        self.assertEqual(read("infergate_ledger_pending_requests"), 1)
        self.assertEqual(read("infergate_ledger_up"), 1)
        self.assertIn(ledger, wired.parts)
        without = compose(load({}, {}, {}), self.clock, self.reach)
        self.assertIsNone(without.metrics.registry.get_sample_value("infergate_ledger_up"))


class Waiting:
    """A thread that never gets to what it is given."""

    def __call__(self, function: object, *arguments: object) -> Deferred[Any]:
        return Deferred()

    def end(self) -> None: ...
