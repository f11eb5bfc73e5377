"""How a port is closed without losing who connects meanwhile."""

from __future__ import annotations

import socket
import sys
from typing import Any
from unittest import skipUnless

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.process.closing import HANDSHAKE, let_go


class Port:
    """What a listening port of Twisted's does, on a socket of this machine."""

    numberAccepts = 1

    def __init__(self, listening: socket.socket) -> None:
        self.socket = listening
        self.did: list[str] = []

    def doRead(self) -> None:
        self.did.append(f"accept {self.numberAccepts}")

    def connectionLost(self, reason: Any) -> None:
        self.did.append("close")


class LettingGo(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        self.address = listening.getsockname()
        self.port = Port(listening)

    def let_go(self, *, inherited: bool) -> Deferred[None]:
        return Deferred.fromCoroutine(let_go(self.port, self.clock, inherited=inherited))

    def connects(self) -> bool:
        with socket.socket() as client:
            client.settimeout(0.2)
            try:
                client.connect(self.address)
            except TimeoutError:
                return False
            return True

    @skipUnless(sys.platform == "linux", "the kernel can be told so on Linux alone")
    def test_no_connection_begins_while_the_last_are_accepted(self) -> None:
        """Who has connected is accepted, at any number; who comes later is neither accepted nor
        refused, and then the port is closed."""
        done = self.let_go(inherited=False)
        self.assertEqual(self.port.did, [])
        self.assertFalse(self.connects())
        self.clock.advance(HANDSHAKE)
        self.successResultOf(done)
        self.assertEqual(self.port.did, ["accept 65536", "close"])

    @skipUnless(sys.platform == "linux", "the kernel can be told so on Linux alone")
    def test_connections_that_there_are_go_on(self) -> None:
        """What is connected already is not disturbed."""
        with socket.create_connection(self.address) as client:
            self.let_go(inherited=False)
            server, _ = self.port.socket.accept()
            with server:
                client.sendall(b"asked")
                self.assertEqual(server.recv(9), b"asked")
                server.sendall(b"answered")
                self.assertEqual(client.recv(9), b"answered")

    def test_inherited_socket_stays_as_it_is(self) -> None:
        """Of a socket that other processes have too nothing more is accepted, and those others
        still get connections."""
        self.successResultOf(self.let_go(inherited=True))
        self.assertEqual(self.port.did, ["close"])
        self.assertTrue(self.connects())
