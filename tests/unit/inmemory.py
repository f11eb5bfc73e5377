"""A whole gateway on a `Clock`: clients and a backend that are bytes, and no socket.

`Running` is a gateway, `Client` a connection to it, `BackendConnection` one that it made. Both
ends of the wire are in the hands of the test: what comes when, what is taken, how it ends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Sequence
from ipaddress import ip_network
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from infergate.access.auth import IAuthenticator
from infergate.access.keysfile import keys_from_text
from infergate.access.ratelimit import parse_rate
from infergate.api.operations import NAMES
from infergate.backend.call import Timeouts
from infergate.compose import compose
from infergate.config.settings import Settings
from infergate.process.notify import Notifier
from infergate.process.service import GatewayService
from infergate.server.connection import Connection, EdgeLimits
from infergate.server.edge import Edge
from infergate.server.origins import NO_ORIGINS, parse_origins
from infergate.server.parser import Limits
from infergate.telemetry.jsonlines import fields
from infergate.telemetry.record import Record

CLIENT = "192.0.2.1"
CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"

READ_SIZE = 65536
_QUIET, _ = os.pipe()  # a file descriptor with nothing to read, ever


class Output:
    """Standard output, or another target of the log that is no file, always read."""

    def __init__(self) -> None:
        self.written = b""

    def send(self, data: bytes) -> int:
        self.written += data
        return len(data)

    def fileno(self) -> int:
        """No terminal."""
        return -1


@attrs.frozen
class Answer:
    """One response. `whole` says that it had its end: all of its length, or its last chunk."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code, in whichever of the two formats."""
        error = self.json["error"]
        return error if isinstance(error, str) else error["code"]


def parse_answers(data: bytes, *, bodiless: bool = False) -> list[Answer]:
    """Every response in `data`; with `bodiless`, those to HEAD."""
    answers = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("ascii").split("\r\n")
        version, status = status_line.split(" ", 2)[:2]
        assert version == "HTTP/1.1", status_line
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} is there twice"
            headers[name.lower()] = value
        body, whole = b"", True
        if int(status) >= 200 and status != "204" and not bodiless:
            body, whole, data = _take_body(headers, data)
        answers.append(Answer(int(status), headers, body, whole))
    return answers


def _take_body(headers: dict[str, str], data: bytes) -> tuple[bytes, bool, bytes]:
    if "content-length" in headers:
        length = int(headers["content-length"])
        return data[:length], len(data) >= length, data[length:]
    if "transfer-encoding" not in headers:
        return data, False, b""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body += data[:length]
        assert data[length : length + 2] == b"\r\n"
        data = data[length + 2 :]
        if not length:
            return body, True, data
    return body, False, b""


def request(
    method: str, path: str, *headers: str, body: bytes | None = None, version: str = "1.1"
) -> bytes:
    """The bytes of a request, with `Content-Length` where there is a body."""
    lines = [f"{method} {path} HTTP/{version}", "Host: gateway", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def chat_body(prompt: str = "hello", **members: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": prompt}], **members}).encode()


def chat(*headers: str, version: str = "1.1", **members: Any) -> bytes:
    """The bytes of a chat request."""
    return request(
        "POST",
        CHAT,
        "Content-Type: application/json",
        *headers,
        body=chat_body(**members),
        version=version,
    )


def event(document: Any) -> bytes:
    """One server-sent event."""
    return b"data: %b\n\n" % json.dumps(document).encode()


def delta(text: str, **choice: Any) -> bytes:
    """One chunk of a streamed completion."""
    return event(
        {
            "id": "backend",
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": text}, **choice}],
        }
    )


def completion(content: str = "hi", **members: Any) -> bytes:
    """A backend's plain reply."""
    return json.dumps(
        {
            "id": "backend",
            "object": "chat.completion",
            "created": 1,
            "model": "tiny",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
            **members,
        }
    ).encode()


@implementer(ITCPTransport)
class Wire(StringTransport):
    """The gateway's end of a TCP connection.

    As with a real one, closing is over in a later turn of the reactor, an orderly close waits
    until what was written is taken, and nothing is read while reading is paused.
    """

    protocol: IProtocol

    def __init__(self, clock: Clock, peer: str) -> None:
        super().__init__(
            IPv4Address("TCP", "127.0.0.1", 8080), IPv4Address("TCP", peer, 50000), lenient=True
        )
        self._clock = clock
        self._arrived: list[bytes] = []
        self.descriptor = _QUIET
        self.no_delay = False
        self.stalled = False
        self.half_closed = False
        self.aborted = False
        self.lost = False

    def deliver(self, data: bytes) -> None:
        """Bytes from the other side, in pieces no larger than a reactor reads at once."""
        self._arrived += [data[at : at + READ_SIZE] for at in range(0, len(data), READ_SIZE)]
        self.read_on()

    def read_on(self) -> None:
        while self._arrived and self.producerState == "producing" and not self.disconnecting:
            self.protocol.dataReceived(self._arrived.pop(0))

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._clock.callLater(0, self.read_on)

    def write(self, data: bytes) -> None:
        # As with a socket: what is written after `loseConnection` still goes out.
        if not self.lost and not self.aborted and not self.half_closed:
            super().write(data)

    def unregisterProducer(self) -> None:
        """Unlike `StringTransport`, a socket does not mind to have none."""
        self.producer = None
        if self.disconnecting:
            self.close_when_taken()

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self.close_when_taken()

    def close_when_taken(self) -> None:
        if not self.stalled and self.producer is None:
            self._clock.callLater(0, self.lose, ConnectionDone())

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.disconnecting = self.aborted = True
        self._clock.callLater(0, self.lose, ConnectionAborted())

    def lose(self, reason: Exception) -> None:
        if not self.lost:
            self.lost = self.disconnecting = True
            self.connected = False
            self.protocol.connectionLost(Failure(reason))

    def fileno(self) -> int:
        return self.descriptor

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def getTcpNoDelay(self) -> bool:
        return self.no_delay

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Not looked at."""

    def getTcpKeepAlive(self) -> bool:
        return False


class Hold(Resource):
    """Leaves every request to the test."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render(self, request: Any) -> int:
        self.requests.append(request)
        return NOT_DONE_YET


class Peer:
    """The far end of one wire."""

    def __init__(self, clock: Clock, wire: Wire) -> None:
        self.clock = clock
        self.wire = wire

    def send(self, data: bytes) -> None:
        self.wire.deliver(data)
        self.clock.advance(0)

    def trickle(self, data: bytes, seconds: float) -> None:
        """One byte, and then a pause, and so on, until the gateway has had enough."""
        for index in range(len(data)):
            if self.closed:
                break
            self.send(data[index : index + 1])
            self.clock.advance(seconds)

    def close(self) -> None:
        """Close in an orderly way."""
        self.wire.lose(ConnectionDone())
        self.clock.advance(0)

    def shut(self) -> None:
        """Close the writing side alone."""
        self.wire.read_on()
        self.wire.protocol.readConnectionLost()
        self.clock.advance(0)

    def reset(self) -> None:
        self.wire.lose(ConnectionLost())
        self.clock.advance(0)

    @property
    def closed(self) -> bool:
        """The gateway's side has closed, for writing at the least."""
        return self.wire.disconnecting or self.wire.half_closed

    @property
    def received(self) -> bytes:
        return self.wire.value()


class Client(Peer):
    """A connection of a client."""

    def __init__(self, clock: Clock, edge: Edge, wire: Wire) -> None:
        super().__init__(clock, wire)
        self.connection = edge.buildProtocol(wire.getPeer())
        wire.protocol = self.connection
        self.connection.makeConnection(wire)
        clock.advance(0)

    connection: Connection

    def answers(self, *, bodiless: bool = False) -> list[Answer]:
        return parse_answers(self.received, bodiless=bodiless)

    @property
    def answer(self) -> Answer:
        """The one answer that there is."""
        (answer,) = self.answers()
        return answer

    def ask(self, data: bytes) -> Answer:
        """Send, and give the last answer."""
        self.send(data)
        return self.answers()[-1]

    def stop_reading(self) -> None:
        """Take nothing any more, as the transport notices after its buffer is full."""
        self.wire.stalled = True
        if self.wire.producer is not None:
            self.wire.producer.pauseProducing()

    def read_again(self) -> None:
        self.wire.stalled = False
        if self.wire.producer is not None:
            self.wire.producer.resumeProducing()
        elif self.wire.disconnecting:
            self.wire.close_when_taken()
        self.clock.advance(0)


@attrs.frozen
class Received:
    """A request as the backend got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class BackendConnection(Peer):
    """A connection that the gateway made to its backend."""

    @property
    def requests(self) -> list[Received]:
        requests, data = [], self.received
        while data:
            head, _, data = data.partition(b"\r\n\r\n")
            request_line, *lines = head.decode("latin-1").split("\r\n")
            method, path, _ = request_line.split(" ")
            headers: dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(": ")
                assert name.lower() not in headers, f"{name} is there twice"
                headers[name.lower()] = value
            length = int(headers.get("content-length", "0"))
            requests.append(Received(method, path, headers, data[:length]))
            data = data[length:]
        return requests

    @property
    def request(self) -> Received:
        """The one request that there was."""
        (received,) = self.requests
        return received

    def answer(
        self, body: bytes = b"", *headers: str, status: int = 200, kind: str = "application/json"
    ) -> None:
        """A whole answer."""
        lines = [
            f"HTTP/1.1 {status} Whatever",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def begin(self, *headers: str, kind: str = "text/event-stream") -> None:
        """The head of an answer in chunks."""
        lines = [
            "HTTP/1.1 200 OK",
            f"Content-Type: {kind}",
            "Transfer-Encoding: chunked",
            *headers,
        ]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    def piece(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.send(b"0\r\n\r\n")

    @property
    def paused(self) -> bool:
        return self.wire.producerState == "paused"


@implementer(IStreamClientEndpoint)
class BackendPort:
    """Where the backend listens: each attempt is accepted, unless `failures` holds what comes
    of it, or `silent` leaves it without an answer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.attempts = 0
        self.descriptor = _QUIET
        self.failures: list[Exception] = []
        self.silent = False
        self.abandoned = 0
        self.connections: list[BackendConnection] = []
        self._waiting: list[Deferred[IProtocol]] = []

    def give_up(self) -> None:
        """Fail the attempts that were left without an answer."""
        while self._waiting:
            self._waiting.pop(0).errback(ConnectError())

    def refuse(self, times: int = 1) -> None:
        self.failures += [ConnectError()] * times

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        self.attempts += 1
        if self.silent:
            self._waiting.append(Deferred(self._cancelled))
            return self._waiting[-1]
        if self.failures:
            return fail(self.failures.pop(0))
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9000))
        assert protocol is not None
        wire = Wire(self._clock, "127.0.0.1")
        wire.descriptor = self.descriptor
        wire.protocol = protocol
        self.connections.append(BackendConnection(self._clock, wire))
        protocol.makeConnection(wire)
        return succeed(protocol)

    def _cancelled(self, attempt: Deferred[IProtocol]) -> None:
        self.abandoned += 1
        attempt.errback(ConnectingCancelledError(IPv4Address("TCP", "127.0.0.1", 9000)))


class Running:
    """A gateway that runs: an echo, or with `backend` in front of `port`.

    What else there is to say has the names of the settings, and their meaning.
    """

    def __init__(
        self,
        *,
        backend: bool = False,
        keys: str | None = None,
        authenticator: IAuthenticator | None = None,
        rate: str | None = None,
        error_format: str = "code",
        cors: str | None = None,
        default_model: str = "default",
        trusted: str | None = None,
        metrics_apart: bool = False,
        timeouts: Timeouts | None = None,
        retries: int = 1,
        backend_api_key: str | None = None,
        health_path: str = "",
        forward: tuple[bytes, ...] = (),
        give_back: tuple[bytes, ...] = (),
        max_response: int = 1 << 20,
        max_event: int = 1 << 16,
        keepalive: float = 0,
        routes: Collection[str] = NAMES,
        framing: Limits | None = None,
        wrap: Callable[[Any], Any] | None = None,
        **limits: Any,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1000)  # so that no moment is 0
        self.records: list[Record] = []
        self.port = BackendPort(self.clock)
        framing = framing or Limits()
        timeouts = timeouts or Timeouts()
        self.limits = EdgeLimits(framing, **limits)
        self.settings = Settings(
            backend_url="http://backend:9000/v1" if backend else None,
            backend_health_path=health_path,
            forward_headers=forward,
            return_headers=give_back,
            backend_api_key=backend_api_key,
            backend_timeout=timeouts.response,
            stream_idle_timeout=timeouts.idle,
            request_timeout=timeouts.total,
            backend_retries=retries,
            default_model=default_model,
            routes=frozenset(routes),
            max_tokens_limit=1000,
            max_body_bytes=framing.body,
            max_response_bytes=max_response,
            max_event_bytes=max_event,
            max_url_bytes=framing.target,
            max_header_bytes=framing.head,
            max_headers=framing.fields,
            max_requests_per_connection=self.limits.requests_per_connection,
            max_connections=self.limits.connections,
            header_timeout=self.limits.header_timeout,
            body_timeout=self.limits.body_timeout,
            keepalive_timeout=self.limits.keepalive_timeout,
            write_stall_timeout=self.limits.write_stall_timeout,
            # A key ring is an authenticator, and no more is asked of it.
            api_keys=authenticator if keys is None else keys_from_text(keys),  # type: ignore[arg-type]
            rate_limit=parse_rate(rate) if rate else None,
            trusted_proxies=(ip_network(trusted),) if trusted else (),
            metrics_listen="somewhere else" if metrics_apart else None,
            error_format=error_format,
            cors_origins=parse_origins(cors) if cors else NO_ORIGINS,
            sse_keepalive=keepalive,
        )
        self.wired = compose(
            self.settings,
            self.clock,
            lambda url, trust: self.port,
            log=self.records.append,
            **({} if wrap is None else {"wrap": wrap}),
        )
        self.deadlines, self.metrics = self.wired.deadlines, self.wired.metrics
        self.worker: Any = self.wired.worker
        self.gateway = self.wired.gateway
        self.edge, self.metrics_edge = self.wired.front, self.wired.metrics_edge

    def connect(self, peer: str = CLIENT, *, edge: Edge | None = None) -> Client:
        return Client(self.clock, edge or self.edge, Wire(self.clock, peer))

    def ask(self, data: bytes, peer: str = CLIENT) -> Answer:
        """One request on a connection of its own; its last answer."""
        client = self.connect(peer)
        answer = client.ask(data)
        client.close()
        return answer

    def get(self, path: str, *headers: str) -> Answer:
        return self.ask(request("GET", path, *headers))

    def wait(self, seconds: float) -> None:
        """Let time pass, in one leap."""
        self.clock.advance(seconds)

    def pass_time(self, seconds: float, step: float = 0.1) -> None:
        """Let time pass, step by step."""
        self.clock.pump([step] * round(seconds / step))

    @property
    def line(self) -> dict[str, object]:
        """The one line that the log has."""
        (record,) = self.records
        return fields(record)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [fields(record) for record in self.records]

    @property
    def outcomes(self) -> Sequence[object]:
        return [line["outcome"] for line in self.lines]

    @property
    def backend(self) -> BackendConnection:
        """The one connection made to the backend."""
        (connection,) = self.port.connections
        return connection

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    @property
    def in_flight(self) -> tuple[float | None, float | None]:
        """Requests and streams under way, as ``/metrics`` has them."""
        return (
            self.sample("infergate_requests_in_flight"),
            self.sample("infergate_streams_in_flight"),
        )

    def service(self, drain_timeout: float = 30, **other: Any) -> GatewayService:
        given: dict[str, Any] = {
            "clock": self.clock,
            "edge": self.edge,
            "metrics_edge": self.metrics_edge,
            "ports": (),
            "let_go": lambda: succeed(None),
            "notifier": Notifier({}, self.clock),
            "observer": lambda event: None,
            "pools": self.wired.pools,
        }
        return GatewayService(drain_timeout=drain_timeout, **given | other)
