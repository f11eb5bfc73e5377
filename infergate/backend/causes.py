"""What the gateway calls a failure of the backend's, and why it came, in words for an operator.

`error` in the log line says that it was so (`backend_unavailable`), `cause` says why. The words are
those of the operating system, of OpenSSL, or our own; never the backend's:

    BACKEND_CONNECT_TIMEOUT                                  no connection in time
    connection refused                                       nobody listens there
    certificate verify failed: self-signed certificate       TLS
    connection reset before an answer                        the request may have been read
    answer cut short                                         its head, or more, was here

The functions return errors and words; their callers raise. None of them raises anything itself.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,  # noqa: A004  # Twisted's: the connect deadline
)
from twisted.web.client import ResponseFailed, ResponseNeverReceived

from infergate.backend.head import Broken
from infergate.errors import BackendError, BackendUnavailable, GatewayTimeout
from infergate.reactor.certificates import verify_fault

UNVERIFIED = "certificate verify failed"
"""OpenSSL's words for a certificate that it does not trust; such a cause begins with them."""


def late_error(setting: str, *, prompt_sent: bool = True) -> GatewayTimeout:
    """Return the error of a deadline, for the caller to raise; the setting that it belongs to, such
    as ``BACKEND_TIMEOUT``, is its cause. `prompt_sent` is that of `BackendFailure`. Called by
    `Call`, whose deadlines these are."""
    message = f"The backend took too long: {setting} has passed."
    error = GatewayTimeout(message, prompt_sent=prompt_sent)
    error.cause = setting
    return error


def name_error(error: BaseException) -> BaseException:
    """Return what the gateway calls an error of Twisted's client or of `Endpoint`: a
    `GatewayTimeout`, `BackendUnavailable` or `BackendError`.

    Any other error is returned itself, be it of the gateway's own or a fault of it. Called by
    `Call`, and by `infergate check`.
    """
    if isinstance(error, (TCPTimedOutError, TimeoutError)):
        return late_error("BACKEND_CONNECT_TIMEOUT", prompt_sent=False)
    cause = cause_of(error)
    if isinstance(error, (ConnectError, DNSLookupError)):
        return BackendUnavailable(prompt_sent=False, cause=cause)
    if isinstance(error, ResponseNeverReceived):
        message = "The backend closed the connection without an answer."
        return BackendUnavailable(message, cause=cause)
    if isinstance(error, ResponseFailed):
        return BackendError("The backend's answer is broken or was cut short.", cause=cause)
    return error


def nothing_sent(error: BaseException) -> bool:
    """Return whether an error says that there was no connection, but for one that took too long: a
    request may then be sent again. Called by `Call`."""
    named = name_error(error)
    return isinstance(named, BackendUnavailable) and not named.prompt_sent


def cause_of(error: BaseException) -> str | None:
    """Return the cause of an error of `Endpoint.connect` or of a request, such as ``connection
    refused``; None for any other. For `name_error`."""
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
    """Return why a TLS handshake failed, such as ``TLS handshake failed: wrong version number``.

    `reason` is what the connection was lost with, `connection` is OpenSSL's. Called by the
    endpoint, whose `ConnectError` has these words.
    """
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
