"""Whether the backend can be reached: its name, its port, TLS and its certificate.

Where the handshake fails, or an answer makes no sense, the server may speak the other of HTTP and
HTTPS: `_answers_plainly` and `speaks_tls` try that, so that the check can say what to write. An
endpoint is Twisted's way to connect to one server, by `connect` with a protocol factory.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Factory, Protocol

from infergate.backend.causes import UNVERIFIED, name_error
from infergate.backend.endpoint import api_base, host_and_port
from infergate.doctor.asking import FAULTS
from infergate.doctor.certificates import judged
from infergate.doctor.report import Check, fail, ok
from infergate.doctor.subject import Subject
from infergate.errors import BackendFailure, GatewayTimeout

CONNECTION, CERTIFICATE = "connection", "backend certificate"

PLAIN = "write http:// in place of https:// into BACKEND_URL, or the port that has TLS"
"""What to do where ``https`` is spoken to a server that has no TLS."""

SECURE = "write https:// in place of http:// into BACKEND_URL"
"""What to do where ``http`` is spoken to a server that has TLS. For the checks in `backend` too."""

_ADVICE = (
    ("unknown host name", "correct the host in BACKEND_URL, or how this machine looks names up"),
    ("the name lookup", "the name servers of this machine do not answer: see /etc/resolv.conf"),
    (
        "connection refused",
        "nothing listens there: start the backend, or correct BACKEND_URL (in a container "
        "127.0.0.1 is the container itself)",
    ),
    ("no connection", "correct BACKEND_URL, or let a firewall pass what goes there"),
    (
        f"{UNVERIFIED}: it is for another host name",
        "write the name that the certificate is for into BACKEND_URL, or have one made for this",
    ),
    (f"{UNVERIFIED}: certificate has expired", "renew the backend's certificate"),
    (UNVERIFIED, "set BACKEND_CA_FILE to the PEM file of the authority that signed it"),
    ("TLS handshake failed", "the backend's own log says why it refused the handshake"),
    ("", "correct BACKEND_URL, or start the backend"),
)
"""What to do about each cause, by how it begins."""


async def reach(subject: Subject) -> list[Check]:
    """Connect to the backend and close the connection again; return the check of that, and with TLS
    one of its certificate.

    `examine` calls this first. `stopped` is set in the subject unless it was reached. A failure
    that `name_error` knows, as a refused connection or an unknown host, is a failed check; anything
    else is raised, `SettingsError` among it for a host name that no certificate can be for.
    """
    subject.stopped = True
    where = _where(subject.url)
    meeting = _Meeting()
    factory = Factory.forProtocol(lambda: meeting)
    factory.noisy = False
    try:
        await subject.origin[1].connect(factory)
    except Exception as error:
        failure = name_error(error)
        if not isinstance(failure, BackendFailure):
            raise
        cause = failure.cause or failure.message
        if isinstance(failure, GatewayTimeout):
            cause = f"no connection within {subject.connect_seconds:g} s"
        may_be_plain = cause.startswith(("TLS handshake failed", "no connection"))
        if may_be_plain and await _answers_plainly(subject):
            return [fail(CONNECTION, f"{where} speaks plain HTTP, and no TLS: {cause}", PLAIN)]
        advice = next(advice for begins, advice in _ADVICE if cause.startswith(begins))
        return [fail(CONNECTION, f"{where} cannot be reached: {cause}", advice)]
    subject.stopped = False
    checks = [ok(CONNECTION, f"{where} takes connections")]
    if meeting.certificate is not None:
        own = [meeting.certificate.to_cryptography()]
        hint = "have it renewed where the backend is"
        checks.append(judged(CERTIFICATE, "it", own, subject.wall(), hint))
    return checks


async def speaks_tls(subject: Subject) -> bool:
    """Return whether the server behind an ``http`` URL takes a TLS handshake, also where its
    certificate cannot be verified. False for any other URL, and where it cannot be reached.

    Called where plain HTTP got no good answer. Raises `SettingsError` for a host name that no
    certificate can be for.
    """
    if not subject.url.startswith("http:"):
        return False
    factory = Factory.forProtocol(_Meeting)
    factory.noisy = False
    _, endpoint = subject.servers.origin("BACKEND_URL", _other_scheme(subject.url))
    try:
        await endpoint.connect(factory)
    except Exception as error:
        return (getattr(name_error(error), "cause", None) or "").startswith(UNVERIFIED)
    return True


async def _answers_plainly(subject: Subject) -> bool:
    """Return whether the server behind an ``https`` URL answers without TLS, with whatever status.
    False for any other URL. Called by `reach` where the handshake failed."""
    if not subject.url.startswith("https:"):
        return False
    url = _other_scheme(subject.url)
    agent, _ = subject.servers.origin("BACKEND_URL", url)
    try:
        await subject.asker(agent, api_base(url)).get("/")
    except FAULTS:
        return False
    return True


def _other_scheme(url: str) -> str:
    """Return the URL of the same server and path with TLS, or without: of ``https://host/v1`` it is
    ``http://host:443/v1``, since it is the same port."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    # The port is written out: each scheme has a usual one of its own.
    host = re.sub(r":\d+\Z", "", host)
    other = "http" if scheme == "https" else "https"
    return f"{other}://{host}:{host_and_port(url)[1]}/{path}"


def _where(url: str) -> str:
    """Return the host and port of a URL, as in ``[::1]:9000``, for the line of a check; the path of
    a Unix socket as it is given."""
    if url.startswith("unix:"):
        return url
    host, port = host_and_port(url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Meeting(Protocol):
    """Sees the certificate of the other side, and closes. One is for one connection.

    `certificate` is pyOpenSSL's, and None without TLS or where there was no connection.
    """

    certificate: Any = None

    def connectionMade(self) -> None:
        """Keep the certificate and close the connection. With TLS the endpoint calls this when the
        handshake is over."""
        assert self.transport is not None
        if ISSLTransport.providedBy(self.transport):
            self.certificate = self.transport.getPeerCertificate()
        self.transport.loseConnection()
