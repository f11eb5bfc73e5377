"""The ledger and Redis, looked at."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, fail

from infergate.access.redisurl import SharedState
from infergate.access.shared import RedisAway
from infergate.doctor import stores
from infergate.doctor.report import Check
from infergate.ledger.connecting import UsageDB
from infergate.ledger.schema import StoreAway, StoreRefused
from tests.unit.doctor.examined import FAIL, OK, WARN, Examined


class AtOnce:
    """In place of a thread: calls at once, or never where a database hangs."""

    hangs = False

    def __init__(self, *_: object) -> None:
        """A thread would need a reactor."""

    def __call__(self, function: Any, *arguments: Any) -> Deferred[Any]:
        if self.hangs:
            return Deferred()
        called: Deferred[Any] = Deferred()
        called.callback(None)
        return called.addCallback(lambda _: function(*arguments))


class Ledger(Examined):
    def ledger(self, database: Any) -> Check:
        self.patch(stores, "OneThread", AtOnce)
        return self.the("USAGE_DB", backend_url=None, usage_db=database)

    def store(self, error: Exception) -> Any:
        """A PostgreSQL that says no."""
        store = mock.Mock(path=None)
        store.store.return_value.rehearse.side_effect = error
        return store

    def test_sqlite_file_is_not_made(self) -> None:
        """It is no fault that there is none yet, where it can be made."""
        path = self.mktemp()
        self.assert_said(self.ledger(UsageDB(path)), OK, path)
        self.assertFalse(Path(path).exists())
        check = self.ledger(UsageDB("no/such/folder/x.db"))
        self.assert_said(check, FAIL, "no/such/folder", "does not start")

    def test_database_that_is_away_or_refuses(self) -> None:
        """One comes back by itself, the other stops the start."""
        check = self.ledger(self.store(StoreAway("connection refused")))
        self.assert_said(check, FAIL, "the database is away: connection refused", "in memory")
        check = self.ledger(self.store(StoreRefused("needs a GRANT")))
        self.assert_said(check, FAIL, "needs a GRANT", "does not start")

    def test_silent_database_is_given_up(self) -> None:
        """As everything else, after ten seconds."""
        self.patch(AtOnce, "hangs", True)
        self.assert_said(self.ledger(self.store(StoreAway())), FAIL, "within 10 s")

    def test_sqlite_on_a_network_file_system_is_wrong(self) -> None:
        """However well it can be written to."""
        self.patch(stores, "network_file_system", lambda path: "nfs4")
        check = self.ledger(UsageDB("/net/usage.db"))
        self.assert_said(check, FAIL, "network file system (nfs4)", "postgresql://")


class Redis(Examined):
    def redis(self, connecting: Deferred[Any] | None, policy: str = "noeviction") -> Check:
        """What is found with a connection, or while there is none."""
        protocol = mock.Mock()
        protocol.info.side_effect = lambda section: _later({"maxmemory_policy": policy})
        self.patch(stores, "redis_server", lambda *_: None)
        from infergate.access import redisconnection

        async def connected(*_: object) -> Any:
            return protocol if connecting is None else await connecting

        self.patch(redisconnection, "connected", connected)
        state = SharedState("cache", password="sesame")
        check = self.the("SHARED_STATE", backend_url=None, shared_state=state)
        self.assertNotIn("sesame", check.line(utf8=True))
        if connecting is None:
            protocol.transport.abortConnection.assert_called_once_with()
        return check

    def test_server_that_keeps_what_it_is_given(self) -> None:
        """It can be written to, and evicts nothing."""
        self.assert_said(self.redis(None), OK, "cache:6379")

    def test_policy_that_evicts_is_warned_of(self) -> None:
        """Limits would be forgotten once its memory is full."""
        check = self.redis(None, "allkeys-lru")
        self.assert_said(check, WARN, "maxmemory-policy allkeys-lru", "noeviction")

    def test_server_that_is_away(self) -> None:
        """What happens meanwhile is said."""
        check = self.redis(fail(RedisAway("WRONGPASS")))
        self.assert_said(check, FAIL, "is away: WRONGPASS", "each process counts")
        self.assert_said(self.redis(Deferred()), FAIL, "no answer within 10 s")

    def test_missing_extra_is_named(self) -> None:
        """What to install is said."""
        with mock.patch.dict(sys.modules, {"txredisapi": None}):
            for name in ("redislink", "redisconnection"):
                sys.modules.pop(f"infergate.access.{name}", None)
            state = SharedState("cache")
            check = self.the("SHARED_STATE", backend_url=None, shared_state=state)
        self.assert_said(check, FAIL, "[redis]", "does not start")


def _later(value: Any) -> Deferred[Any]:
    later: Deferred[Any] = Deferred()
    later.callback(value)
    return later
