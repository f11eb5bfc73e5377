"""A backend in memory, and one call of it after the other."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.operations import CHAT, MODELS_PATH
from infergate.backend.agent import IDLE_CONNECTION, OriginAgent
from infergate.backend.call import Call, Timeouts
from infergate.backend.client import Backend
from infergate.reactor.deadlines import Deadlines
from infergate.telemetry.record import Record
from tests.unit.inmemory import BackendConnection, BackendPort

TIMEOUTS = Timeouts(response=60, idle=30, total=600)


class OneBackend(SynchronousTestCase):
    """A backend in memory, and one call of it."""

    def setUp(self) -> None:
        self.start()

    def start(self, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.deadlines = Deadlines(self.clock)
        self.port = BackendPort(self.clock)
        self.agent = OriginAgent("http://backend:9000", self.port, self.deadlines)
        settings.setdefault("timeouts", TIMEOUTS)
        self.backend = Backend(self.agent, "http://backend:9000/v1", self.deadlines, **settings)

    def call(self, opened: float = 0) -> Call:
        """A call for a request whose first byte came `opened` seconds ago."""
        opened = self.clock.seconds() - opened
        self.record = Record(opened=opened, client="x", request_id="id-1")
        return self.backend.call(self.record)

    def send(self, call: Call | None = None, body: bytes | None = b"{}") -> Deferred[Any]:
        self.last = call or self.call()
        method, path = ("GET", MODELS_PATH) if body is None else ("POST", CHAT.path)
        sending = self.backend.send(self.last, method, path, b"Accept: x/y\r\n", body)
        return Deferred.fromCoroutine(sending)

    def read(self, limit: int = 1000) -> Deferred[bytes]:
        """The whole exchange, to its last byte."""

        call = self.call()

        async def exchange() -> bytes:
            await self.send(call)
            return await call.read_all(limit)

        return Deferred.fromCoroutine(exchange())

    @property
    def connection(self) -> BackendConnection:
        return self.port.connections[-1]

    def assert_no_deadline(self) -> None:
        """No exchange has one; connections that idle have one, all together."""
        idle = any(not connection.closed for connection in self.port.connections)
        self.assertEqual(len(self.deadlines), int(idle))

    def assert_over(self) -> None:
        """Nothing is left of any exchange but connections that may be used again."""
        self.clock.advance(IDLE_CONNECTION + 0.2)
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))
        for connection in self.port.connections:
            self.assertTrue(connection.closed)
