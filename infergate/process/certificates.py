"""The TLS certificates of one listener, which can be read again while it listens.

Twisted's ``ssl:`` endpoint reads its files once; its ``tls:`` endpoint reads its directory once,
and again only for a name that it does not know. Here an endpoint gets a reactor that remembers what
it was asked to listen with. To read the certificates again is to make the endpoint once more, on a
reactor that does nothing but remember, and to put what it asks for in the place of the old: the
next handshake has the new certificate, and connections go on as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from OpenSSL import SSL, crypto
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLContextFactory,
    IProtocol,
    IProtocolFactory,
)
from zope.interface import implementer

from infergate.process.listening import read_endpoint
from infergate.process.pem import read_pem
from infergate.process.watching import Change, Refused

SSL_ARGUMENTS = ("port", "privateKey", "certKey", "sslmethod", "interface", "backlog",
                 "extraCertChain", "dhParameters")  # fmt: skip
TLS_ARGUMENTS = ("path", "port", "backlog", "interface")
"""The arguments of the two kinds of endpoints, in the order in which they may stand unnamed."""

UNUSABLE = (OSError, ValueError, UnsupportedAlgorithm, VerifyError, SSL.Error, crypto.Error)
"""What reading certificates and keys raises where they cannot be used."""


class Certificates:
    """The certificates of the endpoint string `description`, on which `factory` listens.

    Whoever listens uses `reactor_for` in place of the reactor, once. From then on it is a `Source`:
    `read` may be called at any time, and its `Change` swaps the certificates. An endpoint without
    TLS has none: then there is nothing to read, and no path.

        ssl:8443:privateKey=key.pem:certKey=cert.pem    two files, or one that holds both
        tls:/etc/gate:port=8443                         a directory of NAME.pem, one for each name

    Of the first, Twisted hands the reactor a context factory (`listenSSL`), of the second a
    protocol factory that looks at the name which the client asks for (`listenTCP`).
    """

    def __init__(self, description: str, factory: IProtocolFactory) -> None:
        self._description = description
        self._factory = factory
        # Named or not, as in ssl:8443:key.pem:certKey=cert.pem, in a dictionary by their names.
        self._kind, arguments = read_endpoint(description)
        order = SSL_ARGUMENTS if self._kind == "ssl" else TLS_ARGUMENTS
        self._arguments = dict(
            zip(order, (one for one in arguments if "=" not in one), strict=False)
        )
        for one in arguments:
            name, equals, value = one.partition("=")
            if equals:
                self._arguments[name] = value.replace("\\:", ":")
        self._in_use = _InUse()
        self._contents = self._read_all()

    @property
    def path(self) -> str | None:
        """What messages call the certificates; None where there are none."""
        if self._kind == "ssl":
            return self._arguments.get("certKey") or self._arguments.get("privateKey", "server.pem")
        return self._arguments.get("path") if self._kind == "tls" else None

    def paths(self) -> list[str]:
        """The files that they are read from now: of a directory, as many as there are."""
        if self._kind == "tls":
            directory = self._arguments["path"]
            return [directory, *sorted(map(str, Path(directory).rglob("*.pem")))]
        if self._kind != "ssl":
            return []
        names = ("privateKey", "certKey", "extraCertChain", "dhParameters")
        return [self._arguments[one] for one in names if one in self._arguments] or ["server.pem"]

    def reactor_for(self, reactor: Any) -> Any:
        """What to listen with in place of `reactor`."""
        return reactor if self.path is None else _Listening(reactor, self._in_use)

    def read(self) -> Change:
        """Read the files; raises `Refused` where one is missing, is none, or does not fit its
        key."""
        contents, wanted = self._read_all(), _InUse()
        try:
            if self._kind == "tls":
                pem = read_pem(self.paths()[1:])
                pem.check_keys()
                pem.check_roots()
            recorder = _Listening(None, wanted)
            serverFromString(recorder, self._description).listen(self._factory)
            if wanted.context is not None:
                wanted.context.getContext()
        except UNUSABLE as why:
            reason = getattr(why, "strerror", None) or "no certificate with the key that fits it"
            raise Refused(f"certificate {self.path}: {reason}") from None

        def swap() -> None:
            self._contents = contents
            self._in_use.take_over(wanted)

        return Change("" if contents == self._contents else f"certificate {self.path}", swap)

    def _read_all(self) -> dict[str, bytes]:
        """What stands in the files, as far as they can be read."""
        return dict(filter(None, map(_contents, self.paths())))


@implementer(IProtocolFactory, IOpenSSLContextFactory)
class _InUse:
    """The certificates in use, in either of the two forms that a reactor is given: a context, for
    ``ssl:``, or a protocol factory that adds TLS, for ``tls:``. Stands in the place of both."""

    def __init__(self) -> None:
        self.context: Any = None
        self.factory: Any = None

    def take_over(self, other: _InUse) -> None:
        self.context, self.factory = other.context, other.factory

    def getContext(self) -> SSL.Context:
        """Asked for each connection of an ``ssl:`` endpoint."""
        context: SSL.Context = self.context.getContext()
        return context

    def buildProtocol(self, address: IAddress) -> IProtocol | None:
        """Called for each connection of a ``tls:`` endpoint."""
        protocol: IProtocol | None = self.factory.buildProtocol(address)
        return protocol

    def doStart(self) -> None:
        self.factory.doStart()

    def doStop(self) -> None:
        self.factory.doStop()


class _Listening:
    """A reactor whose listeners use what is `in_use`; on no reactor at all (None) it only
    remembers what it was asked for."""

    def __init__(self, reactor: Any, in_use: _InUse) -> None:
        self._reactor = reactor
        self._in_use = in_use

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, *args: Any, **kw: Any) -> Any:
        self._in_use.context = contextFactory
        if self._reactor is not None:
            return self._reactor.listenSSL(port, factory, self._in_use, *args, **kw)
        return None

    def listenTCP(self, port: int, factory: Any, *args: Any, **kw: Any) -> Any:
        self._in_use.factory = factory
        if self._reactor is not None:
            return self._reactor.listenTCP(port, self._in_use, *args, **kw)
        return None


def _contents(path: str) -> tuple[str, bytes] | None:
    try:
        with open(path, "rb") as file:
            return path, file.read()
    except OSError:  # it is gone, or a directory
        return None
