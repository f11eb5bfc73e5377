"""The servers that a gateway reaches: an agent with a pool for each, on the one clock.

An agent sends requests to one server, and its pool keeps the connections that idle between two of
them. The backend, a set of public keys and a collector of telemetry have an agent each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from infergate.backend.agent import OriginAgent, Pool
from infergate.backend.endpoint import api_base
from infergate.config.sources import SettingsError
from infergate.reactor.deadlines import Deadlines

Reach = Callable[[str, Any], IStreamClientEndpoint]
"""How to connect to an HTTP URL or to ``unix:/path``. The second argument is what TLS trusts, a
trust root of Twisted's or None for the system's. Raises `ValueError` for a URL that cannot be
connected to, in words that can follow a setting's name and value."""


class Servers:
    """Make the agents of one gateway, and hold what they share.

    `compose` makes one, and ``infergate check`` another. `deadlines` watches the time limits of all
    connections. `pools` are those that were made so far, to be closed by `GatewayService` at the
    end.
    """

    def __init__(self, clock: IReactorTime, reach: Reach) -> None:
        self.clock = clock
        self.deadlines = Deadlines(clock)
        self.pools: list[Pool] = []
        self._reach = reach

    def origin(
        self, setting: str, url: str, trust: Any = None
    ) -> tuple[OriginAgent, IStreamClientEndpoint]:
        """Make an agent for the server of a URL, with a pool of its own, and return its endpoint
        too.

        The endpoint connects outside the pool, as a health check does. `trust` is what TLS trusts,
        None the system's authorities. Called by `backing`, `callers` and `pushing` for each server,
        and by ``infergate check``. Raises `SettingsError`, which names `setting`, for a URL that
        cannot be connected to.
        """
        try:
            endpoint = self._reach(url, trust)
        except ValueError as error:
            raise SettingsError(setting, url, str(error)) from None
        agent = OriginAgent(api_base(url), endpoint, self.deadlines, self.clock)
        self.pools.append(agent.pool)
        return agent, endpoint
