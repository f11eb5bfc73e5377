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
from infergate.backend.endpoint import api_base
from infergate.config.settings import Settings
from infergate.doctor.asking import EACH, Asker, Patience
from infergate.wiring.servers import Servers


class Subject:
    """A gateway that its `settings` describe, and the backend behind it.

    `clock` is the reactor, `wall` gives the operating system's time in Unix seconds; `endpoint` is
    called as `backend_endpoint` is: with a URL, the clock, the seconds to connect and what TLS
    trusts. The modules of this room look at it one after another, and the first ones leave here
    what the later ones need: the `kind` of the backend, its `models` (None where it lists none),
    and in `stopped` that no other question would bring anything new.

    ``infergate check`` makes one and hands it to `examine`. `servers` makes the agents, the clients
    of one server each; `patience` bounds all questions, and its time begins when this is made.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Any,
        endpoint: Callable[[str, Any, float, Any], IStreamClientEndpoint],
        wall: Callable[[], float] = time,
    ) -> None:
        """Connect to nothing yet. The time for all questions begins now; a single one gets `EACH`
        seconds, or `BACKEND_TIMEOUT` where that is shorter, and `BACKEND_CONNECT_TIMEOUT` of it to
        connect."""
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
        """Return `BACKEND_URL`. Only what looks at a backend reads it, and `examine` calls none of
        that where the setting is not given."""
        assert self.settings.backend_url is not None
        return self.settings.backend_url

    @property
    def model(self) -> str | None:
        """Return the model that is tried: `DEFAULT_MODEL`, else the first that the backend lists,
        else None, and then requests name no model."""
        return self.settings.default_model or next(iter(self.models or ()), None)

    @cached_property
    def origin(self) -> tuple[OriginAgent, IStreamClientEndpoint]:
        """Return the agent of the backend's server and the endpoint below it, made once, as the
        gateway would reach it: with `BACKEND_CA_FILE`, where that is set. Raises `SettingsError`,
        which names `BACKEND_URL`, for a host name that no certificate can be for."""
        return self.servers.origin("BACKEND_URL", self.url, self.settings.backend_ca_file)

    @cached_property
    def backend(self) -> Asker:
        """Return the asker of the backend's API, made once, with the backend's key. Raises what
        `origin` does."""
        return self.asker(self.origin[0], api_base(self.url))

    @property
    def checks_tokens(self) -> bool:
        """Return whether callers come with JWTs, so that a clock that is wrong refuses them."""
        keys = self.settings
        return bool(keys.jwt_secret or keys.jwt_public_key_file or keys.jwt_jwks_url)

    def asker(self, agent: OriginAgent, base: str, *, keyless: bool = False) -> Asker:
        """Return an asker of the API at `base` through `agent`, without retries: a fault is to be
        seen.

        It sends the backend's key, and keeps it out of what it quotes, unless it is `keyless`, as
        for a server that is not the backend. Called for the backend, for other places where it may
        be, and for the issuer of JWTs.
        """
        key = None if keyless else self.settings.backend_api_key
        deadlines = self.servers.deadlines
        backend = Backend(agent, base, deadlines, timeouts=Timeouts(), api_key=key, retries=0)
        return Asker(backend, deadlines, self.patience, key)
