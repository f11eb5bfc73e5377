"""What is kept outside the process, opened by the settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from infergate.backend.endpoint import Endpoint
from infergate.config.loading import load
from infergate.config.sources import SettingsError
from infergate.ledger.writer import Ledger
from infergate.wiring.stores import Stores, open_stores


class Reactor(MemoryReactorClock):
    """One that a thread may call."""

    def callFromThread(self, function: Any, *args: Any) -> None:
        function(*args)


class Opening(SynchronousTestCase):
    def opened(self, **environ: str) -> Stores:
        return open_stores(load({}, environ, {}), Reactor())

    def refused(self, **environ: str) -> str:
        return str(self.assertRaises(SettingsError, self.opened, **environ))

    def endpoint(self, state: str) -> Any:
        redis = self.opened(SHARED_STATE=state).redis
        assert redis is not None
        return redis._reach()

    def test_nothing_is_opened_that_is_not_named(self) -> None:
        """Without the settings there is neither."""
        self.assertEqual(self.opened(), Stores())

    def test_ledger_is_made_at_once(self) -> None:
        """Its tables are there before anything listens."""
        path = self.mktemp()
        self.assertIsInstance(self.opened(USAGE_DB=path).ledger, Ledger)
        self.assertTrue(Path(path).exists())

    def test_ledger_that_will_never_do(self) -> None:
        """The line names the setting and the path."""
        self.assertIn(
            "USAGE_DB='no/folder/x.db': cannot be", self.refused(USAGE_DB="no/folder/x.db")
        )

    def test_redis_by_socket_name_and_tls(self) -> None:
        """Each form of the setting has its endpoint; a certificate is verified."""
        self.assertIsInstance(self.endpoint("unix:/run/redis.sock"), UNIXClientEndpoint)
        plain, secured = self.endpoint("redis://cache"), self.endpoint("rediss://cache")
        assert isinstance(plain, Endpoint)
        self.assertIsInstance(plain.stream, HostnameEndpoint)
        self.assertIsNone(plain.tls)
        self.assertIsNotNone(secured.tls)

    def test_missing_extra_is_named(self) -> None:
        """The line says what to install, and shows no password."""
        with mock.patch.dict(sys.modules, {"txredisapi": None}):
            for name in ("redislink", "redisconnection"):
                sys.modules.pop(f"infergate.access.{name}", None)
            line = self.refused(SHARED_STATE="redis://:canary@cache")
        self.assertIn("[redis]", line)
        self.assertNotIn("canary", line)
