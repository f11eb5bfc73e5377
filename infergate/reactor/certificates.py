"""Why OpenSSL did not accept a certificate: in its own words, which pyOpenSSL does not give out.

pyOpenSSL says ``certificate verify failed`` and no more; whether the certificate has expired, is
signed by itself or comes from an unknown authority is what an operator has to know.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

OPENSSL_INTERNALS = ("_lib", "_ffi")
"""Private names of `OpenSSL.SSL` that are used here, beside `Connection._ssl`; a test checks what
comes of them."""


def verify_fault(connection: Any) -> str | None:
    """Return what was wrong with the certificate that the other side of a TLS connection showed,
    such as ``self-signed certificate``; None where nothing was, or where this pyOpenSSL does not
    say.

    `connection` is an `OpenSSL.SSL.Connection` whose handshake has failed. Called by
    `backend.causes`; raises nothing.
    """
    try:
        lib = SSL._lib  # type: ignore[attr-defined]
        result = lib.SSL_get_verify_result(connection._ssl)
        if result == 0:
            return None
        text: bytes = SSL._ffi.string(lib.X509_verify_cert_error_string(result))  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        return None
    return text.decode("ascii", "replace")
