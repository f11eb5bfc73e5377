"""The worker out of the settings, and what is known of the backend's health beside it.

    BACKEND_URL unset           `EchoWorker`: nothing to connect to, and always ready
    a URL or unix:/path         `BackendWorker`, over `Backend`, over an agent with a pool

A worker answers what the gateway has let in (`IWorker`); an agent sends one request to one server
over a pool of idle connections.

`Health` is asked by the readiness probe, by a long wait for an answer (is the backend still there?)
and by a scrape; it asks the backend at the most every two seconds for all of them. With
`BACKEND_HEALTH_PATH` it asks that route; without, whether the backend takes a connection.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from twisted.internet.interfaces import IStreamClientEndpoint

from infergate.backend.agent import OriginAgent
from infergate.backend.call import Timeouts
from infergate.backend.client import Backend
from infergate.backend.endpoint import api_base
from infergate.backend.health import Health, connection, health_route
from infergate.config.settings import Settings
from infergate.telemetry.batch import Batch
from infergate.telemetry.reachability import Reachability
from infergate.wiring.servers import Servers
from infergate.worker import BackendWorker, EchoWorker, IWorker

ECHO_MODEL = "default"
"""What the echo calls itself where `DEFAULT_MODEL` is unset."""


class Backing(Struct, frozen=True):
    """What answers requests. `reachability` is what traffic and questions tell of the backend;
    `look` asks its health route, where it has one, and is called beside each scrape."""

    worker: IWorker
    reachability: Reachability
    look: Callable[[], object] = lambda: None


def backing(settings: Settings, servers: Servers, batch: Batch) -> Backing:
    """Make the worker of the backend, or an echo where `BACKEND_URL` is unset.

    Called once by `compose`. Nothing is connected yet. Raises `SettingsError`, which names
    `BACKEND_URL`, for a host name that TLS cannot check a certificate for.
    """
    reachability = Reachability(batch)
    if settings.backend_url is None:
        model = settings.default_model
        return Backing(EchoWorker(ECHO_MODEL if model is None else model), reachability)
    url = api_base(settings.backend_url)
    agent, endpoint = servers.origin("BACKEND_URL", settings.backend_url, settings.backend_ca_file)
    health = _health(settings, servers, url, endpoint, reachability)
    has_route = bool(settings.backend_health_path)
    backend = Backend(
        agent,
        url,
        servers.deadlines,
        timeouts=Timeouts(
            response=settings.backend_timeout,
            idle=settings.stream_idle_timeout,
            total=settings.request_timeout,
        ),
        api_key=settings.backend_api_key,
        retries=settings.backend_retries,
        well=health.well if has_route else None,
    )
    worker = BackendWorker(
        backend,
        health,
        servers.deadlines,
        max_response=settings.max_response_bytes,
        max_event=settings.max_event_bytes,
        keepalive=settings.sse_keepalive,
        forward=settings.forward_headers,
        give_back=settings.return_headers,
    )
    return Backing(worker, reachability, health.ask if has_route else lambda: None)


def _health(
    settings: Settings,
    servers: Servers,
    url: str,
    endpoint: IStreamClientEndpoint,
    reachability: Reachability,
) -> Health:
    """Make what tells how the backend is, asked within the time to connect.

    Each question goes over a new connection, outside the pool: a pooled one might be closed by the
    backend just then. With a health route, `reachability` hears of each answer. Called by
    `backing`; raises nothing.
    """
    path, seconds = settings.backend_health_path, settings.backend_connect_timeout
    if not path:
        return Health(connection(endpoint), servers.deadlines)
    backend = Backend(
        OriginAgent(url, endpoint, servers.deadlines),
        url,
        servers.deadlines,
        timeouts=Timeouts(seconds, seconds, seconds),
        api_key=settings.backend_api_key,
        retries=0,
    )
    probe = health_route(backend, path, servers.deadlines)
    return Health(probe, servers.deadlines, reachability.heard)
