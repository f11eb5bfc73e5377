"""How a backend treats connections that idle, and whether its clock agrees with ours."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TooLate  # that of addTimeout

from infergate.api.operations import MODELS_PATH
from infergate.backend.agent import IDLE_CONNECTION, OriginAgent, Pool
from infergate.backend.connection import Connection
from infergate.backend.endpoint import api_base
from infergate.doctor.asking import FAULTS, Answer
from infergate.doctor.report import Check, ok, warn
from infergate.doctor.subject import Subject

IDLE, CLOCK = "idle connections", "clock"

APART = 30.0
"""Seconds by which two clocks may differ before tokens are refused as too old or too new."""


class _Watched(Pool):
    """A pool of one connection, which is told of when it idles and when it is lost.

    It stands in the place of the `Pool` of an `OriginAgent`, the backend client's agent, which
    keeps idle connections: this one keeps what `put` brings as `idle`, gives none out, and closes
    none.
    """

    def __init__(self, subject: Subject) -> None:
        """Make the pool with no connection in it. `lost` fires once, when the connection is
        gone."""
        super().__init__(subject.servers.deadlines)
        self.idle: Connection | None = None
        self.lost: Deferred[None] = Deferred()

    def put(self, connection: Connection) -> None:
        """Note that the exchange is over and the backend keeps the connection. The connection calls
        this."""
        self.idle = connection

    def remove(self, connection: Connection) -> None:
        """Fire `lost`: one side has closed the connection. The connection calls this."""
        if not self.lost.called:
            self.lost.callback(None)


async def idling(subject: Subject) -> list[Check]:
    """Return one check of whether the backend keeps an idle connection for as long as the gateway
    does: a request that is sent on one that it has just closed is lost.

    Asks for the models on a connection of its own and waits for the end of that, `IDLE_CONNECTION`
    seconds at the most. An empty list where it gets no answer, of which other checks say why.
    `examine` runs this beside the operations.
    """
    base = api_base(subject.url)
    agent = OriginAgent(base, subject.origin[1], subject.servers.deadlines)
    pool = agent.pool = _Watched(subject)
    try:
        await subject.asker(agent, base).get(MODELS_PATH)
    except FAULTS:
        return []
    if pool.idle is None:
        return [ok(IDLE, "the backend closes each connection with its answer")]
    began = subject.clock.seconds()
    try:
        await pool.lost.addTimeout(IDLE_CONNECTION, subject.clock)
    except TooLate:
        pool.idle.abort()
        return [ok(IDLE, f"the backend keeps them for {IDLE_CONNECTION:g} s and more")]
    kept = subject.clock.seconds() - began
    said = (
        f"the backend closes them after {kept:.1f} s, and the gateway keeps them for "
        f"{IDLE_CONNECTION:g} s: a request that is sent on one in that instant is lost"
    )
    hint = "raise the keep-alive time-out of the backend, or of a proxy in front of it, to 5 s"
    return [warn(IDLE, said, hint)]


def clocks(whose: str, answer: Answer, now: float) -> list[Check]:
    """Return one check of whether a server's clock agrees with ours, where its answer says by the
    field ``Date`` (RFC 9110, 6.6.1) what it shows; else an empty list.

    `whose` names the server in the line; `now` is our time in Unix seconds. Two clocks that are
    more than `APART` seconds apart are warned of. Called for the backend and for the issuer of
    JWTs.
    """
    try:
        apart = parsedate_to_datetime(answer.field(b"date")).timestamp() - now
    except (TypeError, ValueError, OverflowError):
        return []
    if abs(apart) <= APART:
        return [ok(CLOCK, f"it agrees with that of {whose}")]
    way = "ahead" if apart > 0 else "behind"
    said = f"that of {whose} is {abs(apart):.0f} s {way}, by the Date of its answer"
    return [warn(CLOCK, said, "set both by NTP: tokens seem to have expired, or to come early")]
