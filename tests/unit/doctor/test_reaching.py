"""Whether the backend can be reached."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import TimeoutError as TooLate

from infergate.doctor.reaching import _other_scheme
from tests.unit.doctor.examined import FAIL, Examined, refuses, says
from tests.unit.inmemory import BackendPort

HTTPS = "https://backend:9443/v1"


class Causes(Examined):
    failure: Exception
    answers_plainly = False

    def prepare(self, port: BackendPort) -> None:
        port.failures.append(self.failure)

    def endpoint(self, url: str, *_: object) -> BackendPort:
        """The same port for both schemes, unless the other one leads nowhere."""
        if url.startswith("http:") and not self.answers_plainly:
            return super().endpoint("https:")
        return self.port

    def fails(self, failure: Exception, *words: str) -> None:
        self.failure = failure
        check = self.the("connection", backend_url=HTTPS)
        self.assert_said(check, FAIL, *words)

    def test_each_has_an_advice_of_its_own(self) -> None:
        """The words are those of the operating system, of OpenSSL, or the gateway's."""
        fault = "certificate verify failed"
        self.fails(DNSLookupError("no"), "unknown host name", "correct the host")
        self.fails(DNSLookupError("the name lookup took too long"), "resolv.conf")
        self.fails(ConnectError(string="Connection refused"), "connection refused", "start the")
        self.fails(TooLate(), "no connection within 5 s", "firewall")
        self.fails(ConnectError(string=f"{fault}: self-signed certificate"), "BACKEND_CA_FILE")
        self.fails(ConnectError(string=f"{fault}: it is for another host name"), "write the name")
        self.fails(ConnectError(string=f"{fault}: certificate has expired"), "renew")
        self.fails(ConnectError(string="TLS handshake failed: no shared cipher"), "own log")
        self.fails(ConnectError(string="No such file or directory"), "start the backend")

    def test_plain_http_at_the_port_is_named(self) -> None:
        """Where the handshake fails and a plain request is answered."""
        self.answers_plainly = True
        fault = "TLS handshake failed: wrong version number"
        self.answer = lambda request, connection: says(b"hello")(connection)  # type: ignore[method-assign]
        self.fails(ConnectError(string=fault), "speaks plain HTTP", "http:// in place of https://")

    def test_where_it_was_tried_is_said(self) -> None:
        """The name in the URL with its port, or the path of a socket."""
        self.failure = ConnectError()
        for url, where in (
            ("http://backend/v1", "backend:80"),
            ("https://[::1]/v1", "[::1]:443"),
            ("unix:/run/llama.sock", "unix:/run/llama.sock"),
        ):
            check = self.the("connection", backend_url=url)
            self.assert_said(check, FAIL, f"{where} cannot be reached")


class TLSPort(Examined):
    secured = True

    def endpoint(self, url: str, *arguments: object) -> BackendPort:
        """A handshake at the port succeeds."""
        return self.port if self.secured else super().endpoint(url, *arguments)

    def test_plain_request_to_a_tls_port_is_named(self) -> None:
        """By no answer that is one, or by a 400 that says so."""
        alert: Any = lambda connection: connection.send(b"\x15\x03\x03\x00\x02\x02\x28")  # noqa: E731
        told = refuses(400, "The plain HTTP request was sent to HTTPS port")
        for answer in (alert, told):
            answers = {"/health": answer, "/v1/models": answer}
            check = self.the("health", answers)
            self.assert_said(check, FAIL, "port that has TLS", "https:// in place of http://")
            check = self.the("models", answers, backend_health_path="")
            self.assert_said(check, FAIL, "port that has TLS")
        self.secured = False
        self.assert_said(self.the("health", {"/health": alert}), FAIL, "malformed")
        check = self.the("models", {"/v1/models": told})
        self.assert_said(check, FAIL, "400", "HTTPS port")

    def test_other_scheme_keeps_the_port(self) -> None:
        """Each scheme has a usual one of its own."""
        for url, other in (
            ("http://a/v1", "https://a:80/v1"),
            ("https://a:9/x/y", "http://a:9/x/y"),
            ("https://[::1]:9", "http://[::1]:9/"),
        ):
            self.assertEqual(_other_scheme(url), other)
