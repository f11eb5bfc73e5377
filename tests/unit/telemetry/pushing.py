"""A collector in memory, which the tests of pushing share."""

from __future__ import annotations

import io
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, Logger
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from infergate.telemetry.collector import Collector

URL = "http://collector:4318/v1/metrics"


class Response:
    """An answer, whose body is delivered over `transport`."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.transport = StringTransport()

    def deliverBody(self, protocol: Any) -> None:
        protocol.makeConnection(self.transport)


@implementer(IAgent)
class Agent:
    """Takes requests, each of which hangs until the test answers it."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes, dict[bytes, list[bytes]], bytes]] = []
        self.answers: list[Deferred[Any]] = []
        self.aborted = 0

    def request(self, method: Any, uri: Any, headers: Any = None, bodyProducer: Any = None) -> Any:
        verifyObject(IBodyProducer, bodyProducer)
        body = io.BytesIO()
        bodyProducer.startProducing(body)
        assert len(body.getvalue()) == bodyProducer.length
        fields = dict(headers.getAllRawHeaders())
        self.requests.append((method, uri, fields, body.getvalue()))
        self.answers.append(Deferred(self._aborted))
        return self.answers[-1]

    def _aborted(self, _: Any) -> None:
        self.aborted += 1


class OneCollector(SynchronousTestCase):
    """A collector of which nothing is answered by itself; what `module` logs is in `events`."""

    module: Any

    def setUp(self) -> None:
        self.clock = Clock()
        self.agent = Agent()
        self.collector = Collector(self.agent, self.clock, URL, {"api-key": "canary"})
        self.events: list[LogEvent] = []
        self.patch(self.module, "_log", Logger(observer=self.events.append))
