"""Who is known and what each may do, out of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.access.auth import AnyOf, KeyRing, Token
from infergate.access.limits import LocalLimits
from infergate.access.ratelimit import Rate
from infergate.access.roster import Roster
from infergate.config.loading import load
from infergate.telemetry.batch import Batch
from infergate.telemetry.metrics import Metrics
from infergate.wiring import callers
from infergate.wiring.callers import Rosters
from infergate.wiring.servers import Servers
from infergate.wiring.stores import Stores
from tests.unit.inmemory import BackendPort


class RosterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.servers = Servers(self.clock, lambda url, trust: BackendPort(self.clock))
        self.rosters = Rosters(self.servers)

    def roster(self, **environ: str) -> Roster:
        return self.rosters.roster(load({}, environ, {}))

    def test_nobody_needs_a_key_where_none_is_set(self) -> None:
        """Without a credential setting there is nobody to ask, and RATE_LIMIT is for all."""
        roster = self.roster(RATE_LIMIT="5/minute")
        self.assertIsNone(roster.authenticator)
        self.assertEqual(roster.policies.of("anybody").rate, Rate(5, 60))

    def test_each_kind_of_credentials_opens_alike(self) -> None:
        """One kind is asked by itself, several one after the other."""
        path = Path(self.mktemp())
        path.write_text("bob:key-b rate=1/day\n")
        self.assertIsInstance(self.roster(API_KEYS="alice:key-a").authenticator, KeyRing)
        roster = self.roster(API_KEYS="alice:key-a", API_KEYS_FILE=str(path), JWT_SECRET="s")
        either: Any = roster.authenticator
        self.assertIsInstance(either, AnyOf)
        self.assertEqual(
            [either.authenticate(Token(key)) for key in ("key-a", "key-b")], ["alice", "bob"]
        )
        self.assertEqual(list(roster.names), ["alice", "bob"])
        self.assertEqual(roster.policies.of("bob").rate, Rate(1, 86400))

    def test_published_keys_outlive_a_reload(self) -> None:
        """To read keys again forgets no set that was fetched, and makes no second pool."""
        rosters: list[Any] = [self.roster(JWT_JWKS_URL="https://issuer/keys") for _ in range(2)]
        first, second = (roster.authenticator.keys for roster in rosters)
        self.assertIs(first, second)
        self.assertEqual(len(self.servers.pools), 1)

    def test_limits_are_of_this_process_where_no_state_is_shared(self) -> None:
        """Without SHARED_STATE and USAGE_DB nothing is started beside the gateway."""
        settings, metrics = load({}, {"API_KEYS": "alice:key-a"}, {}), Metrics(Batch())
        local = LocalLimits(self.clock.seconds, self.clock.seconds)
        self.assertIs(callers.limits(settings, local, None), local)
        admission = callers.admission(settings, self.rosters, local, metrics)
        self.assertEqual(callers.lasting(Stores(), local, admission, self.clock), ())
        callers.watch(metrics, Stores())
        self.assertIsNone(metrics.registry.get_sample_value("infergate_ledger_up"))
        labels = {"caller": "alice", "outcome": "ok"}
        counted = metrics.registry.get_sample_value("infergate_caller_requests_total", labels)
        self.assertEqual(counted, 0)
