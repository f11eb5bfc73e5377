"""A connection to Redis that is there or is away, and never waited for.

How to connect, and a connection once it is made, are in `redisconnection`.

    state        what a question gets               what ends the state
    first try    waits up to `ANSWER` s for it      the attempt: up, or away
    up           Redis's answer within `ANSWER` s   no answer in time, an error, a lost connection
    away         `RedisAway` at once                an attempt, one each `AGAIN` s: up
    stopped      `RedisAway` at once                nothing

The log has one line when Redis goes away and one when it is back, however many attempts fail in
between. An error that Redis answers counts as being away too: a script that is refused, because
Redis is loading, full, a replica or a cluster, limits nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from infergate.access.redisconnection import Connection, away_reason, connected
from infergate.access.redisurl import CONNECT, SharedState
from infergate.access.shared import RedisAway

ANSWER = 0.1
"""Seconds that a question may take. After that Redis counts as away."""

ITERATION = 0.001
"""Seconds that let the event loop read its sockets before a timer runs."""

AGAIN = 0.5
"""Seconds after which one that is away is asked again."""

PROBE = 2.0
"""Seconds after which one that is there is asked whether it still is, traffic or not."""

_log = Logger(namespace="infergate")


@attrs.define(eq=False, repr=False)
class RedisLink:
    """The one connection to Redis of this process. `start` first, then `run` at any time, `stop` at
    the end; all of it in the reactor's thread. Made by `wiring.stores`; `SharedLimits` calls `run`,
    and the service starts and stops it.

    `reach` makes a new endpoint for each attempt, so that a name is looked up again and a failover
    is followed; `state` is what Redis is told first, and what it is called in the log. Whenever
    Redis is back, `before_up` is awaited before anybody asks it again, and `on_up` is called then.

    One timer is all that a link needs: what comes next is a probe while it is up, and an attempt
    while it is away. Beside it an attempt has a time of its own, and the oldest question.
    """

    _reach: Callable[[], IStreamClientEndpoint]
    _clock: IReactorTime
    _state: SharedState
    before_up: Callable[[], Deferred[None]] = attrs.field(default=lambda: succeed(None), init=False)
    on_up: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    _protocol: Connection | None = attrs.field(default=None, init=False)
    _connecting: Deferred[None] | None = attrs.field(default=None, init=False)
    # Until the first attempt has ended, questions wait for it: a Redis that is there must not
    # miss the first requests.
    _first: list[Deferred[None]] | None = attrs.field(factory=list, init=False)
    _next: IDelayedCall | None = attrs.field(default=None, init=False)
    # The timer of the oldest question.
    _patience: IDelayedCall | None = attrs.field(default=None, init=False)
    _said_away: bool = attrs.field(default=False, init=False)
    _stopped: bool = attrs.field(default=False, init=False)

    @property
    def up(self) -> bool:
        """Whether a question would be asked now. Read by the metrics at each scrape."""
        return self._protocol is not None

    def start(self) -> None:
        """Begin to connect. The gateway does not wait for it: it may be served without. Called by
        the service once the ports listen; raises nothing."""
        self._attempt()

    def stop(self) -> Deferred[None]:
        """End the connection, once Redis has answered what it was told last: the charges of the
        last exchanges among it. The Deferred fires after `ANSWER` seconds and `ITERATION` at the
        most, and never fails. Nothing is tried or logged from then on. Called by the service when
        the last exchange has ended."""
        self._stopped = True
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        last: Deferred[Any] = succeed(None)
        if self._protocol is not None:
            last = self._answered(self._protocol, self._protocol.ping())
        return last.addBoth(lambda _: self._drop())

    def run(self, script: str, keys: Sequence[str], text: str) -> Deferred[Any]:
        """Have Redis run `script` with one argument, `text`, and return what it answers, as
        txredisapi reads it. Fails with `RedisAway`, after `ANSWER` seconds at the most, or twice
        that for one that has waited for the first attempt. Whether a script that got no answer was
        run nobody knows.

        The text of a script is sent once on each connection, and from then on its digest (EVALSHA);
        the text again where Redis has forgotten it. Called by `SharedLimits` for each
        question and each charge.
        """
        if self._protocol is not None:
            return self._answered(self._protocol, self._protocol.run(script, keys, text))
        if self._first is None:
            return fail(RedisAway())
        connected: Deferred[None] = Deferred()
        self._first.append(connected)
        connected.addTimeout(ANSWER, self._clock)
        connected.addErrback(_as_away)
        return connected.addCallback(lambda _: self.run(script, keys, text))

    def _answered(self, protocol: Connection, answer: Deferred[Any]) -> Deferred[Any]:
        """Return the `answer` of Redis, which fails with `RedisAway` where it is late or an error;
        Redis then counts as away. A question may be cancelled, which is no fault of Redis's: its
        answer is still awaited, and thrown away.

        `protocol` is the connection that was asked. Where another has taken its place meanwhile,
        what becomes of this answer says nothing of that one. Called for each question, for the
        probe, and at the stop.
        """
        if self._patience is None:
            self._patience = self._clock.callLater(ANSWER, self._look)
        return answer.addErrback(self._failed, protocol)

    def _failed(self, failure: Failure, protocol: Connection) -> Failure:
        """Take Redis for away because an answer failed, and raise `RedisAway`. The failure of a
        question that was cancelled is passed on. Called for each answer that fails."""
        if failure.check(CancelledError):
            return failure
        why = away_reason(failure)
        if protocol is self._protocol:
            self._away(why)
        raise RedisAway(why)

    def _look(self, late: float | None = None) -> None:
        """Look whether the oldest question has had its time, and go on looking while there is any;
        one timer for all, since Redis answers them in their order.

        Timers run before sockets are read: an answer that came while the event loop was busy is
        there one iteration after the time for it has passed. So Redis is away only where the
        question that was `late` in the last look has still no answer. Called by the timer.
        """
        self._patience = None
        if self._protocol is None or not self._protocol.asked:
            return
        oldest = self._protocol.asked[0]
        wait = oldest + ANSWER - self._clock.seconds()
        if wait > ITERATION:
            self._patience = self._clock.callLater(wait, self._look)
        elif late is None or late < oldest:
            self._patience = self._clock.callLater(ITERATION, self._look, oldest)
        else:
            self._away(f"no answer within {ANSWER} s")

    def _attempt(self) -> None:
        """Try once to connect, within `CONNECT` seconds. Called by `start`, and by the timer while
        Redis is away. Each outcome has the next call on the clock: a probe where it is up, another
        attempt where it is not. Raises nothing."""
        if self._stopped:
            return
        attempt = Deferred.fromCoroutine(self._connect())
        self._connecting = attempt.addTimeout(CONNECT, self._clock)
        self._connecting.addErrback(self._not_connected)

    async def _connect(self) -> None:
        """Connect, log in, and only then let questions be asked. A Redis that was away may have
        forgotten what was used: `before_up` has the budgets read anew before anybody counts by it,
        and `on_up` charges what could not be charged meanwhile. Raises whatever keeps it from that;
        the connection is closed then. Called by `_attempt`."""
        protocol = await connected(self._reach, self._state, self._clock)
        try:
            if self._said_away:
                await self.before_up()
        except BaseException:
            protocol.transport.abortConnection()
            raise
        self._connecting = None
        self._protocol = protocol
        protocol.whenDisconnected().addCallback(self._lost)
        if self._said_away:
            self._said_away = False
            _log.info("SHARED_STATE: Redis at {shown} is back", shown=self._state)
            self.on_up()
        self._end_first()
        self._later(PROBE, self._probe)

    def _not_connected(self, failure: Failure) -> None:
        """Note that an attempt failed or took too long; what failed is said in the log, but for an
        attempt that `stop` has ended. Called by `_attempt`."""
        self._connecting = None
        if not self._stopped:
            self._away(away_reason(failure))

    def _lost(self, protocol: Connection) -> None:
        """Note that a connection was lost. One that was given up before is nobody's loss. Called by
        txredisapi's connection; raises nothing."""
        if protocol is self._protocol:
            self._away("the connection was lost")

    def _away(self, why: str) -> None:
        """Take Redis for away from now on, and try again in `AGAIN` seconds. The log says so once,
        with `why`, which holds no password. Called where an attempt or an answer fails, and where
        the connection is lost."""
        self._drop()
        self._end_first()
        if not self._said_away and not self._stopped:
            self._said_away = True
            _log.warn("SHARED_STATE: Redis at {shown} is away: {why}", shown=self._state, why=why)
        self._later(AGAIN, self._attempt)

    def _drop(self) -> None:
        """Close the connection at once, if there is one. Answers that are awaited on it fail.
        Called where Redis is away, and at the stop; raises nothing."""
        protocol, self._protocol = self._protocol, None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if protocol is not None:
            protocol.transport.abortConnection()

    def _probe(self) -> None:
        """Ask whether Redis is still there; called by the timer each `PROBE` seconds while it is
        up. It writes, since a replica that may not be written to would answer a PING, and the
        limits could not be counted there."""
        protocol = self._protocol
        if protocol is not None:
            self._later(PROBE, self._probe)
            probe = protocol.set("infergate:alive", "1", expire=60)
            self._answered(protocol, probe).addErrback(lambda failure: failure.trap(RedisAway))

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        """Call `what` next, in `seconds`, in place of what was to be called; nothing once the link
        is stopped."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None if self._stopped else self._clock.callLater(seconds, what)

    def _end_first(self) -> None:
        """Let those who waited for the first attempt ask again, now that it has ended: they get an
        answer or `RedisAway`. Some may have given up before, after `ANSWER` seconds. Called
        whenever Redis comes or goes, and does nothing from the second call on."""
        waiting, self._first = self._first or [], None
        for one in waiting:
            if not one.called:
                one.callback(None)


def _as_away(failure: Failure) -> Any:
    """Raise `RedisAway` in place of the timeout of a question that waited to be asked. Called by
    `RedisLink.run`."""
    raise RedisAway(away_reason(failure))
