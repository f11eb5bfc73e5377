"""One connection to Redis, logged in, on which scripts are run.

txredisapi speaks the protocol. Its own pool would stop for ever after a refused AUTH, wait up to
ten seconds before it connects again, and verify no certificate: what connects is here. When to
connect, and what holds while there is no connection, is for `redislink`.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TooLate  # that of addTimeout
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from txredisapi import RedisProtocol, ResponseError

from infergate.access.redisurl import CONNECT, SharedState
from infergate.access.shared import RedisAway
from infergate.reactor.writing import outlet

_CLUSTER = ("MOVED", "ASK ", "CROSSSLOT", "CLUSTERDOWN")


async def connected(
    reach: Callable[[], IStreamClientEndpoint], state: SharedState, clock: IReactorTime
) -> Any:
    """Connect to Redis by the endpoint that `reach` makes, and return a connection of txredisapi's
    that is logged in and may be written to. Called by `RedisLink` for each attempt, and by
    ``infergate check``; both give it a time limit of their own, and close what it returns. Raises
    whatever keeps it from that, such as a `ConnectError`, a `RedisAway` or a `ResponseError`, of
    which `away_reason` says why."""
    factory = _Factory(state, clock)
    protocol: Any = await reach().connect(factory)
    try:
        await factory.ready
        # One that may not be written to, or is still loading, answers a PING.
        await protocol.set("infergate:alive", "1", expire=60)
    except BaseException:
        protocol.transport.abortConnection()
        raise
    return protocol


class Connection(RedisProtocol):  # type: ignore[misc]  # of a library without types
    """One connection of txredisapi's, with a quicker way to run a script. `connected` makes it, and
    `RedisLink` asks; it tells its factory what becomes of it.

    `asked` has, in their order, the times at which the commands were sent whose answers are still
    to come."""

    def __init__(self, state: SharedState, clock: IReactorTime) -> None:
        super().__init__(password=state.password, username=state.username, dbid=state.database)
        self._now = clock.seconds
        self.asked: deque[float] = deque()

    def connectionMade(self) -> Any:
        """Send AUTH and SELECT. Called by Twisted."""
        self._outlet = outlet(self.transport)
        return super().connectionMade()

    def run(self, script: str, keys: Sequence[str], text: str) -> Deferred[Any]:
        """Have Redis run a script, and return its answer. What is asked in one iteration of the
        event loop that is crowded is sent together at its end. Called by `RedisLink.run`.

        It does what txredisapi's `eval` does, which makes the digest of the text anew for each
        question, four Deferreds in place of one, and has epoll say when it may write.
        """
        digest = _digest(script)
        if digest not in self.script_hashes:
            return cast("Deferred[Any]", self.eval(script, keys, [text]))
        words = ("EVALSHA", digest, str(len(keys)), *keys, text)
        self._outlet.write_batched(_command([word.encode() for word in words]))
        self.asked.append(self._now())
        answer = self.replyQueue.get().addCallback(self.handle_reply)
        return cast("Deferred[Any]", answer.addErrback(self._forgotten, script, keys, text))

    def _forgotten(self, failure: Failure, script: str, keys: Sequence[str], text: str) -> Any:
        """Send the text of a script that Redis has forgotten; any other failure is passed on.
        Called for an answer of `run` that fails."""
        if not failure.check(ResponseError) or not str(failure.value).startswith("NOSCRIPT"):
            return failure
        self.script_hashes.discard(_digest(script))
        return self.eval(script, keys, [text])

    def execute_command(self, *words: Any, **options: Any) -> Any:
        """Send any other command, behind what waits to be sent, and return its answer. Called by
        txredisapi's methods."""
        self._outlet.flush()
        answer = super().execute_command(*words, **options)
        self.asked.append(self._now())
        return answer

    def replyReceived(self, reply: Any) -> None:
        """Hand the next answer to the oldest question. Called by txredisapi."""
        if self.asked:
            self.asked.popleft()
        super().replyReceived(reply)

    def connectionLost(self, reason: Failure) -> None:
        """Tell the factory why the connection ended: a certificate, for example. txredisapi keeps
        that to itself. Called by Twisted."""
        self.factory.connectionError(away_reason(reason))
        super().connectionLost(reason)


class _Factory(Factory):
    """Makes one connection of txredisapi's; `ready` fires after AUTH and SELECT, and fails where
    they are refused, or the connection is lost before.

    txredisapi asks its factory for `isLazy`, `connectionError` and `stopTrying`, which its own
    factories have. For one that is lazy it logs a refused AUTH in words of its own.
    """

    isLazy = False
    noisy = False

    def __init__(self, state: SharedState, clock: IReactorTime) -> None:
        self._state, self._clock = state, clock
        self.ready: Deferred[None] = Deferred()

    def buildProtocol(self, address: object) -> RedisProtocol:
        """Return a connection that will send AUTH and SELECT by itself as far as the `state` asks
        for them; Twisted calls it once, when the socket is connected."""
        protocol = Connection(self._state, self._clock)
        protocol.factory = self
        protocol.whenConnected().addCallback(self._connected)
        return protocol

    def _connected(self, _: object) -> None:
        """Fire `ready`; called by txredisapi's connection once it has logged in."""
        if not self.ready.called:
            self.ready.callback(None)

    def connectionError(self, why: str) -> None:
        """Fail `ready` with a `RedisAway` that says `why`. Called by txredisapi where it cannot log
        in, and by `Connection` when the connection is lost."""
        if not self.ready.called:
            self.ready.errback(RedisAway(why.removeprefix("Redis error: ")))

    def stopTrying(self) -> None:
        """Do nothing: called by txredisapi before `connectionError`, and nothing here tries by
        itself."""


@lru_cache
def _digest(script: str) -> str:
    """Return the digest by which Redis knows a script that it was sent."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _command(words: Sequence[bytes]) -> bytes:
    """Return a command as Redis reads it: how many words it has, and each with its length."""
    parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n%b" % (len(words), b"".join(parts))


def away_reason(failure: Failure) -> str:
    """Return why Redis could not be asked, in one line for the log. Redis's errors hold no
    password. Called with the failure of an attempt, of an answer, or of ``infergate check``."""
    if failure.check(TooLate):
        return f"no connection within {CONNECT} s"
    text = " ".join(failure.getErrorMessage().split())
    if failure.check(ResponseError) and text.startswith(_CLUSTER):
        return "Redis Cluster is not supported"
    return text or type(failure.value).__name__
