"""Why OpenSSL did not accept a certificate."""

from __future__ import annotations

import contextlib

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.trial.unittest import SynchronousTestCase

from infergate.reactor import certificates
from infergate.reactor.certificates import OPENSSL_INTERNALS, verify_fault
from tests.certificates import certificate


def shaken(*, trusted: bool) -> SSL.Connection:
    """A client's connection after its handshake, with a server whose certificate signs itself."""
    certificate_pem, key_pem = certificate(1)
    theirs = SSL.Context(SSL.TLS_METHOD)
    shown = load_pem_x509_certificate(certificate_pem)
    theirs.use_certificate(shown)
    theirs.use_privatekey(load_pem_private_key(key_pem, None))  # type: ignore[arg-type]
    ours = SSL.Context(SSL.TLS_METHOD)
    ours.set_verify(SSL.VERIFY_PEER)
    if trusted:
        store = ours.get_cert_store()
        assert store is not None
        store.add_cert(X509.from_cryptography(shown))
    client, server = SSL.Connection(ours, None), SSL.Connection(theirs, None)
    client.set_connect_state()
    server.set_accept_state()
    for side, other in ((client, server), (server, client)) * 2:
        with contextlib.suppress(SSL.Error):
            side.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            other.bio_write(side.bio_read(65536))
    return client


class Faults(SynchronousTestCase):
    def test_fault_is_in_the_words_of_openssl(self) -> None:
        """An operator reads what is wrong with the certificate, not only that something is."""
        self.assertEqual(verify_fault(shaken(trusted=False)), "self-signed certificate")

    def test_accepted_certificate_has_no_fault(self) -> None:
        """Where the certificate was not the reason, none is made up."""
        connection = shaken(trusted=True)
        self.assertIsNotNone(connection.get_peer_certificate())
        self.assertIsNone(verify_fault(connection))

    def test_what_openssl_does_not_say_is_no_fault(self) -> None:
        """A pyOpenSSL without these private names costs the words, and raises nothing."""
        self.assertIsNone(verify_fault(None))
        connection = shaken(trusted=False)
        for name in OPENSSL_INTERNALS:
            self.assertTrue(hasattr(SSL, name), name)
            kept = {other: getattr(SSL, other) for other in OPENSSL_INTERNALS if other != name}
            patch = self.patch(certificates, "SSL", type("SSL", (), kept))
            self.assertIsNone(verify_fault(connection), name)
            patch.restore()
