"""The TLS certificates of one listener, read again while it listens."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from infergate.process.certificates import Certificates
from infergate.process.watching import Refused
from tests.certificates import certificate


class Certified(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.factory = Factory.forProtocol(Protocol)
        self.reactor = MemoryReactorClock()

    def listen(self, description: str) -> Certificates:
        certificates = Certificates(description, self.factory)
        reactor = certificates.reactor_for(self.reactor)
        serverFromString(reactor, description).listen(self.factory)
        return certificates

    def serial(self) -> int:
        """The serial number of the certificate that the next handshake gets."""
        if self.reactor.sslServers:
            context = self.reactor.sslServers[0][2]
            factory: Any = TLSMemoryBIOFactory(context, False, self.factory)
        else:
            factory = self.reactor.tcpServers[0][1]
        server, wire = factory.buildProtocol(None), StringTransport()
        server.makeConnection(wire)
        client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        client.set_tlsext_host_name(b"localhost")
        client.set_connect_state()
        for _ in range(3):
            with contextlib.suppress(SSL.WantReadError):
                client.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                server.dataReceived(client.bio_read(65536))
            if wire.value():
                client.bio_write(wire.value())
                wire.clear()
        found = client.get_peer_certificate()
        assert found is not None
        return int(found.get_serial_number())


class Files(Certified):
    """`ssl:`, whose certificate and key are two files."""

    def write(self, serial: int) -> None:
        certificate_pem, key_pem = certificate(serial)
        (self.directory / "cert.pem").write_bytes(certificate_pem)
        (self.directory / "key.pem").write_bytes(key_pem)

    def made(self) -> Certificates:
        self.write(1)
        return self.listen(
            f"ssl:8443:privateKey={self.directory}/key.pem:certKey={self.directory}/cert.pem"
        )

    def test_next_handshake_has_the_new_certificate(self) -> None:
        """What was read is used for connections that come after the swap, not before it."""
        certificates = self.made()
        self.assertEqual(self.serial(), 1)
        self.write(2)
        change = certificates.read()
        self.assertEqual(self.serial(), 1)
        change.swap()
        self.assertEqual(self.serial(), 2)

    def test_what_cannot_be_used_changes_nothing(self) -> None:
        """A file that is missing, broken or does not fit its key is named by its path, and the
        old certificate stays."""
        certificates = self.made()
        cert, key = self.directory / "cert.pem", self.directory / "key.pem"
        good = cert.read_bytes(), key.read_bytes()
        for path, content in ((cert, certificate(3)[0]), (key, certificate(3)[1]), (cert, b"x"),
                              (cert, None)):  # fmt: skip
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            error = self.assertRaises(Refused, certificates.read)
            self.assertTrue(str(error).startswith(f"certificate {cert}: "), str(error))
            self.assertEqual(self.serial(), 1)
            cert.write_bytes(good[0])
            key.write_bytes(good[1])
        certificates.read().swap()
        self.assertEqual(self.serial(), 1)

    def test_files_are_known_by_their_names(self) -> None:
        """Both files are looked at for changes, and messages name the certificate's."""
        certificates = self.made()
        paths = [f"{self.directory}/key.pem", f"{self.directory}/cert.pem"]
        self.assertEqual((certificates.paths(), certificates.path), (paths, paths[1]))
        for description, path, files in (
            ("ssl:1:a.pem:b.pem", "b.pem", ["a.pem", "b.pem"]),
            ("ssl:1", "server.pem", ["server.pem"]),
            ("haproxy:ssl:1:privateKey=c\\:1.pem", "c:1.pem", ["c:1.pem"]),
            ("tcp:1", None, []),
            ("unix:/a", None, []),
            ("", None, []),
        ):
            certificates = Certificates(description, self.factory)
            self.assertEqual((certificates.path, certificates.paths()), (path, files), description)

    def test_listeners_without_tls_use_the_reactor_as_it_is(self) -> None:
        """Where there are no certificates nothing stands between listener and reactor."""
        self.assertIs(Certificates("tcp:1", self.factory).reactor_for(self.reactor), self.reactor)


class Directories(Certified):
    """`tls:`, which has a directory of certificates and keys."""

    def write(self, serial: int) -> None:
        (self.directory / "localhost.pem").write_bytes(b"".join(certificate(serial)))

    def made(self) -> Certificates:
        self.write(1)
        return self.listen(f"tls:{self.directory}:port=8443:interface=127.0.0.1")

    def test_next_handshake_has_the_new_certificate(self) -> None:
        """A certificate that was replaced in the directory is used from the swap on."""
        certificates = self.made()
        self.assertEqual(self.serial(), 1)
        self.write(2)
        change = certificates.read()
        self.assertEqual(self.serial(), 1)
        change.swap()
        self.assertEqual(self.serial(), 2)
        self.assertEqual(
            certificates.paths(), [str(self.directory), f"{self.directory}/localhost.pem"]
        )

    def test_directory_that_is_not_named_has_no_files(self) -> None:
        """What is wrong with the endpoint is said when it is listened on."""
        for description in ("tls", "tls:", "tls:port=8443"):
            self.assertEqual(Certificates(description, self.factory).paths()[1:], [], description)

    def test_folder_that_goes_while_it_is_looked_at_is_passed_over(self) -> None:
        """Kubernetes takes the old one away once it has swapped the link to the new one."""
        certificates = self.made()
        (self.directory / "old").mkdir()
        there = os.scandir

        def scandir(path: Any) -> Any:
            if str(path).endswith("old"):
                raise FileNotFoundError(path)
            return there(path)

        self.patch(os, "scandir", scandir)
        self.assertEqual(certificates.paths()[1:], [f"{self.directory}/localhost.pem"])

    def test_key_behind_a_password_is_refused(self) -> None:
        """Nobody can be asked for it."""
        certificates = self.made()
        key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        (self.directory / "localhost.pem").write_bytes(certificate(2)[0] + key)
        self.assertRaises(Refused, certificates.read)
        self.assertEqual(self.serial(), 1)

    def test_key_without_its_certificate_changes_nothing(self) -> None:
        """A key that fits no certificate, or a directory without one, is refused by its path."""
        certificates = self.made()
        path = self.directory / "localhost.pem"
        for content in (certificate(2)[0] + certificate(3)[1], certificate(2)[0], b"", b"x"):
            path.write_bytes(content)
            error = self.assertRaises(Refused, certificates.read)
            self.assertTrue(str(error).startswith(f"certificate {self.directory}: "), str(error))
            self.assertEqual(self.serial(), 1)
