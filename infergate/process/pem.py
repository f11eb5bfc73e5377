"""The certificates and keys in PEM files, as far as they must fit together."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509 import Certificate, load_pem_x509_certificate

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----\n?", re.DOTALL)


@attrs.frozen
class Contents:
    """What some files hold: the certificates, and of each private key the public half."""

    certificates: list[Certificate]
    keys: set[bytes]

    def check_keys(self) -> None:
        """Raise `ValueError` unless there is a key, and each key fits a certificate.

        Called by `Certificates.read` for a ``tls:`` directory: Twisted would leave out what does
        not fit, and then refuse the handshakes for its name.
        """
        known = {_public(one.public_key()) for one in self.certificates}
        if not self.keys or not self.keys <= known:
            raise ValueError("a key without its certificate")

    def check_roots(self) -> None:
        """Raise `OSError` for a root certificate whose key is not there.

        Called before a ``tls:`` directory is listened with, and when it is read again. Twisted
        26.10 makes a chain by looking for the issuer of each issuer, and a root is its own: it
        would never end. Clients have their roots already.
        """
        for one in self.certificates:
            if one.subject == one.issuer and _public(one.public_key()) not in self.keys:
                name = one.subject.rfc4514_string()
                raise OSError(errno.EINVAL, f"the root certificate {name} must not be among them")


def read_pem(paths: Iterable[str | Path]) -> Contents:
    """Return the certificates and keys in PEM files; other blocks and all text are passed over.

    Called where certificates are listened with (`listening`, `certificates`), and by ``infergate
    check``. Raises `OSError` for a file that cannot be read, `ValueError` for a block that is
    broken, `TypeError` for a key behind a password, and `UnsupportedAlgorithm`.
    """
    contents = Contents([], set())
    for path in paths:
        for match in _BLOCK.finditer(Path(path).read_bytes()):
            if b"PRIVATE KEY" in match[1]:
                contents.keys.add(_public(load_pem_private_key(match[0], None).public_key()))
            elif b"CERTIFICATE" in match[1]:
                contents.certificates.append(load_pem_x509_certificate(match[0]))
    return contents


def _public(key: Any) -> bytes:
    """Return a public key as bytes that can be compared: DER of the SubjectPublicKeyInfo.

    Called for each key and each certificate.
    """
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded
