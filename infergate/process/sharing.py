"""Ports that several processes listen on, and how they are opened."""

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
    """A reactor whose listeners share their port with those of other processes (SO_REUSEPORT);
    whoever listens uses it in place of the reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        binding = makeBinding(interface, port, reuseAddress=True, reusePort=True)
        return self._reactor.listenTCP(binding, factory, backlog, interface)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        tls = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self.listenTCP(port, tls, backlog, interface)


def reactor_for(settings: Settings, reactor: Any) -> Any:
    """What to open the main port with. Raises `SettingsError` where ``REUSE_PORT`` is asked of an
    endpoint that has no port of its own."""
    if not settings.reuse_port:
        return reactor
    kind = read_endpoint(settings.listen)[0] if settings.listen is not None else "tcp"
    if kind not in CAN_BE_REUSED:
        allowed = f"must be for PORT and HOST, or for one of {', '.join(CAN_BE_REUSED)}, not {kind}"
        raise SettingsError("REUSE_PORT", "true", allowed)
    return ReusingPorts(reactor)


def is_inherited(settings: Settings) -> bool:
    """Whether the main port is a socket of systemd's, which other processes may have too."""
    return settings.listen is not None and read_endpoint(settings.listen)[0] == "systemd"
