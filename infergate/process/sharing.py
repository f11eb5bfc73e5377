"""Ports that several processes listen on, and how they are opened.

    REUSE_PORT=true    each process opens a socket of its own on the port, and the kernel deals
                       connections out among them (SO_REUSEPORT, socket(7))
    LISTEN=systemd:    one socket is opened by systemd and inherited by each process; all accept
                       from its one queue

Neither needs the processes to know of one another.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import makeBinding
from twisted.protocols.tls import TLSMemoryBIOFactory

from infergate.config.settings import Settings
from infergate.config.sources import SettingsError
from infergate.process.listening import read_endpoint

CAN_BE_REUSED = ("tcp", "ssl", "tls")
"""The endpoints that REUSE_PORT is for."""


class ReusingPorts:
    """Listen as `reactor` does, on ports that other processes listen on too (SO_REUSEPORT).

    The endpoint of the main port gets one in place of the reactor (`reactor_for`). Twisted's
    endpoints call `listenTCP` or `listenSSL`; all else is the reactor's.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen on a socket that was bound with SO_REUSEPORT; see `IReactorTCP.listenTCP`.

        Returns the port; raises `CannotListenError`, also where a process that listens there
        already did not ask for SO_REUSEPORT. Called by the endpoint of the main port, once.
        """
        binding = makeBinding(interface, port, reuseAddress=True, reusePort=True)
        return self._reactor.listenTCP(binding, factory, backlog, interface)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """Listen likewise, with TLS on the connections; see `IReactorSSL.listenSSL`.

        Raises as `listenTCP` does.
        """
        tls = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self.listenTCP(port, tls, backlog, interface)


def reactor_for(settings: Settings, reactor: Any) -> Any:
    """Return what to open the main port with: `reactor`, or with `REUSE_PORT` a `ReusingPorts`.

    Called by `tap` before it listens. Raises `SettingsError` where `REUSE_PORT` is asked of an
    endpoint that has no port of its own, such as ``unix:`` or ``systemd:``.
    """
    if not settings.reuse_port:
        return reactor
    kind = read_endpoint(settings.listen)[0] if settings.listen is not None else "tcp"
    if kind not in CAN_BE_REUSED:
        allowed = f"must be for PORT and HOST, or for one of {', '.join(CAN_BE_REUSED)}, not {kind}"
        raise SettingsError("REUSE_PORT", "true", allowed)
    return ReusingPorts(reactor)


def is_inherited(settings: Settings) -> bool:
    """Return whether the main port is a socket of systemd's, which other processes may have too.

    Called by `tap`: such a port is drained as a shared one, and closed without accepting.
    """
    return settings.listen is not None and read_endpoint(settings.listen)[0] == "systemd"
