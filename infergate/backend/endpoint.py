"""How to connect to a server by its URL: over TCP, with TLS for ``https``, within a time limit.

An endpoint is Twisted's word for a place to connect to, whose `connect` makes a connection and
fires with the protocol on it (`IStreamClientEndpoint`). `backend_endpoint` makes one for the
backend, and for every other HTTP server that the settings name.
"""

from __future__ import annotations

from typing import Any, cast

import attrs
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
    TimeoutError,  # noqa: A004  # Twisted's: the connect deadline
)
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.web.client import URI
from zope.interface import implementer

from infergate.backend.causes import handshake_fault

SOCKET_BASE = "http://localhost/v1"
"""The base of an API behind a Unix socket, whose URL names no host."""


def api_base(url: str) -> str:
    """Return the base of the API at the URL of a server, or at ``unix:/path`` of a socket, whose
    URL is `SOCKET_BASE`. Called wherever an agent is made for the URL of a setting."""
    return SOCKET_BASE if url.startswith("unix:") else url


def host_and_port(url: str) -> tuple[str, int]:
    """Return the host and the port of an HTTP URL, the port of its scheme where it names none; of
    ``http://[::1]:8080/v1`` these are ``::1`` and 8080. Called by `infergate check`."""
    uri = URI.fromBytes(url.encode("ascii"))
    return uri.host.decode("ascii").strip("[]"), uri.port


def backend_endpoint(
    url: str, reactor: object, connect_timeout: float, trust: Any = None
) -> IStreamClientEndpoint:
    """Return the endpoint for an HTTP URL or the path of a Unix socket, ``unix:/path``.

    `connect_timeout` is in seconds; `trust` holds the authorities for ``https`` (a trust root of
    Twisted's), None the system's. Nothing is connected yet. Raises `ValueError` for a host name
    that TLS cannot check a certificate for. Called by `tap` and by `infergate check`.
    """
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        stream = UNIXClientEndpoint(reactor, path, connect_timeout)
        return Endpoint(stream, None, connect_timeout, reactor)
    uri = URI.fromBytes(url.encode("ascii"))
    host = uri.host.decode("ascii").strip("[]")
    # A `HostnameEndpoint` would start a thread even for an address, which needs no lookup.
    kind: Any = HostnameEndpoint
    if isIPAddress(host):
        kind = TCP4ClientEndpoint
    elif isIPv6Address(host):
        kind = TCP6ClientEndpoint
    return Endpoint(
        kind(reactor, host, uri.port, connect_timeout),
        optionsForClientTLS(host, trustRoot=trust) if uri.scheme == b"https" else None,
        connect_timeout,
        reactor,
    )


@implementer(IStreamClientEndpoint)
@attrs.frozen
class Endpoint:
    """Connects by `stream`, then with TLS where there are `tls` options, all within `seconds`.

    `connect` fires when a request may be written: with TLS when the handshake is over, where
    Twisted's own endpoint fires before it begins. Whatever fails before that is a connection that
    was never made, on which nothing was sent. Errors: `TimeoutError` where the time is up,
    `DNSLookupError` where it is up within the name lookup, `ConnectError` for all else.
    Cancelling gives up, in any of the three phases, and fails with `CancelledError`.
    """

    stream: IStreamClientEndpoint
    tls: Any
    seconds: float
    clock: Any

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Connect a protocol of `factory`; fires with it. Called by `OriginAgent`, by the probe of
        `health` and by `infergate check`; fails as the class says."""
        connecting = self.stream.connect(factory) if self.tls is None else self._secured(factory)
        return _unless_cancelled(connecting.addTimeout(self.seconds, self.clock, _too_late))

    def _secured(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Connect `factory` behind TLS; fires with its protocol when the handshake is over. For
        `connect`."""
        shaking = Factory.forProtocol(lambda: _Handshake(factory))
        shaking.noisy = False
        connecting: Deferred[Any] = wrapClientTLS(self.tls, self.stream, self.clock).connect(
            cast(IProtocolFactory, shaking)
        )
        return connecting.addCallback(lambda handshake: handshake.over)


def _unless_cancelled(attempt: Deferred[Any]) -> Deferred[Any]:
    """Return the outcome of `attempt`, or `CancelledError` where this is cancelled, whatever the
    attempt calls it: a name lookup, for one, says that it has failed, and would be tried again. For
    `Endpoint.connect`."""

    def cancel(outcome: Deferred[Any]) -> None:
        """Fail with `CancelledError` first, so that what the attempt says of its end is not
        heard."""
        outcome.errback(CancelledError())
        attempt.cancel()

    def failed(failure: Failure) -> None:
        """Pass the attempt's failure on, unless this was cancelled."""
        if not outcome.called:
            outcome.errback(failure)

    outcome: Deferred[Any] = Deferred(cancel)
    attempt.addCallbacks(outcome.callback, failed)
    return outcome


def _too_late(failure: Any, _: float) -> Failure:
    """Return what an attempt that was cancelled for its time limit fails with: `TimeoutError`, or
    where it was still within the name lookup, which calls its own cancelling something else,
    `DNSLookupError`. Called by Twisted's `addTimeout`."""
    if failure.check(ConnectingCancelledError):
        return Failure(TimeoutError())
    return Failure(DNSLookupError("the name lookup took too long"))


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """Waits on a new connection for the end of the TLS handshake, then makes way for a protocol
    of `factory`.

    `over` fires with that protocol, connected, or with `ConnectError`. Cancelling it closes the
    connection.
    """

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory
        self.over: Deferred[IProtocol] = Deferred(self._cancelled)

    def handshakeCompleted(self) -> None:
        """Make way for the protocol that was asked for; called by the TLS transport once the
        certificate was checked and both sides agreed."""
        transport: Any = self.transport
        protocol = cast(IProtocol, self._factory.buildProtocol(transport.getPeer()))
        # The TLS transport hands what it reads to the protocol that it names.
        transport.wrappedProtocol = protocol
        protocol.makeConnection(transport)
        self.over.callback(protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail with why the handshake failed, where the connection has ended within it."""
        if not self.over.called:
            transport: Any = self.transport
            fault = handshake_fault(reason.value, transport.getHandle())
            self.over.errback(ConnectError(string=fault))

    def _cancelled(self, over: Deferred[IProtocol]) -> None:
        """Close the connection: nobody waits for the handshake any more."""
        transport: Any = self.transport
        over.errback(ConnectingCancelledError(transport.getPeer()))
        transport.abortConnection()
