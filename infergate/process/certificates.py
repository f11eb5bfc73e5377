"""The TLS certificates of one listener, which can be read again while it listens.

Twisted's ``ssl:`` endpoint reads its files once; its ``tls:`` endpoint reads its directory once,
and again only for a name that it does not know. Here an endpoint gets a reactor that remembers what
it was asked to listen with. To read the certificates again is to make the endpoint once more, on a
reactor that does nothing but remember, and to put what it asks for in the place of the old: the
next handshake has the new certificate, and connections go on as they are.

A `Source` is something that can be read again, a `Change` what was read and is not yet in use, and
`Refused` says why it cannot be used; all three are in `watching`.
"""

from __future__ import annotations

import os
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

UNUSABLE = (
    OSError, ValueError, TypeError, UnsupportedAlgorithm, VerifyError, SSL.Error, crypto.Error
)  # fmt: skip
"""What reading certificates and keys raises where they cannot be used; `TypeError` for a key behind
a password."""


class Certificates:
    """Read the certificates of the endpoint string `description`, on which `factory` listens.

    `tap` makes one for each of the two listeners, with TLS or without, and listens on `reactor_for`
    in place of the reactor, once. From then on it is a `Source` of `Reloader`: `read` may be called
    at any time, and its `Change` swaps the certificates. An endpoint without TLS has none: then
    there is nothing to read, and no path. ``infergate check`` reads them without listening.

        ssl:8443:privateKey=key.pem:certKey=cert.pem    two files, or one that holds both
        tls:/etc/gate:port=8443                         a directory of NAME.pem, one for each name

    Of the first, Twisted hands the reactor a context factory (`listenSSL`), of the second a
    protocol factory that looks at the name which the client asks for (`listenTCP`).
    """

    def __init__(self, description: str, factory: IProtocolFactory) -> None:
        """Keep what the files hold now, to compare with later.

        A file that cannot be read is passed over here, and so is ``tls:`` without a directory:
        listening says what is wrong.
        """
        self._description = description
        self._factory = factory
        self._kind, self._arguments = read_endpoint(description)
        self._in_use = _InUse()
        self._contents = self._read_all()

    @property
    def path(self) -> str | None:
        """Return what messages call the certificates: a file or a directory, None without TLS.

        For ``ssl:`` that is the file of the certificate, else that of the key, which then holds
        both, else ``server.pem``, Twisted's own default. Called by this class and by ``infergate
        check``; raises nothing.
        """
        if self._kind == "ssl":
            return self._arguments.get("certKey") or self._arguments.get("privateKey", "server.pem")
        return self._arguments.get("path") if self._kind == "tls" else None

    def paths(self) -> list[str]:
        """Return the files that the certificates are read from, as of now; none without TLS.

        For ``tls:`` they are the directory itself and all ``*.pem`` in and below it, so that a file
        that comes or goes is seen as a change. `Watch` asks for them once a second. Raises nothing
        where a file or the directory is missing.
        """
        directory = self._arguments.get("path")
        if self._kind == "tls" and directory:
            # Unlike `Path.rglob`, this passes over a folder that goes meanwhile.
            found = (
                os.path.join(folder, name)
                for folder, _, names in os.walk(directory)
                for name in names
                if name.endswith(".pem")
            )
            return [directory, *sorted(found)]
        if self._kind != "ssl":
            return []
        names = ("privateKey", "certKey", "extraCertChain", "dhParameters")
        return [self._arguments[one] for one in names if one in self._arguments] or ["server.pem"]

    def reactor_for(self, reactor: Any) -> Any:
        """Return what to listen with in place of `reactor`: without TLS, `reactor` itself.

        Called once by `tap`, before it listens. What is returned hands Twisted the swappable
        certificates, and is in all else the reactor.
        """
        return reactor if self.path is None else _Listening(reactor, self._in_use)

    def read(self) -> Change:
        """Read the files, check them, and return what would put them into use.

        Called by `Reloader` in a thread, and by ``infergate check``. The `Change` says nothing
        where the files hold, byte for byte, what is in use. Raises `Refused` where a file is
        missing, is none, or does not fit its key; for ``tls:`` also where a root certificate is
        among them without its key. What is in use stays as it is until the change is swapped.
        """
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
        """Return the bytes of each file by its path, of those that can be read.

        Called at the start and by `read`.
        """
        return dict(filter(None, map(_contents, self.paths())))


@implementer(IProtocolFactory, IOpenSSLContextFactory)
class _InUse:
    """Stand in the place of the certificates that are in use, whatever these are by now.

    A reactor is given them in one of two forms: a `context` factory for ``ssl:``, or a protocol
    `factory` that adds TLS for ``tls:``. This is both, and passes each call on to the one that is
    set; `take_over` swaps it. Made by `Certificates`: one that is listened with, and one more for
    each reading.
    """

    context: Any = None
    factory: Any = None

    def take_over(self, other: _InUse) -> None:
        """Use what `other` holds from the next connection on. Called by the swap of a `Change`."""
        self.context, self.factory = other.context, other.factory

    def getContext(self) -> SSL.Context:
        """Return the OpenSSL context of the next connection; Twisted asks for each one of
        ``ssl:``."""
        context: SSL.Context = self.context.getContext()
        return context

    def buildProtocol(self, address: IAddress) -> IProtocol | None:
        """Return the protocol of the next connection, TLS around it; Twisted asks for each one of
        ``tls:``."""
        protocol: IProtocol | None = self.factory.buildProtocol(address)
        return protocol

    def doStart(self) -> None:
        self.factory.doStart()

    def doStop(self) -> None:
        self.factory.doStop()


class _Listening:
    """Listen as `reactor` does, but with the certificates that are `in_use`.

    Twisted's endpoints call `listenSSL` or `listenTCP`; all else is the reactor's. Without a
    reactor (None) nothing is listened on, and `in_use` holds afterwards what the endpoint would
    have used: that is how `Certificates.read` has Twisted load the files.
    """

    def __init__(self, reactor: Any, in_use: _InUse) -> None:
        self._reactor = reactor
        self._in_use = in_use

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, *args: Any, **kw: Any) -> Any:
        """Remember the context factory of an ``ssl:`` endpoint, and listen with `_InUse` in its
        place.

        Returns the reactor's port, None without a reactor; raises `CannotListenError` as that does.
        """
        self._in_use.context = contextFactory
        if self._reactor is not None:
            return self._reactor.listenSSL(port, factory, self._in_use, *args, **kw)
        return None

    def listenTCP(self, port: int, factory: Any, *args: Any, **kw: Any) -> Any:
        """Remember the TLS factory of a ``tls:`` endpoint, and listen with `_InUse` in its place.

        Returns the reactor's port, None without a reactor; raises `CannotListenError` as that does.
        """
        self._in_use.factory = factory
        if self._reactor is not None:
            return self._reactor.listenTCP(port, self._in_use, *args, **kw)
        return None


def _contents(path: str) -> tuple[str, bytes] | None:
    """Return the path and the bytes of one file; None where it is gone, is a directory, or may not
    be read.

    Called by `Certificates._read_all` for each file.
    """
    try:
        with open(path, "rb") as file:
            return path, file.read()
    except OSError:
        return None
