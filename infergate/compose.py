"""Wires one gateway out of its settings: the only place that does, for `tap` and the tests alike.

`tap` hands over the reactor and real endpoints, the tests in memory a `Clock` and endpoints of
their own. Nothing here listens, connects or logs; `service` starts what was wired, and stops it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import time, time_ns
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from infergate.access.admission import Admission
from infergate.access.auth import AnyOf, IAuthenticator
from infergate.access.budgets import Budgets
from infergate.access.limits import ILimits, LocalLimits
from infergate.access.policy import Policies, Policy
from infergate.access.roster import Roster
from infergate.access.shared import SharedLimits
from infergate.api.operation import Rules
from infergate.api.operations import NAMES, ROUTES
from infergate.backend.agent import OriginAgent, Pool
from infergate.backend.call import Timeouts
from infergate.backend.client import Backend
from infergate.backend.endpoint import api_base, host_and_port
from infergate.backend.health import Health, connection, health_route
from infergate.gateway import Gateway
from infergate.otel import Signal, Telemetry
from infergate.reactor.deadlines import Deadlines
from infergate.server.connection import EdgeLimits
from infergate.server.edge import Edge
from infergate.server.origins import NO_ORIGINS
from infergate.server.parser import Limits
from infergate.server.routes import Routes
from infergate.service import Part
from infergate.settings import Settings
from infergate.sources import SettingsError
from infergate.stores import Stores
from infergate.telemetry.exposition import Exposition
from infergate.telemetry.lag import Lag
from infergate.telemetry.logs import RequestLog
from infergate.telemetry.metrics import Metrics
from infergate.telemetry.push import Collector, MetricsPusher, Pushers, SpanPusher
from infergate.telemetry.reachability import Reachability
from infergate.telemetry.record import Record
from infergate.telemetry.tracing import Tracer
from infergate.worker import BackendWorker, EchoWorker, IWorker

if TYPE_CHECKING:
    from infergate.access.redislink import RedisLink

Reach = Callable[[str, Any], IStreamClientEndpoint]
"""How to connect to an HTTP URL or to ``unix:/path``. The second argument is what TLS trusts, a
trust root of Twisted's or None for the system's. Raises `ValueError` for a URL that cannot be
connected to, in words that can follow a setting's name and value."""


@attrs.frozen(kw_only=True)
class Wired:
    """One gateway, ready to listen.

    `front` is the protocol factory of the main port and `metrics_edge` that of
    `METRICS_LISTEN`. The `parts` are started once the ports listen, in this order, and stopped
    in the reverse order when the last exchange has ended. The `pools` hold idle connections to
    other servers, to be closed at the end. `roster` makes another roster for the `admission`,
    out of settings whose files were read again.
    """

    worker: IWorker
    admission: Admission
    roster: Callable[[Settings], Roster]
    gateway: Gateway
    front: Edge
    metrics_edge: Edge
    metrics: Metrics
    deadlines: Deadlines
    pools: tuple[Pool, ...]
    parts: tuple[Part, ...]


def compose(
    settings: Settings,
    clock: IReactorTime,
    reach: Reach,
    *,
    log: Callable[[Record], None] | None = None,
    wrap: Callable[[IWorker], IWorker] = lambda worker: worker,
    stores: Stores | None = None,
    telemetry: Telemetry | None = None,
) -> Wired:
    """Wire a gateway that runs on `clock` and reaches other servers by `reach`.

    `log` is handed the record of each exchange in place of the process's log; `wrap` may put
    another worker around or in place of the one that the settings ask for. `stores` are the
    ledger and the Redis that the settings name, `telemetry` is what the ``OTEL_*`` variables ask
    for. Raises `SettingsError`
    where a setting shows to be wrong only now.
    """
    wiring = _Wiring(settings, clock, reach)
    metrics = Metrics()
    reachability = wiring.reachability
    log = log or RequestLog(probes=settings.log_probes)
    worker = wrap(wiring.worker())
    stores = stores or Stores()
    ledger, local = stores.ledger, LocalLimits(clock.seconds, time)
    admission = wiring.admission(_shared(settings, local, stores.redis), metrics)
    lasting = _lasting(stores, local, admission, clock)
    _watch(metrics, stores)
    tracer, pushers = wiring.telemetry(telemetry or Telemetry(), metrics)
    metrics.callers.watch(lambda names: local.standings(admission.roster.policies, names))
    gateway = Gateway(
        worker,
        admission,
        Rules(
            settings.default_model,
            settings.max_tokens_limit,
            inject_usage=settings.stream_usage == "inject",
        ),
        metrics,
        Exposition(metrics, clock, wiring.look),
        max_body=settings.max_body_bytes,
        metrics_apart=settings.metrics_listen is not None,
        ledger=ledger,
        shut=set(NAMES) - settings.routes,
    )

    def began(record: Record) -> None:
        metrics.began(record)
        if tracer is not None:
            tracer.began(record)

    def ended(record: Record) -> None:
        if tracer is not None:
            tracer.ended(record)
        metrics.ended(record)
        reachability.ended(record)
        if ledger is not None:
            ledger.add(record)
        log(record)
        for ending in record.endings:
            ending(record)

    front, metrics_edge = (
        Edge(
            Routes(app),
            _limits(settings),
            wiring.deadlines,
            began=began,
            ended=ended,
            trusted_proxies=settings.trusted_proxies,
            error_format=settings.error_format,
            origins=origins,
        )
        for app, origins in (
            (gateway.app, settings.cors_origins),
            (gateway.metrics_app, NO_ORIGINS),
        )
    )
    metrics.watch(
        "infergate_connections",
        "Open client connections.",
        lambda: len(front.connections) + len(metrics_edge.connections),
    )
    if settings.backend_url is not None:
        about = "Whether the backend can be reached."
        metrics.watch("infergate_backend_up", about, reachability.value)
    metrics.expect(ROUTES)
    return Wired(
        worker=worker,
        admission=admission,
        roster=wiring.roster,
        gateway=gateway,
        front=front,
        metrics_edge=metrics_edge,
        metrics=metrics,
        deadlines=wiring.deadlines,
        pools=tuple(wiring.pools),
        parts=(Lag(metrics.lag, clock), *lasting, pushers),
    )


class _Wiring:
    """What all the parts of one gateway share while they are made: settings, clock, pools."""

    def __init__(self, settings: Settings, clock: IReactorTime, reach: Reach) -> None:
        self.deadlines = Deadlines(clock)
        self.pools: list[Pool] = []
        self._settings = settings
        self._clock = clock
        self._reach = reach
        # Kept when keys are read again: it has a life of its own.
        self._published: Any = None
        self.reachability = Reachability()
        # What a scrape has asked beside it: the backend's health route, where there is one.
        self.look: Callable[[], object] = lambda: None

    def worker(self) -> IWorker:
        """The worker that answers requests: of the backend, or an echo without one."""
        settings = self._settings
        if settings.backend_url is None:
            return EchoWorker(
                "default" if settings.default_model is None else settings.default_model
            )
        url = api_base(settings.backend_url)
        authorities = settings.backend_ca_file
        trust = None if authorities is None else authorities.content
        agent, endpoint = self._origin("BACKEND_URL", settings.backend_url, trust)
        health = self._health(url, endpoint)
        backend = Backend(
            agent,
            url,
            self.deadlines,
            timeouts=Timeouts(
                response=settings.backend_timeout,
                idle=settings.stream_idle_timeout,
                total=settings.request_timeout,
            ),
            api_key=settings.backend_api_key,
            retries=settings.backend_retries,
            well=health.well if settings.backend_health_path else None,
        )
        return BackendWorker(
            backend,
            health,
            self.deadlines,
            max_response=settings.max_response_bytes,
            max_event=settings.max_event_bytes,
            keepalive=settings.sse_keepalive,
            forward=settings.forward_headers,
            give_back=settings.return_headers,
        )

    def _health(self, url: str, endpoint: IStreamClientEndpoint) -> Health:
        """How the backend is, asked within the time to connect. Each question goes over a new
        connection: a pooled one might be closed by the backend just then."""
        settings = self._settings
        path, seconds = settings.backend_health_path, settings.backend_connect_timeout
        if not path:
            return Health(connection(endpoint), self.deadlines)
        backend = Backend(
            OriginAgent(url, endpoint, self.deadlines),
            url,
            self.deadlines,
            timeouts=Timeouts(seconds, seconds, seconds),
            api_key=settings.backend_api_key,
            retries=0,
        )
        probe = health_route(backend, path, self.deadlines)
        health = Health(probe, self.deadlines, self.reachability.heard)
        self.look = health.ask
        return health

    def admission(self, limits: ILimits, metrics: Metrics) -> Admission:
        """Who may come in, and how much."""
        return Admission(
            self.roster(self._settings),
            limits,
            max_concurrent=self._settings.max_concurrent_requests,
            learn=metrics.callers.learn if self._settings.needs_key else lambda names: None,
        )

    def roster(self, settings: Settings) -> Roster:
        """Who is known and what each may do, by the `settings` as their files are now."""
        file = settings.api_keys_file
        if file is not None:
            policies = file.content.policies(settings.rate_limit)
        else:
            policies = Policies(Policy(rate=settings.rate_limit))
        names = [] if settings.api_keys is None else settings.api_keys.names
        if file is not None:
            names = [*names, *file.content.ring.names]
        return Roster(self._authenticator(settings), policies, settings.rate_limit, names)

    def _authenticator(self, settings: Settings) -> IAuthenticator | None:
        """What lets callers in, or None where nobody needs a key."""
        authenticators: list[IAuthenticator] = []
        if settings.api_keys is not None:
            authenticators.append(settings.api_keys)
        if settings.api_keys_file is not None:
            authenticators.append(settings.api_keys_file.content.ring)
        keys = self._token_keys(settings)
        if keys is not None:
            # Imported only where tokens are checked: cryptography takes long to load.
            from infergate.access.jwts import TokenVerifier

            authenticators.append(
                TokenVerifier(
                    keys, settings.jwt_algorithms, settings.jwt_issuer, settings.jwt_audience
                )
            )
        if len(authenticators) > 1:
            return AnyOf(tuple(authenticators))
        return authenticators[0] if authenticators else None

    def _token_keys(self, settings: Settings) -> Any:
        """The source of the keys that tokens are verified with, or None."""
        if settings.jwt_public_key_file is not None:
            return settings.jwt_public_key_file.content
        if settings.jwt_jwks_url is None:
            return settings.jwt_secret
        if self._published is None:
            from infergate.access.jwks import KeySet
            from infergate.backend.fetch import fetcher

            url = settings.jwt_jwks_url
            agent, _ = self._origin("JWT_JWKS_URL", url)
            self._published = KeySet(fetcher(agent, url, self.deadlines), self._clock)
        return self._published

    def telemetry(self, asked: Telemetry, metrics: Metrics) -> tuple[Tracer | None, Pushers]:
        """What gives ids to traces, where they are pushed, and what pushes."""
        pushers: list[MetricsPusher | SpanPusher] = []
        tracer = None
        if asked.metrics is not None:
            pushers.append(self._metrics_pusher(asked, asked.metrics, metrics))
        if asked.traces is not None:
            pusher = self._span_pusher(asked, asked.traces)
            pushers.append(pusher)
            tracer = Tracer(asked.sampler, pusher.add, self._clock.seconds)
        return tracer, Pushers(pushers)

    def _metrics_pusher(self, asked: Telemetry, signal: Signal, metrics: Metrics) -> MetricsPusher:
        # These two need the extra, and take memory: imported only where something is pushed.
        with _extra(signal):
            from infergate.telemetry.otlp import message
            from infergate.telemetry.otlpmetrics import metric_parts
        started = time_ns()
        return MetricsPusher(
            self._collector(signal),
            self._clock,
            lambda: metric_parts(metrics, started, time_ns()),
            partial(message, asked.resource),
            asked.metrics_interval,
        )

    def _span_pusher(self, asked: Telemetry, signal: Signal) -> SpanPusher:
        with _extra(signal):
            from infergate.telemetry.otlp import message
            from infergate.telemetry.spans import spans
        backend = self._settings.backend_url
        return SpanPusher(
            self._collector(signal),
            self._clock,
            partial(spans, backend=None if backend is None else host_and_port(api_base(backend))),
            partial(message, asked.resource),
            delay=asked.span_delay,
            queue=asked.span_queue,
            batch=asked.span_batch,
        )

    def _collector(self, signal: Signal) -> Collector:
        agent, _ = self._origin(signal.setting, signal.url, signal.trust)
        return Collector(
            agent,
            self._clock,
            signal.url,
            signal.headers,
            timeout=signal.timeout,
            gzip=signal.gzip,
        )

    def _origin(
        self, setting: str, url: str, trust: Any = None
    ) -> tuple[OriginAgent, IStreamClientEndpoint]:
        """An agent for the server of a URL, with a pool of its own."""
        try:
            endpoint = self._reach(url, trust)
        except ValueError as error:
            raise SettingsError(setting, url, str(error)) from None
        agent = OriginAgent(api_base(url), endpoint, self.deadlines, self._clock)
        self.pools.append(agent.pool)
        return agent, endpoint


def _shared(settings: Settings, local: LocalLimits, redis: RedisLink | None) -> ILimits:
    """The limits as they are asked: in this process alone, or in Redis too."""
    if redis is None:
        return local
    shared = SharedLimits(redis, local, refuse=settings.shared_state_failure == "refuse")
    redis.on_up = shared.settle
    return shared


def _lasting(
    stores: Stores, local: LocalLimits, admission: Admission, clock: IReactorTime
) -> tuple[Part, ...]:
    """What is started and stopped with the ledger and with Redis."""
    parts: list[Part] = []
    if stores.ledger is not None:
        budgets = Budgets(stores.ledger, local, lambda: admission.roster, clock)
        budgets.begin()
        parts += [stores.ledger, budgets]
        if stores.redis is not None:
            # A Redis that has forgotten a window begins it from what the ledger knows now.
            stores.redis.before_up = budgets.refresh
    if stores.redis is not None:
        parts.append(stores.redis)
    return tuple(parts)


def _watch(metrics: Metrics, stores: Stores) -> None:
    ledger, redis = stores.ledger, stores.redis
    if ledger is not None:
        metrics.watch(
            "infergate_ledger_up",
            "Whether the database of USAGE_DB takes what it is given.",
            lambda: ledger.up,
        )
        metrics.watch(
            "infergate_ledger_pending_requests",
            "Requests that wait to be written to USAGE_DB.",
            lambda: ledger.pending,
        )
    if redis is not None:
        metrics.watch(
            "infergate_shared_state_up",
            "Whether the Redis of SHARED_STATE answers.",
            lambda: redis.up,
        )


@contextmanager
def _extra(signal: Signal) -> Iterator[None]:
    """What is imported needs the extra ``otlp``."""
    try:
        yield
    except ImportError:
        needed = "needs the extra: pip install '.[otlp]'"
        raise SettingsError(signal.setting, signal.url, needed) from None


def _limits(settings: Settings) -> EdgeLimits:
    return EdgeLimits(
        framing=Limits(
            target=settings.max_url_bytes,
            head=settings.max_header_bytes,
            fields=settings.max_headers,
            body=settings.max_body_bytes,
        ),
        connections=settings.max_connections,
        requests_per_connection=settings.max_requests_per_connection,
        header_timeout=settings.header_timeout,
        body_timeout=settings.body_timeout,
        keepalive_timeout=settings.keepalive_timeout,
        write_stall_timeout=settings.write_stall_timeout,
        request_timeout=settings.request_timeout,
    )
