"""Why the backend could not be reached, in words for an operator."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    DNSLookupError,
    getConnectError,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed, ResponseNeverReceived

from infergate.backend.causes import cause_of, handshake_fault
from infergate.backend.head import Broken


class Causes(SynchronousTestCase):
    def test_connection_that_was_not_made(self) -> None:
        """The operating system's words, and a name that there is not told from one that it took
        too long to look up."""
        for error, cause in (
            (getConnectError((111, "Connection refused")), "connection refused"),
            (getConnectError((113, "No route to host")), "no route to host"),
            (getConnectError((2, "No such file or directory")), "no such file or directory"),
            (DNSLookupError("no results for hostname lookup: nowhere"), "unknown host name"),
            (DNSLookupError("the name lookup took too long"), "the name lookup took too long"),
            (ConnectError(string="TLS handshake failed: x"), "TLS handshake failed: x"),
            (ConnectError(string="certificate verify failed"), "certificate verify failed"),
        ):
            self.assertEqual(cause_of(error), cause)

    def test_answer_that_did_not_come(self) -> None:
        """Closed and reset are told apart, and what was wrong with a broken answer is said."""
        closed, reset = Failure(ConnectionDone()), Failure(ConnectionLost())
        for error, cause in (
            (ResponseNeverReceived([closed]), "connection closed before an answer"),
            (ResponseNeverReceived([reset]), "connection reset before an answer"),
            (ResponseFailed([closed]), "answer cut short"),
            (ResponseFailed([]), "answer cut short"),
            (ResponseFailed([Failure(Broken("a line is bad"))]), "broken answer: a line is bad"),
        ):
            self.assertEqual(cause_of(error), cause)

    def test_other_errors_have_none(self) -> None:
        """What is not of the connection says what it is by itself."""
        self.assertIsNone(cause_of(ValueError("canary")))


class Handshakes(SynchronousTestCase):
    def fault(self, reason: BaseException, connection: Any = None) -> str:
        return handshake_fault(reason, connection)

    def test_handshake_that_failed(self) -> None:
        """What OpenSSL calls it, a certificate for somebody else, or a connection that was closed
        in between."""
        wrong = SSL.Error([("SSL routines", "", "wrong version number")])
        self.assertEqual(self.fault(wrong), "TLS handshake failed: wrong version number")
        self.assertEqual(self.fault(SSL.Error()), "TLS handshake failed: no reason given")
        self.assertEqual(self.fault(ConnectionLost()), "TLS handshake failed: connection closed")
        self.assertEqual(
            self.fault(VerificationError(errors=[])),
            "certificate verify failed: it is for another host name",
        )

    def test_certificate_without_details(self) -> None:
        """Where OpenSSL says no more, neither do we."""
        failed = SSL.Error([("SSL routines", "", "certificate verify failed")])
        self.assertEqual(self.fault(failed), "certificate verify failed")
