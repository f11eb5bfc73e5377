"""The page and its feed, as the gateway serves them: what is now, and what was.

    records that begin and end     `History` keeps the last hour of them
    a browser opens the page       `document`, which opens the feed
    the feed                       `Feed` sends what was once, and then a line a second: what is
                                   now, and what has ended since the last one

Only the backend's readiness is asked for, once a second while a browser has the page open. An
*edge* is what serves one listening port: it knows its connections, and whether it drains.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Set
from datetime import datetime, timezone
from time import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from infergate import __version__
from infergate.server.edge import Edge
from infergate.server.request import Request
from infergate.status.feed import Feed
from infergate.status.history import History
from infergate.status.page import document, headers
from infergate.telemetry.batch import Batch
from infergate.telemetry.jsonlines import fields
from infergate.telemetry.record import Record

HTML = b"text/html; charset=utf-8"

HIDDEN = frozenset({"/metrics", "/status", "/"})
"""Routes whose exchanges are not in the list: scrapes, and the page itself."""

FEED_HEADERS = ((b"Cache-Control", b"no-store"), (b"X-Accel-Buffering", b"no"))


class StatusSite:
    """The status page of one gateway.

    `compose` makes it, and calls `look_at` with the listener whose clients it is about; the records
    of all exchanges come out of `batch`. The gateway calls `page` and `watch` for those who may see
    it. `facts` are members of the feed's ``state`` that never change; `under_way` returns the
    records that are not closed yet; `readiness` asks for the word that ``/readyz`` says.
    """

    def __init__(
        self,
        facts: dict[str, Any],
        batch: Batch,
        under_way: Callable[[], Set[Record]],
        readiness: Callable[[], Awaitable[str]],
        clock: IReactorTime,
    ) -> None:
        """Make the history and its feed; no timer runs before somebody looks."""
        self._facts = {"version": __version__, "started": time(), **facts}
        self._under_way = under_way
        self._readiness = readiness
        self._edges: list[Edge] = []
        self._word = "ready"
        self._history = History(batch, time, HIDDEN)
        self._feed = Feed(self._history, self._state, _line, time, clock)

    def look_at(self, edge: Edge) -> None:
        """Have the page tell of the clients of `edge`: whether it drains, and which of them do not
        read."""
        self._edges.append(edge)

    async def page(self, request: Request) -> None:
        """Answer with the page; returns when all of it is out of the gateway's hands.

        Whether the client may see it has been decided by then, as for `watch`.
        """
        await request.answer(document(), content_type=HTML, headers=headers())

    async def watch(self, request: Request) -> None:
        """Answer with the feed, until either side ends it. A HEAD request gets its header fields
        alone.

        Raises what the readiness raises before anything is sent, and, once the client has left,
        what `notifyFinish` fails with; the feed no longer knows the client then.
        """
        await self._ask()
        request.watch(FEED_HEADERS)
        if request.method == b"HEAD":
            return

        def send(event: bytes) -> None:
            """Write an event to the browser, or drop it where the browser does not read: one line
            less is better than lines held for it."""
            if request.channel is not None and not request.channel.paused:
                request.write(event)

        stop = self._feed.watch(send)
        try:
            # Fails when the client leaves.
            await request.notifyFinish()
        finally:
            stop()

    async def _ask(self) -> None:
        """Ask for the readiness, and keep its word for the next event. Called by `watch`, and for
        each event."""
        self._word = await self._readiness()

    def _state(self) -> dict[str, Any]:
        """Return what is now: the facts, the state of the gateway, and what the requests under way
        wait for.

        Called by the feed for each event. The backend's readiness is asked for, and not waited for:
        what is returned has the last answer.
        """
        Deferred.fromCoroutine(self._ask())
        under_way = self._under_way()
        waiting = {"client_body": 0, "backend_head": 0, "first_token": 0}
        for record in under_way:
            wait = _waits_for(record)
            if wait is not None:
                waiting[wait] += 1
        draining = any(edge.leaving for edge in self._edges)
        reading = sum(connection.paused for edge in self._edges for connection in edge.connections)
        return {
            **self._facts,
            "state": "draining" if draining else self._word,
            "in_flight": len(under_way),
            "streams": sum(record.stream for record in under_way),
            "waiting": {**waiting, "client_reading": reading},
        }


def _waits_for(record: Record) -> str | None:
    """Return what an operation under way waits for: ``client_body``, ``backend_head``,
    ``first_token``.

    None where its answer flows, or where it is no operation. Called by `StatusSite._state`, which
    counts them.
    """
    if record.operation is None:
        return None
    if record.backend_began is None:
        return "client_body"
    if record.backend_status is None:
        return "backend_head"
    return "first_token" if record.stream and record.first_token is None else None


def _line(ended: float, record: Record) -> dict[str, Any]:
    """Return the members of the log line of an exchange that ended at a time in Unix seconds.

    They are those of `jsonlines.fields`, with the time before them: ``2026-11-23T02:55:46.250Z``.
    Called by `Feed` for each exchange in an event.
    """
    timestamp = datetime.fromtimestamp(ended, timezone.utc).isoformat(timespec="milliseconds")
    return {"time": timestamp.removesuffix("+00:00") + "Z", **fields(record)}
