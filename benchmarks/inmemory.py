"""A whole gateway without a socket: ``python -m benchmarks.inmemory plain 1000``.

`InMemory` starts the plugin as twistd does, from its settings to its log file, on a reactor that
connects bytes in memory; so it runs any version of the gateway, however that is wired inside.
`benchmarks.instructions` counts what it executes.

With ``plain N`` it serves N plain requests after a warm-up, whose heads are all the same, as an SDK
sends them; with ``varied N`` the same with an ``X-Request-ID`` of its own in each, as some proxies
send them; with ``unobserved N`` without metrics, status page and ``Server-Timing``, with
``traced N`` with all of these, and with metrics and traces of every request pushed to a collector,
which shows what these cost; with ``limited N`` and ``unlimited N`` with every limit on and with
none; with ``chunk N`` one stream of N chunks, each handed over in a read of its own, with
``chunk_of_many N`` ten in each read; with ``responses N`` or ``messages N`` that stream is one of
the dialect.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterable
from itertools import cycle, islice, repeat
from typing import Any

from twisted.application.service import Application
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.main import installReactor
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, globalLogBeginner
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.scripts.twistd import ServerOptions
from zope.interface import implementer

from benchmarks.question import EVERY_LIMIT, KEY, question, stream_of, with_id
from benchmarks.replies import END, ENDS, FINISH, HEAD, PLAIN, USAGE, chunk, delta

WARM_UP_REQUESTS = 50
WARM_UP_CHUNKS = 500
DIFFERENT_CHUNKS = 100
MANY = 10

COLLECTOR_PORT = 4318
SPANS_PUSHED = 512
"""Exchanges whose spans make a full batch, which is pushed."""
COLLECTED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
"""What the collector answers to each push."""

STEP = 0.001
"""Seconds that pass on the clock with each request or stream."""

_CLIENT = IPv4Address("TCP", "127.0.0.1", 50000)
_GATEWAY = IPv4Address("TCP", "127.0.0.1", 8080)


@implementer(ITCPTransport)
class Wire(StringTransport):
    """The gateway's end of a connection. What the gateway writes is there to `take`; what the far
    end sends is given to `protocol`, which is the gateway's."""

    protocol: Any

    def __init__(self, reactor: Reactor, descriptor: int) -> None:
        super().__init__(_GATEWAY, _CLIENT, lenient=True)
        self._reactor = reactor
        self._descriptor = descriptor
        self.written: list[bytes] = []
        self.write = self.written.append  # cheap, so that the gateway's own work is what counts

    def take(self) -> bytes:
        """All that was written since the last call."""
        written = b"".join(self.written)
        self.written.clear()
        return written

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.written.extend(data)

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self._reactor.callLater(0, self.protocol.connectionLost, Failure(ConnectionDone()))

    abortConnection = loseConnection

    def fileno(self) -> int:
        return self._descriptor

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is sent."""

    def getTcpKeepAlive(self) -> bool:
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing is sent."""


class Reactor(MemoryReactorClock):
    """Connects at once to a backend, or to the collector by its port; the gateway's end of each
    connection is in `backends` or `collectors`. Each has the descriptor of a socket on which
    nothing comes or waits to be sent, for who asks the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self._quiet, self._far_end = socket.socketpair()
        self.backends: list[Wire] = []
        self.collectors: list[Wire] = []

    def getThreadPool(self) -> ThreadPool:
        """One in which nothing runs: it only has to be there at the start."""
        return ThreadPool()

    def wire(self) -> Wire:
        return Wire(self, self._quiet.fileno())

    def connectTCP(self, host: str, port: int, factory: Any, *args: Any, **named: Any) -> Any:
        connector = super().connectTCP(host, port, factory, *args, **named)
        wire = self.wire()
        wire.protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
        (self.collectors if port == COLLECTOR_PORT else self.backends).append(wire)
        wire.protocol.makeConnection(wire)
        return connector


class InMemory:
    """The gateway, one client's connection to it, and its backend.

    Call it once in a process, and before anything imports a reactor. Without `views` nothing is
    made of a request's record but its log line.
    """

    def __init__(self, settings: dict[str, str], log_file: str, *, views: bool = True) -> None:
        self._reactor = reactor = Reactor()
        self.pushes = 0
        installReactor(reactor)
        if not views:
            leave_out_views()
        os.environ.update(settings)
        from infergate.tap import Options, makeService

        options = Options()
        options.parseOptions([])
        options.parent = twistd = ServerOptions()
        twistd.update(nodaemon=True, logfile=log_file)
        application = Application("infergate")
        service = makeService(options)
        service.setServiceParent(application)
        globalLogBeginner.beginLoggingTo([ILogObserver(application)], redirectStandardIO=False)
        service.startService()
        (_, factory, *_), *_ = reactor.tcpServers
        self._client = reactor.wire()
        self._client.protocol = factory.buildProtocol(_CLIENT)
        self._client.protocol.makeConnection(self._client)

    def plain(self, count: int) -> None:
        """So many requests, one after the other, each answered whole by the backend."""
        self._exchange(repeat(question(8080), count))

    def varied(self, count: int) -> None:
        """The same, each with an id of its own in its head."""
        asked = question(8080)
        self._exchange(with_id(asked, number) for number in range(count))

    def _exchange(self, requests: Iterable[bytes]) -> None:
        for asked in requests:
            self._ask(asked).protocol.dataReceived(PLAIN)
            self._reactor.advance(STEP)
            self._collect()
            answer = self._client.take()
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"not answered: {answer[:500]!r}")

    def chunks(self, count: int, at_once: int = 1) -> None:
        """One stream of so many chunks, so many in each read."""
        texts = [chunk(number) for number in range(DIFFERENT_CHUNKS)]
        self._stream(question(8080, stream=True), texts, FINISH + USAGE + END, count, at_once)

    def deltas(self, path: str, count: int) -> None:
        """The same in another dialect."""
        texts = [delta(path, number) for number in range(DIFFERENT_CHUNKS)]
        self._stream(stream_of(path), texts, ENDS[path], count)

    def _stream(
        self, asked: bytes, texts: list[bytes], end: bytes, count: int, at_once: int = 1
    ) -> None:
        backend = self._ask(asked)
        backend.protocol.dataReceived(HEAD)
        receive = backend.protocol.dataReceived
        endless = cycle(texts)
        for _ in range(count // at_once):
            receive(b"".join(islice(endless, at_once)))
        self._reactor.advance(STEP)
        backend.protocol.dataReceived(end)
        self._reactor.advance(STEP)
        answer = self._client.take()
        if answer.count(b"@") != count or not answer.endswith(b"\r\n0\r\n\r\n"):
            raise RuntimeError(f"not the whole stream: {answer[-500:]!r}")

    def _collect(self) -> None:
        """Have the collector take what is pushed, if anything is."""
        for wire in self._reactor.collectors:
            if wire.written:
                wire.take()
                self.pushes += 1
                wire.protocol.dataReceived(COLLECTED)
        if self._reactor.collectors:
            self._reactor.collectors = [
                wire for wire in self._reactor.collectors if not wire.disconnecting
            ]

    def _ask(self, asked: bytes) -> Wire:
        """Send a request; the connection on which the backend got it."""
        self._client.protocol.dataReceived(asked)
        self._reactor.advance(0)
        reactor = self._reactor
        reactor.backends = [wire for wire in reactor.backends if not wire.disconnecting]
        asked_of = [wire for wire in reactor.backends if wire.take()]
        if len(asked_of) != 1:
            raise RuntimeError(f"no request reached the backend: {self._client.take()[:500]!r}")
        return asked_of[0]


def leave_out_views() -> None:
    """Take out of the gateway what telemetry makes of a record beside its log line."""
    from infergate.server import request
    from infergate.telemetry.batch import Batch
    from infergate.telemetry.metrics import Metrics

    def nothing(*_: object) -> None:
        pass

    make_metrics = Metrics.__init__

    def make_none(metrics: Any, batch: Batch) -> None:
        make_metrics(metrics, batch)
        metrics.began = nothing

    Metrics.__init__ = make_none
    Batch.add = nothing
    request.server_timing = nothing


def limited(directory: str, options: str) -> dict[str, str]:
    """Settings with one key in a file, which has these options."""
    keys = os.path.join(directory, "keys")
    with open(keys, "w") as file:
        file.write(f"bench:{KEY} {options}\n")
    settings = everything_on() | {"API_KEYS_FILE": keys}
    del settings["API_KEYS"], settings["RATE_LIMIT"]
    return settings | ({"MAX_CONCURRENT_REQUESTS": "500"} if options else {})


def everything_on() -> dict[str, str]:
    """Settings with which every feature that costs something for each request is on."""
    return {
        "BACKEND_URL": "http://127.0.0.1:9000",
        "API_KEYS": f"bench:{KEY}",
        "RATE_LIMIT": "999999999/second",
        "MAX_REQUESTS_PER_CONNECTION": "1000000000",
    }


TRACED = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{COLLECTOR_PORT}",
    "OTEL_TRACES_SAMPLER": "always_on",
}
"""Settings with which all metrics and the spans of every request are pushed."""


def main(what: str, count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        log_file = os.path.join(directory, "requests.log")
        settings = everything_on()
        if what in ("limited", "unlimited"):
            settings = limited(directory, EVERY_LIMIT if what == "limited" else "")
        if what == "traced":
            settings |= TRACED
        gateway = InMemory(settings, log_file, views=what != "unobserved")
        gateway.plain(WARM_UP_REQUESTS)
        gateway.chunks(WARM_UP_CHUNKS)
        for path in ENDS:
            gateway.deltas(path, WARM_UP_CHUNKS)
        gateway.plain(WARM_UP_REQUESTS)
        if what in ("plain", "unobserved", "traced", "limited", "unlimited"):
            gateway.plain(count)
            # A batch of spans goes out when it is full, some of the warm-up's among them.
            if what == "traced" and gateway.pushes != count // SPANS_PUSHED:
                raise RuntimeError(f"{gateway.pushes} pushes of {count} requests")
        elif what == "varied":
            gateway.varied(count)
        elif what == "chunk":
            gateway.chunks(count)
        elif what == "chunk_of_many":
            gateway.chunks(count, MANY)
        elif f"/v1/{what}" in ENDS:
            gateway.deltas(f"/v1/{what}", count)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
