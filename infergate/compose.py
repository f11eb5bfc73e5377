"""Wires one gateway out of its settings: the only place that does, for `tap` and the tests alike.

`tap` hands over the reactor and real endpoints, the tests in memory a `Clock` and endpoints of
their own. Nothing here listens, connects or logs; `service` starts what was wired, and stops it.

    Edge, for each of two ports      connections, deadlines, drain; begins and ends records
      Routes                         which method of the gateway a path is for
        Gateway                      the checks, in their order
          Admission                  who may come in, and how much
          IWorker                    the echo, or the backend

A `Part` is what runs beside the ports and is started and stopped, a roster who is known to the
gateway, a `Pool` the idle connections to one server. An `Edge` is the factory of the connections of
one port. Each request has a `Record`, which is opened with its first byte and closed once.

A record that was closed goes to `Accounts`: what the exchange has left with it to be undone or
charged (`Record.at_end`) is done first, then it is logged. The ledger, the metrics, the status
page, the traces and what is known of the backend learn of many together, out of the `Batch`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Any

import attrs
from msgspec import Struct
from twisted.internet.interfaces import IReactorTime

from infergate.access.admission import Admission
from infergate.access.limits import LocalLimits
from infergate.access.roster import Roster
from infergate.api.operation import Rules
from infergate.api.operations import NAMES, ROUTES
from infergate.backend.agent import Pool
from infergate.config.otel import Telemetry
from infergate.config.settings import Settings
from infergate.gateway import PAGES, Gateway
from infergate.process.service import Part
from infergate.reactor.deadlines import Deadlines
from infergate.server.connection import EdgeLimits
from infergate.server.edge import Edge
from infergate.server.origins import NO_ORIGINS
from infergate.server.parser import Limits
from infergate.server.routes import Routes
from infergate.status.site import StatusSite
from infergate.telemetry.accounts import Accounts
from infergate.telemetry.batch import Batch
from infergate.telemetry.exposition import Exposition
from infergate.telemetry.lag import Lag
from infergate.telemetry.logs import RequestLog
from infergate.telemetry.metrics import Metrics
from infergate.telemetry.record import Record
from infergate.wiring import callers, pushing
from infergate.wiring.backing import Backing, backing
from infergate.wiring.callers import Rosters
from infergate.wiring.servers import Reach, Servers
from infergate.wiring.stores import Stores
from infergate.worker import IWorker


class Wired(Struct, frozen=True, kw_only=True):
    """One gateway, ready to listen: what `compose` returns to `tap` and to the tests.

    `front` is the protocol factory of the main port and `metrics_edge` that of `METRICS_LISTEN`.
    The `parts` are started once the ports listen, in this order, and stopped in the reverse order
    when the last exchange has ended. The `pools` hold idle connections to other servers, to be
    closed at the end. `roster` makes another roster for the `admission`, out of settings whose
    files were read again.
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
    """Wire a gateway that runs on `clock` and reaches other servers by `reach`, and return its
    parts.

    Called once for each gateway: by `tap`, with the reactor as the clock, and by the tests in
    memory, with a `Clock`. Nothing listens yet and nothing is started.

    `log` is handed the record of each exchange in place of the process's log; `wrap` may put
    another worker around or in place of the one that the settings ask for. `stores` are the ledger
    and the Redis that the settings name, `telemetry` is what the ``OTEL_*`` variables ask for.
    Raises `SettingsError` where a setting shows to be wrong only now, such as a URL whose host no
    certificate can be for.
    """
    servers = Servers(clock, reach)
    rosters = Rosters(servers)
    batch = Batch()
    back = backing(settings, servers, batch)
    metrics = Metrics(batch)
    log = log or RequestLog(probes=settings.log_probes)
    worker = wrap(back.worker)
    stores = stores or Stores()
    # The limits of this process; where Redis is named, `asked` asks there first.
    ledger, local = stores.ledger, LocalLimits(clock.seconds, time)
    asked = callers.limits(settings, local, stores.redis)
    admission = callers.admission(settings, rosters, asked, metrics)
    lasting = callers.lasting(stores, local, admission, clock)
    callers.watch(metrics, stores)
    tracer, pushers = pushing.telemetry(settings, servers, telemetry or Telemetry(), metrics, batch)
    metrics.callers.watch(lambda names: local.standings(admission.roster.policies, names))
    status = StatusSite(
        _facts(settings),
        batch,
        lambda: metrics.under_way,
        lambda: worker.ready(),
        clock,
    )
    gateway = Gateway(
        worker,
        admission,
        Rules(
            settings.default_model,
            settings.max_tokens_limit,
            inject_usage=settings.stream_usage == "inject",
        ),
        Exposition(metrics, clock, back.look),
        max_body=settings.max_body_bytes,
        metrics_apart=settings.metrics_listen is not None,
        ledger=ledger,
        shut=set(NAMES) - settings.routes,
        status=status,
    )

    if ledger is not None:
        ledger.follow(batch)
    accounts = Accounts(log, batch, clock)

    # The status page is for no page of another origin, whatever CORS_ORIGINS says. The listener of
    # the metrics answers to pages of no other origin at all.
    closed = frozenset(path.encode("ascii") for path in PAGES)
    front, metrics_edge = (
        Edge(
            Routes(app, gateway),
            _limits(settings),
            servers.deadlines,
            began=metrics.began if tracer is None else _both(metrics.began, tracer.began),
            ended=accounts.ended,
            forgotten=metrics.forgotten,
            trusted_proxies=settings.trusted_proxies,
            error_format=settings.error_format,
            origins=origins,
        )
        for app, origins in (
            (gateway.app, attrs.evolve(settings.cors_origins, closed=closed)),
            (gateway.metrics_app, NO_ORIGINS),
        )
    )
    status.look_at(front)
    _watch(settings, metrics, back, (front, metrics_edge))
    return Wired(
        worker=worker,
        admission=admission,
        roster=rosters.roster,
        gateway=gateway,
        front=front,
        metrics_edge=metrics_edge,
        metrics=metrics,
        deadlines=servers.deadlines,
        pools=tuple(servers.pools),
        parts=(Lag(metrics.lag, clock), *lasting, *pushers, accounts),
    )


def _facts(settings: Settings) -> dict[str, Any]:
    """Return what the status page shows and never changes. Called by `compose`."""
    return {
        "backend": settings.backend_url or "echo",
        "operations": [name for name in NAMES if name in settings.routes],
        "keys_needed": settings.needs_key,
        "prompt_box": settings.metrics_listen is None,
    }


def _watch(settings: Settings, metrics: Metrics, back: Backing, edges: tuple[Edge, Edge]) -> None:
    """Show in the metrics the open connections and whether the backend can be reached, and each
    route that is open before its first request. Called by `compose`."""
    metrics.watch(
        "infergate_connections",
        "Open client connections.",
        lambda: sum(len(edge.connections) for edge in edges),
    )
    if settings.backend_url is not None:
        about = "Whether the backend can be reached."
        metrics.watch("infergate_backend_up", about, back.reachability.value)
    operations = ROUTES.items()
    metrics.expect(path for path, (operation, _) in operations if operation.name in settings.routes)


def _both(
    first: Callable[[Record], None], second: Callable[[Record], None]
) -> Callable[[Record], None]:
    """Return a function that calls both with a record. Called by `compose`, for records that
    begin."""

    def both(record: Record) -> None:
        first(record)
        second(record)

    return both


def _limits(settings: Settings) -> EdgeLimits:
    """Return the limits of each connection, on either port, out of the settings of the same names.
    They hold the same units: bytes and seconds. Called by `compose` for each port."""
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
        connection_age=settings.max_connection_age,
    )
