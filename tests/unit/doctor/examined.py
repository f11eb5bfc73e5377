"""A gateway that is examined in memory, and a backend that answers by a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.config.settings import Settings
from infergate.doctor.examine import examine
from infergate.doctor.report import FAIL as FAIL
from infergate.doctor.report import OK as OK
from infergate.doctor.report import WARN as WARN
from infergate.doctor.report import Check
from infergate.doctor.subject import Subject
from tests.unit.inmemory import (
    CHAT,
    DONE,
    BackendConnection,
    BackendPort,
    Received,
    completion,
    delta,
)

NOW = 1_795_756_627.0
"""What the operating system's clock says."""

Action = Callable[[BackendConnection], None]

LIST = json.dumps({"object": "list", "data": [{"id": "tiny", "object": "model"}]}).encode()
EVENTS = (delta("one"), delta(" two"), delta("", finish_reason="stop"), DONE)


def says(body: bytes = b"{}", *fields: str, status: int = 200) -> Action:
    """A whole answer."""
    return lambda connection: connection.answer(body, *fields, status=status)


def refuses(status: int, message: str) -> Action:
    return says(json.dumps({"error": {"message": message}}).encode(), status=status)


def listing(*names: str, **entry: Any) -> Action:
    """A list of models of these names, each with the members of `entry`."""
    data = [{"id": name, "object": "model", **entry} for name in names]
    return says(json.dumps({"object": "list", "data": data}).encode())


def streams(*pieces: bytes, end: bool = True) -> Action:
    """A stream, each piece in a read of its own."""

    def run(connection: BackendConnection) -> None:
        connection.begin()
        for piece in pieces:
            connection.piece(piece)
            connection.clock.advance(0.01)
        if end:
            connection.end()

    return run


def hangs(connection: BackendConnection) -> None:
    """No answer, ever."""


WELL: dict[str, Action] = {
    "/health": says(b'{"status":"ok"}'),
    "/v1/models": says(LIST),
    CHAT: says(completion()),
    f"{CHAT} stream": streams(*EVENTS),
}
"""What a good backend answers, by the path, and where a stream is asked for that word."""


class Reactor(Clock):
    """A clock whose threads call at once."""

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:
        call(*arguments)


class Examined(SynchronousTestCase):
    """One examination after another."""

    def examine(self, answers: dict[str, Action] | None = None, **settings: Any) -> list[Check]:
        """Everything that is found with a backend that is well but for `answers`; with an
        operation that it does not have it answers 404."""
        self.clock = Reactor()
        self.port = BackendPort(self.clock)
        self.prepare(self.port)
        self.answers = {**WELL, **(answers or {})}
        settings.setdefault("backend_url", "http://backend:9000/v1")
        settings.setdefault("routes", frozenset({"chat"}))
        self.subject = Subject(Settings(**settings), self.clock, self.endpoint, lambda: NOW)
        return self.run_to_its_end(self._all())

    def prepare(self, port: BackendPort) -> None:
        """For a test that does something to the port itself."""

    def endpoint(self, url: str, *_: object) -> BackendPort:
        """Where a URL leads: nowhere but to the backend, which has no TLS."""
        if url.startswith("https:"):
            elsewhere = BackendPort(self.clock)
            elsewhere.refuse()
            return elsewhere
        return self.port

    async def _all(self) -> list[Check]:
        return [check async for check in examine(self.subject)]

    def run_to_its_end(self, coroutine: Any) -> Any:
        """Answer each request as it comes, and let time pass."""
        running = Deferred.fromCoroutine(coroutine)
        heard: dict[BackendConnection, int] = {}
        began = self.clock.seconds()
        while not running.called:
            for connection in list(self.port.connections):
                if len(connection.received) > heard.get(connection, 0):
                    heard[connection] = len(connection.received)
                    self.answer(connection.requests[-1], connection)
            self.clock.advance(0.05)
            assert self.clock.seconds() - began < 45, "it takes too long"
        return self.successResultOf(running)

    def answer(self, request: Received, connection: BackendConnection) -> None:
        """Play what the table says."""
        streamed = request.body and request.json.get("stream") is True
        action = self.answers.get(request.path + (" stream" if streamed else ""))
        (action or refuses(404, "File Not Found"))(connection)

    def the(self, name: str, *arguments: Any, **settings: Any) -> Check:
        """The one check of this name."""
        found = [one for one in self.examine(*arguments, **settings) if one.name == name]
        self.assertEqual(len(found), 1, name)
        return found[0]

    def assert_said(self, check: Check, status: str, *words: str) -> None:
        """The check has this status, and its line these words; who is warned is told what to do."""
        self.assertEqual(check.status, status, check)
        self.assertEqual(check.hint == "", status == OK, check)
        for word in words:
            self.assertIn(word, check.line(utf8=True))
