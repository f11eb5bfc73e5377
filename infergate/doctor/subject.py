"""What is examined, and what is known of it so far."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from time import time
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint

from infergate.backend.agent import OriginAgent
from infergate.backend.call import Timeouts
from infergate.backend.client import Backend
from infergate.backend.endpoint import api_base, host_and_port
from infergate.config.settings import Settings
from infergate.doctor.asking import EACH, Asker, Patience
from infergate.wiring.servers import Servers


class Subject:
    """A gateway that its `settings` describe, and the backend behind it.

    `clock` is the reactor, `wall` what the operating system's clock says; `endpoint` is called as
    `backend_endpoint` is. The modules of this room look at it one after another, and the first ones
    leave here what the later ones need: the `kind` of the backend, its `models` (None where it
    lists none), and in `stopped` that no other question would bring anything new.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Any,
        endpoint: Callable[[str, Any, float, Any], IStreamClientEndpoint],
        wall: Callable[[], float] = time,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.wall = wall
        self.patience = Patience(clock.seconds, min(EACH, settings.backend_timeout or EACH))
        self.connect_seconds = min(settings.backend_connect_timeout, self.patience.each)
        self.servers = Servers(
            clock, lambda url, trust: endpoint(url, clock, self.connect_seconds, trust)
        )
        self.kind: str | None = None
        self.models: list[str] | None = None
        self.stopped = False

    @property
    def url(self) -> str:
        """`BACKEND_URL`, where there is one."""
        assert self.settings.backend_url is not None
        return self.settings.backend_url

    @property
    def host(self) -> str:
        """The backend's host, "" where it listens on a Unix socket."""
        return "" if self.url.startswith("unix:") else host_and_port(self.url)[0]

    @property
    def model(self) -> str | None:
        """The model that is tried: `DEFAULT_MODEL`, else the backend's first."""
        return self.settings.default_model or next(iter(self.models or ()), None)

    @cached_property
    def origin(self) -> tuple[OriginAgent, IStreamClientEndpoint]:
        """The backend's server, as the gateway would reach it."""
        authorities = self.settings.backend_ca_file
        trust: Any = None if authorities is None else authorities.content
        return self.servers.origin("BACKEND_URL", self.url, trust)

    @cached_property
    def backend(self) -> Asker:
        """Who asks the backend."""
        return self.asker(self.origin[0], api_base(self.url))

    @property
    def checks_tokens(self) -> bool:
        """Whether callers come with JWTs."""
        keys = self.settings
        return bool(keys.jwt_secret or keys.jwt_public_key_file or keys.jwt_jwks_url)

    def asker(self, agent: OriginAgent, base: str, *, keyless: bool = False) -> Asker:
        """Who asks the API at `base`, with the backend's key unless it is another's."""
        key = None if keyless else self.settings.backend_api_key
        deadlines = self.servers.deadlines
        backend = Backend(agent, base, deadlines, timeouts=Timeouts(), api_key=key, retries=0)
        return Asker(backend, deadlines, self.patience, key)
