"""Whether the backend is well: asked rarely, for all who want to know."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from infergate.reactor.deadlines import Deadlines

PROBE_INTERVAL = 2.0
"""Seconds for which an answer about the backend holds."""


class _Close(Protocol):
    """Closes its connection as soon as it has one."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class Health:
    """Whether the backend at `endpoint` can be connected to, TLS included.

    `ask` may be called at any time, by any number of callers; the endpoint bounds how long they
    wait.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, deadlines: Deadlines) -> None:
        self._endpoint = endpoint
        self._now = deadlines.now
        self._asked = float("-inf")
        self._last = False
        self._waiting: list[Deferred[bool]] = []

    def ask(self) -> Deferred[bool]:
        """The last answer while it is fresh, else that of one probe, for all who ask meanwhile.
        Never fails."""
        if self._now() - self._asked < PROBE_INTERVAL:
            return succeed(self._last)
        # One for each who waits: a client that leaves cancels its own and not the probe.
        answer: Deferred[bool] = Deferred()
        self._waiting.append(answer)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._probe())
        return answer

    async def _probe(self) -> None:
        self._last = await self._connectable()
        self._asked = self._now()
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer.callback(self._last)

    async def _connectable(self) -> bool:
        """Whether a connection can be made; it is closed at once."""
        probe = Factory.forProtocol(_Close)
        probe.noisy = False
        try:
            await self._endpoint.connect(probe)
        except Exception:
            return False
        return True
