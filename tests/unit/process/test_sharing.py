"""Ports that several processes listen on."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.internet.tcp import makeBinding
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from infergate.config.settings import Settings
from infergate.config.sources import SettingsError
from infergate.process.sharing import CAN_BE_REUSED, ReusingPorts, is_inherited, reactor_for


class Sharing(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.factory = Factory()

    def test_port_is_bound_with_reuse(self) -> None:
        """Other processes may listen there too, with TLS or without it."""
        ports = ReusingPorts(self.reactor)
        ports.listenTCP(8080, self.factory, 7, "127.0.0.1")
        ports.listenSSL(8443, self.factory, CertificateOptions(), interface="::1")
        plain, tls = self.reactor.tcpServers
        bound: Any = makeBinding("127.0.0.1", 8080, reuseAddress=True, reusePort=True)
        self.assertEqual(plain, (bound, self.factory, 7, "127.0.0.1"))
        bound = makeBinding("::1", 8443, reuseAddress=True, reusePort=True)
        self.assertEqual((tls[0], tls[3]), (bound, "::1"))
        secured: Any = tls[1]
        self.assertIsInstance(secured, TLSMemoryBIOFactory)
        self.assertIs(secured.wrappedFactory, self.factory)
        self.assertEqual(self.reactor.sslServers, [])

    def test_all_else_is_the_reactors(self) -> None:
        """Time and calls are those of the reactor that stands behind."""
        self.reactor.advance(3)
        self.assertEqual(ReusingPorts(self.reactor).seconds(), 3)

    def test_only_who_asks_for_it_shares(self) -> None:
        """Without REUSE_PORT the port is opened as ever; with it, whatever has a port of its own
        is opened for several."""
        self.assertIs(reactor_for(Settings(), self.reactor), self.reactor)
        for listen in (None, "haproxy:tcp:1", *(f"{kind}:1" for kind in CAN_BE_REUSED)):
            settings = Settings(reuse_port=True, listen=listen)
            self.assertIsInstance(reactor_for(settings, self.reactor), ReusingPorts, listen)

    def test_endpoints_without_a_port_are_refused(self) -> None:
        """REUSE_PORT for a socket that has no port is named as the setting that is wrong."""
        for listen in ("unix:/run/gate", "systemd:domain=INET:index=0", "haproxy:unix:/a"):
            settings = Settings(reuse_port=True, listen=listen)
            error = self.assertRaises(SettingsError, reactor_for, settings, self.reactor)
            self.assertTrue(str(error).startswith("REUSE_PORT='true': must be for PORT"), error)

    def test_sockets_of_systemd_are_inherited(self) -> None:
        """A socket that systemd opened may be in other processes too; no other is."""
        for listen, inherited in (
            (None, False),
            ("tcp:8080", False),
            ("unix:/systemd", False),
            ("systemd:domain=INET:index=0", True),
            ("haproxy:systemd:domain=INET:index=0", True),
        ):
            self.assertIs(is_inherited(Settings(listen=listen)), inherited, listen)
