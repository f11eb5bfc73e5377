"""Why the backend could not be reached, or gave no answer: in words for an operator.

`error` in the log line says that it was so (`backend_unavailable`), `cause` says why. The words
are those of the operating system, of OpenSSL, or our own; never the backend's.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.error import ConnectError, ConnectionDone, DNSLookupError
from twisted.web.client import ResponseFailed, ResponseNeverReceived

from infergate.backend.parser import Broken
from infergate.reactor.certificates import verify_fault

UNVERIFIED = "certificate verify failed"


def cause_of(error: BaseException) -> str | None:
    """The cause of an error of `Endpoint.connect` or of a request; None for any other."""
    if isinstance(error, DNSLookupError):
        late = "took too long" in str(error)
        return "the name lookup took too long" if late else "unknown host name"
    if isinstance(error, ConnectError):
        # What the operating system calls it, or `handshake_fault`.
        words = " ".join(str(word) for word in error.args)
        return words[:1].lower() + words[1:] if not words.startswith("TLS") else words
    if isinstance(error, ResponseNeverReceived):
        closed = any(why.check(ConnectionDone) for why in error.reasons)
        return f"connection {'closed' if closed else 'reset'} before an answer"
    if isinstance(error, ResponseFailed):
        faults = [why.value for why in error.reasons if why.check(Broken)]
        return f"broken answer: {faults[0]}" if faults else "answer cut short"
    return None


def handshake_fault(reason: BaseException | None, connection: Any) -> str:
    """Why a TLS handshake failed; `connection` is OpenSSL's."""
    if isinstance(reason, VerificationError):
        return f"{UNVERIFIED}: it is for another host name"
    if not isinstance(reason, SSL.Error):
        return "TLS handshake failed: connection closed"
    # Its argument is a list of tuples, of which the last string says what it was.
    words = next((entry[-1] for entry in reversed(reason.args[0] if reason.args else ())), "")
    if words != UNVERIFIED:
        return f"TLS handshake failed: {words or 'no reason given'}"
    fault = verify_fault(connection)
    return UNVERIFIED if fault is None else f"{UNVERIFIED}: {fault}"
