"""How the backend is: asked rarely, for all who want to know.

    the health route answers    `State`     what ``/readyz`` says
    200                         WELL        ready
    404, 401, 501 and others    ALIVE       ready
    503                         LOADING     backend_loading
    500, 502, 504 and others    AWAY        backend_unavailable
    nothing                     AWAY        backend_unavailable

A backend without a health route is ALIVE where it takes a connection. Who asks while a question is
under way waits for its answer, and who asks within `PROBE_INTERVAL` of one gets that.

Those who ask are the route ``/readyz``, the scrape of the metrics, and each `Call` that waits long
for its answer to begin. A probe is a function that asks the backend once: `health_route` and
`connection` make one.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from infergate.backend.client import Backend
from infergate.reactor.deadlines import Deadlines
from infergate.telemetry.record import Record

PROBE_INTERVAL = 2.0
"""Seconds for which an answer about the backend holds."""


class State(Enum):
    """What is known of the backend. `WELL`: its health route answers 200. `ALIVE`: it answers, or
    takes connections, and says no more. `LOADING`: 503. `AWAY`: it cannot be reached, or fails."""

    WELL = auto()
    ALIVE = auto()
    LOADING = auto()
    AWAY = auto()

    @property
    def word(self) -> str:
        """What ``/readyz`` says of it: ``ready``, ``backend_loading`` or
        ``backend_unavailable``."""
        if self is State.LOADING:
            return "backend_loading"
        return "backend_unavailable" if self is State.AWAY else "ready"


@attrs.define(eq=False, repr=False)
class Health:
    """How the backend is by `probe`, which is asked at most once in `PROBE_INTERVAL`.

    `ask` may be called at any time, by any number of callers; the probe bounds how long they wait.
    `heard` is called with each new answer: whether it is a good one, WELL or ALIVE.
    """

    _probe: Callable[[], Awaitable[State]]
    _deadlines: Deadlines
    _heard: Callable[[bool], object] = lambda up: None
    _asked: float = attrs.field(default=-math.inf, init=False)
    _last: State = attrs.field(default=State.AWAY, init=False)
    _waiting: list[Deferred[State]] = attrs.field(factory=list, init=False)

    def ask(self) -> Deferred[State]:
        """Fire with the last answer while it is fresh, else with that of one probe, for all who ask
        meanwhile.

        Never fails: a probe that raises says AWAY. Cancelling gives up the wait, and not the probe.
        """
        if self._deadlines.now() - self._asked < PROBE_INTERVAL:
            return succeed(self._last)
        # One for each who waits: a client that leaves cancels its own and not the probe.
        answer: Deferred[State] = Deferred()
        self._waiting.append(answer)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._ask())
        return answer

    def well(self) -> Deferred[bool]:
        """Fire with whether the backend's health route says that it is well (WELL). Never fails.
        Each `Call` whose answer takes long asks."""
        return self.ask().addCallback(lambda state: state is State.WELL)

    async def _ask(self) -> None:
        """Ask the probe, and tell all who wait, and `heard`. For `ask`."""
        try:
            self._last = await self._probe()
        except Exception:
            # Whatever it is called: there was no answer.
            self._last = State.AWAY
        self._asked = self._deadlines.now()
        self._heard(self._last in (State.WELL, State.ALIVE))
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer.callback(self._last)


def health_route(
    backend: Backend, path: str, deadlines: Deadlines
) -> Callable[[], Awaitable[State]]:
    """Return a probe that asks the backend's health route at `path`, with a GET over a connection
    of its own; it raises what `Backend.send` does. Called where the gateway is wired, for a backend
    with `BACKEND_HEALTH_PATH`."""

    async def probe() -> State:
        """Return what the status of the answer says; its body is not read."""
        call = backend.call(Record(deadlines.now(), client="", request_id=""))
        response = await backend.send(call, "GET", path, b"Connection: close\r\n", None)
        call.discard()
        if response.code == 200:
            return State.WELL
        if response.code == 503:
            return State.LOADING
        # Any other answer is a sign of life: the route may not be there, or need another key.
        return State.AWAY if response.code >= 500 and response.code != 501 else State.ALIVE

    return probe


def connection(endpoint: IStreamClientEndpoint) -> Callable[[], Awaitable[State]]:
    """Return a probe that asks `endpoint` for a connection, and closes it at once; it raises what
    the endpoint does. Called where the gateway is wired, for a backend without a health route."""

    async def probe() -> State:
        """Return ALIVE once there is a connection."""
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        connected: Any = await endpoint.connect(factory)
        connected.transport.loseConnection()
        return State.ALIVE

    return probe
