"""How a server is connected to: addresses, TLS, a time limit."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectionLost,
    DNSLookupError,
    TimeoutError,  # noqa: A004
)
from twisted.internet.interfaces import IHandshakeListener, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from infergate.backend.causes import cause_of
from infergate.backend.endpoint import Endpoint, _Handshake, api_base, backend_endpoint
from tests.certificates import certificate
from tests.unit.inmemory import BackendPort, Peer, Wire


class Endpoints(SynchronousTestCase):
    def endpoint(self, url: str) -> Any:
        endpoint: Any = backend_endpoint(url, MemoryReactorClock(), 5)
        verifyObject(IStreamClientEndpoint, endpoint)
        self.assertEqual(endpoint.seconds, 5)
        return endpoint

    def test_address_needs_no_lookup(self) -> None:
        """An address needs no look-up, a name does."""
        for url, kind in (
            ("http://127.0.0.1:9000", TCP4ClientEndpoint),
            ("http://[::1]:9000", TCP6ClientEndpoint),
            ("http://backend:9000", HostnameEndpoint),
        ):
            self.assertIsInstance(self.endpoint(url).stream, kind, url)
            self.assertIsNone(self.endpoint(url).tls)

    def test_port_is_that_of_the_url_or_its_scheme(self) -> None:
        """The port is that of the URL, or of its scheme."""
        for url, port in (
            ("http://127.0.0.1:9000", 9000),
            ("http://127.0.0.1", 80),
            ("https://127.0.0.1", 443),
            ("https://127.0.0.1:9443", 9443),
        ):
            reactor = MemoryReactorClock()
            backend_endpoint(url, reactor, 5).connect(Factory()).addErrback(lambda _: None)
            host, connected, _, timeout, _ = reactor.tcpClients[0]
            self.assertEqual((host, connected, timeout), ("127.0.0.1", port, 5))

    def test_socket_is_connected_to_by_its_path(self) -> None:
        """unix:/path is a Unix socket, whose API has the base of a host that is this one."""
        reactor = MemoryReactorClock()
        backend_endpoint("unix:/run/x.sock", reactor, 5).connect(Factory())
        path, _, timeout, _ = reactor.unixClients[0]
        self.assertEqual((path, timeout), ("/run/x.sock", 5))
        self.assertEqual(api_base("unix:/run/x.sock"), "http://localhost/v1")
        self.assertEqual(api_base("http://a/v1"), "http://a/v1")

    def test_https_means_tls(self) -> None:
        """With https the connection is wrapped in TLS that knows the host's name."""
        self.assertIsNotNone(self.endpoint("https://backend:9443").tls)

    def test_connecting_has_a_time_limit_lookup_included(self) -> None:
        """Connecting has its deadline, and looking the name up is a part of it."""

        @implementer(IStreamClientEndpoint)
        class Silent:
            def __init__(self) -> None:
                self.given_up = 0

            def connect(self, factory: Any) -> Deferred[Any]:
                return Deferred(self._cancelled)

            def _cancelled(self, _: object) -> None:
                self.given_up += 1

        for endpoint, error in (
            (BackendPort(Clock()), TimeoutError),
            (Silent(), DNSLookupError),
        ):
            clock = Clock()
            endpoint.silent = True
            connecting = Endpoint(endpoint, None, 5, clock).connect(Factory())
            clock.advance(4.9)
            self.assertNoResult(connecting)
            clock.advance(0.2)
            self.failureResultOf(connecting, error)


CERTIFICATE, OTHER_CERTIFICATE = (
    PrivateCertificate.loadPEM(b"".join(certificate(serial, "backend"))) for serial in (1, 2)
)


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
        endpoint = Endpoint(self.port, options, 5, self.clock)
        verifyObject(IStreamClientEndpoint, endpoint)
        self.protocol = Collecting()
        return endpoint.connect(Factory.forProtocol(lambda: self.protocol))

    @property
    def wire(self) -> Wire:
        return self.port.connections[-1].wire

    def serve(self, own: PrivateCertificate = CERTIFICATE) -> Server:
        server = Server(self.clock, self.port.connections[-1], own)
        server.exchange()
        return server

    def test_interface(self) -> None:
        """What stands in for a protocol is told when the handshake is over."""
        verifyObject(IHandshakeListener, _Handshake(Factory()))

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
        error = self.failureResultOf(connecting, ConnectError).value
        self.assertRegex(str(cause_of(error)), "TLS handshake failed: .*wrong version number")
        connecting = self.connect()
        self.wire.lose(ConnectionLost())
        self.failureResultOf(connecting, ConnectError)

    def test_certificate_that_is_not_trusted(self) -> None:
        """So is one with a certificate of nobody who is trusted, or for another host."""
        for name, own, cause in (
            ("backend", OTHER_CERTIFICATE, "certificate verify failed: self-signed certificate"),
            ("other", CERTIFICATE, "certificate verify failed: it is for another host name"),
        ):
            connecting = self.connect(name)
            self.serve(own)
            error = self.failureResultOf(connecting, ConnectError).value
            self.assertEqual(cause_of(error), cause)
            self.assertIsNone(self.protocol.transport)

    def test_cancelled_in_the_handshake(self) -> None:
        """Who gives up in the handshake closes the connection."""
        connecting = self.connect()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertTrue(self.wire.aborted)
