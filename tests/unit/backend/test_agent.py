"""The one origin: how it is connected to, and which connection a request goes out on."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionLost,
    TimeoutError,  # noqa: A004
)
from twisted.internet.interfaces import IHandshakeListener, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IResponse
from zope.interface.verify import verifyObject

from infergate.backend import agent
from infergate.backend.agent import OriginAgent
from infergate.reactor.deadlines import Deadlines
from infergate.reactor.epoll import Turn
from tests.unit.inmemory import BackendPort, Peer, Wire

URL = b"http://backend:9000/v1/models"


class Reactor:
    """A reactor whose turns are a test's: each deals with the events that are given."""

    def __init__(self) -> None:
        self._poller = self
        self._selectables: dict[int, Any] = {}
        self.doIteration = Turn(self)

    def poll(self, timeout: float, count: int) -> list[tuple[int, int]]:
        return []


class CrowdedTurn(SynchronousTestCase):
    """Requests that are sent in a turn of the reactor in which much happens."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.port = BackendPort(self.clock)
        self.reactor = Reactor()
        self.agent = OriginAgent(
            "http://backend:9000", self.port, Deadlines(self.clock), self.reactor
        )

    def send(self) -> Deferred[IResponse]:
        return self.agent.request(b"GET", URL)

    def end_turn(self) -> None:
        self.reactor.doIteration(0)

    def idle(self) -> None:
        """Leave one idle connection in the pool."""
        done = self.send()
        self.port.connections[-1].answer()
        self.successResultOf(done)

    def test_request_goes_out_at_the_end_of_the_turn(self) -> None:
        """A request of a crowded turn is sent when the turn ends, and answered like any other;
        outside of one it is sent at once."""
        self.idle()
        self.reactor.doIteration.crowded = True
        done = self.send()
        (connection,) = self.port.connections
        self.assertEqual(len(connection.requests), 1)
        self.end_turn()
        self.assertEqual(len(connection.requests), 2)
        connection.answer(b"x")
        self.assertEqual(self.successResultOf(done).code, 200)

    def test_connection_is_looked_at_when_the_request_is_written(self) -> None:
        """A connection on which something came before the request went out is not used for it:
        that would be taken for the answer."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        self.port.descriptor = reading
        self.idle()
        self.reactor.doIteration.crowded = True
        done = self.send()
        os.write(writing, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen")
        self.end_turn()
        stale, fresh = self.port.connections
        self.assertTrue(stale.wire.aborted)
        self.assertEqual(len(stale.requests), 1)
        fresh.answer(b"own", status=201)
        self.assertEqual(self.successResultOf(done).code, 201)

    def test_request_cancelled_before_the_end_of_the_turn_is_not_sent(self) -> None:
        """A request that is given up before its bytes went out never reaches the backend, and
        costs no connection."""
        self.idle()
        self.reactor.doIteration.crowded = True
        done = self.send()
        done.cancel()
        self.failureResultOf(done)
        self.end_turn()
        (connection,) = self.port.connections
        self.assertEqual(len(connection.requests), 1)
        self.assertFalse(connection.closed)


def certificate(name: str) -> PrivateCertificate:
    """A certificate for the host `name`, signed by itself."""
    pair = generate_private_key(SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(pair.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(1))
        .not_valid_after(now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(pair, SHA256())
    )
    key = pair.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    own = Certificate.load(signed.public_bytes(Encoding.DER))
    return PrivateCertificate.fromCertificateAndKeyPair(own, KeyPair.load(key))


CERTIFICATE = certificate("backend")
OTHER_CERTIFICATE = certificate("backend")


class Collecting(Protocol):
    """Keeps what it is sent."""

    transport: Any = None

    def __init__(self) -> None:
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


class Server:
    """The backend's side of TLS on one wire."""

    def __init__(self, clock: Clock, client: Peer, own: PrivateCertificate) -> None:
        self.clock, self.client = clock, client
        self.received = Factory.forProtocol(Collecting)
        options = CertificateOptions(privateKey=own.privateKey.original, certificate=own.original)
        self.tls = TLSMemoryBIOFactory(options, False, self.received, clock).buildProtocol(None)
        self.wire = Wire(clock, "127.0.0.1")
        self.wire.protocol = self.tls
        self.tls.makeConnection(self.wire)

    def exchange(self) -> None:
        """Carry bytes both ways until neither side has any."""
        while self.client.received or self.wire.value():
            for near, far in ((self.client.wire, self.wire), (self.wire, self.client.wire)):
                data = near.value()
                near.clear()
                if not far.lost:
                    far.deliver(data)
                self.clock.advance(0)


class Handshake(SynchronousTestCase):
    """An endpoint for TLS, and what becomes of the handshake."""

    def connect(self, name: str = "backend") -> Deferred[Any]:
        self.clock = Clock()
        self.port = BackendPort(self.clock)
        trusted = trustRootFromCertificates([Certificate(CERTIFICATE.original)])
        options = optionsForClientTLS(name, trustRoot=trusted)
        within = agent._Within(agent._Secured(self.port, options, self.clock), 5, self.clock)
        verifyObject(IStreamClientEndpoint, within)
        self.protocol = Collecting()
        return within.connect(Factory.forProtocol(lambda: self.protocol))

    @property
    def wire(self) -> Wire:
        return self.port.connections[-1].wire

    def serve(self, own: PrivateCertificate = CERTIFICATE) -> Server:
        server = Server(self.clock, self.port.connections[-1], own)
        server.exchange()
        return server

    def test_interface(self) -> None:
        """What stands in for a protocol is told when the handshake is over."""
        verifyObject(IHandshakeListener, agent._Handshake(Protocol()))

    def test_connected_when_the_handshake_is_over(self) -> None:
        """A connection is there when the handshake is over, and no sooner; then it carries bytes
        both ways."""
        connecting = self.connect()
        self.assertNoResult(connecting)
        self.assertIsNone(self.protocol.transport)
        server = self.serve()
        self.assertIs(self.successResultOf(connecting), self.protocol)
        self.protocol.transport.write(b"ping")
        self.clock.advance(0)
        server.exchange()
        server.tls.write(b"pong")
        self.clock.advance(0)
        server.exchange()
        self.assertEqual(server.tls.wrappedProtocol.data, b"ping")
        self.assertEqual(self.protocol.data, b"pong")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_handshake_that_hangs_is_too_late(self) -> None:
        """The handshake is a part of connecting, and under its deadline."""
        connecting = self.connect()
        self.clock.advance(4.9)
        self.assertNoResult(connecting)
        self.clock.advance(0.2)
        self.failureResultOf(connecting, TimeoutError)
        self.assertTrue(self.wire.aborted)

    def test_handshake_that_fails_was_no_connection(self) -> None:
        """A handshake that fails is a connection that was not made, whatever went wrong."""
        connecting = self.connect()
        self.port.connections[-1].send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.failureResultOf(connecting, ConnectError)
        connecting = self.connect()
        self.wire.lose(ConnectionLost())
        self.failureResultOf(connecting, ConnectError)

    def test_certificate_that_is_not_trusted(self) -> None:
        """So is one with a certificate of nobody who is trusted, or for another host."""
        for name, own in (("backend", OTHER_CERTIFICATE), ("other", CERTIFICATE)):
            connecting = self.connect(name)
            self.serve(own)
            self.failureResultOf(connecting, ConnectError)
            self.assertIsNone(self.protocol.transport)

    def test_cancelled_in_the_handshake(self) -> None:
        """Who gives up in the handshake closes the connection."""
        connecting = self.connect()
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.assertTrue(self.wire.aborted)
