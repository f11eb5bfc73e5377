"""``twistd infergate``: options, and the service made of them.

The only module that knows the reactor; all else is handed a clock, an agent or an endpoint.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TextIO, cast

from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

from infergate.access.admission import Admission
from infergate.access.auth import AnyOf, IAuthenticator, keys_from_file, keys_from_text
from infergate.access.ratelimit import TokenBuckets
from infergate.api.chat import Rules
from infergate.backend.agent import OriginAgent, backend_endpoint
from infergate.backend.call import Timeouts
from infergate.backend.client import Backend
from infergate.command import OneLineOptions, allow_many_connections
from infergate.gateway import Gateway
from infergate.reactor.deadlines import Deadlines
from infergate.reactor.epoll import shorten
from infergate.server.connection import Edge, EdgeLimits
from infergate.server.parser import Limits
from infergate.server.routes import Routes
from infergate.service import GatewayService
from infergate.settings import Settings, SettingsError, load, option_parameters, read_dotenv
from infergate.telemetry.logs import log_request, observer
from infergate.telemetry.metrics import Metrics
from infergate.telemetry.record import Record
from infergate.worker import BackendWorker, EchoWorker, IWorker


class Options(OneLineOptions):
    """One option for each setting; see the README for what they mean."""

    program = "infergate"
    optParameters = option_parameters()
    longdesc = "Each option may also be given as an environment variable, or in the file .env."


def makeService(options: Options) -> GatewayService:
    """Read the settings, listen, and give back what runs the rest.

    Listening comes before anything is started or logged, so that a wrong setting or a port
    that is taken ends the process with one line.
    """
    from twisted.internet import reactor

    try:
        settings = load(options, os.environ, read_dotenv())
        return _service(settings, reactor, _log_stream(options))
    except SettingsError as error:
        raise SystemExit(f"infergate: {error}") from None


def _service(settings: Settings, reactor: Any, stream: TextIO) -> GatewayService:
    allow_many_connections()
    deadlines = Deadlines(reactor)
    metrics = Metrics()
    worker, pool = _worker(settings, reactor, deadlines)
    gateway = Gateway(
        worker,
        Admission(
            _authenticator(settings, reactor),
            TokenBuckets(settings.rate_limit, reactor.seconds) if settings.rate_limit else None,
        ),
        Rules(settings.default_model, settings.max_tokens_limit),
        metrics,
        max_body=settings.max_body_bytes,
        metrics_apart=settings.metrics_listen is not None,
    )

    def ended(record: Record) -> None:
        metrics.ended(record)
        log_request(record)

    def edge(resource: Any) -> Edge:
        return Edge(
            resource,
            _limits(settings),
            deadlines,
            began=metrics.began,
            ended=ended,
            trusted_proxies=settings.trusted_proxies,
            error_format=settings.error_format,
        )

    front = edge(Routes(gateway.app))
    ports = [_listen_main(reactor, settings, front)]
    metrics_edge = None
    if settings.metrics_listen is not None:
        metrics_edge = edge(Routes(gateway.metrics_app))
        where = settings.metrics_listen
        ports.append(_listen(reactor, "METRICS_LISTEN", where, where, metrics_edge))
    reactor.callWhenRunning(_handle_signals, reactor, stream, front.end)
    shorten(reactor)
    return GatewayService(
        reactor,
        front,
        ports,
        drain_timeout=settings.drain_timeout,
        observer=observer(stream, settings.log_format, settings.log_level),
        metrics_edge=metrics_edge,
        pool=pool,
        pusher=_pusher(settings, metrics, reactor),
    )


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
    )


def _worker(settings: Settings, reactor: Any, deadlines: Deadlines) -> tuple[IWorker, Any]:
    if settings.backend_url is None:
        return EchoWorker(settings.default_model), None
    try:
        endpoint = backend_endpoint(settings.backend_url, reactor, settings.backend_connect_timeout)
    except ValueError as error:  # a name that TLS knows no certificate for
        raise SettingsError("BACKEND_URL", settings.backend_url, str(error)) from None
    agent = OriginAgent(settings.backend_url, endpoint, deadlines)
    backend = Backend(
        agent,
        endpoint,
        settings.backend_url,
        deadlines,
        timeouts=Timeouts(
            connect=settings.backend_connect_timeout,
            response=settings.backend_timeout,
            idle=settings.stream_idle_timeout,
            total=settings.request_timeout,
        ),
        api_key=settings.backend_api_key,
        retries=settings.backend_retries,
    )
    worker = BackendWorker(
        backend,
        deadlines,
        max_response=settings.max_response_bytes,
        max_event=settings.max_event_bytes,
        keepalive=settings.sse_keepalive,
    )
    return worker, agent.pool


def _authenticator(settings: Settings, reactor: Any) -> IAuthenticator | None:
    """All that lets somebody in, or None where nobody needs a key."""
    authenticators: list[IAuthenticator] = []
    if settings.api_keys is not None:
        authenticators.append(keys_from_text(settings.api_keys))
    if settings.api_keys_file is not None:
        authenticators.append(keys_from_file(settings.api_keys_file))
    keys = _token_keys(settings, reactor)
    if keys is not None:
        from infergate.access.jwts import TokenVerifier

        authenticators.append(
            TokenVerifier(keys, settings.jwt_algorithms, settings.jwt_issuer, settings.jwt_audience)
        )
    if len(authenticators) > 1:
        return AnyOf(tuple(authenticators))
    return authenticators[0] if authenticators else None


def _token_keys(settings: Settings, reactor: Any) -> Any:
    """Imported only where tokens are checked: cryptography takes long to load."""
    if settings.jwt_secret is not None:
        from infergate.access.jwks import secret

        return secret(settings.jwt_secret)
    if settings.jwt_public_key_file is not None:
        from infergate.access.jwks import public_key

        with open(settings.jwt_public_key_file, "rb") as file:
            return public_key(file.read())
    if settings.jwt_jwks_url is not None:
        from twisted.web.client import Agent

        from infergate.access.jwks import KeySet
        from infergate.backend.fetch import fetcher

        return KeySet(fetcher(Agent(reactor), settings.jwt_jwks_url, reactor), reactor)
    return None


def _pusher(settings: Settings, metrics: Metrics, reactor: Any) -> Any:
    """Imported only where figures are pushed: the SDK doubles the memory of an idle process."""
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is None:
        return None
    try:
        from infergate.telemetry.otlp import Pusher
    except ImportError:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, "needs the extra: pip install '.[otlp]'"
        ) from None
    return Pusher(metrics.registry, reactor, endpoint)


def _listen_main(reactor: Any, settings: Settings, site: Edge) -> IListeningPort:
    if settings.listen is not None:
        return _listen(reactor, "LISTEN", settings.listen, settings.listen, site)
    host = quoteStringArgument(settings.host)
    description = f"tcp:{settings.port}:interface={host}:backlog=1024"
    return _listen(reactor, "PORT", str(settings.port), description, site)


def _listen(reactor: Any, setting: str, value: str, description: str, site: Edge) -> IListeningPort:
    """Listen at once: what is wrong with an endpoint shows before anything has started."""
    outcome: list[IListeningPort | Failure] = []
    try:
        serverFromString(reactor, description).listen(site).addBoth(outcome.append)
    except Exception as error:
        outcome.append(Failure(error))
    (listening,) = outcome
    if isinstance(listening, Failure):
        raise SettingsError(setting, value, listening.getErrorMessage())
    return listening


def _log_stream(options: Options) -> TextIO:
    """Where twistd was told to log to; its own choice, since our observer takes its place."""
    parent: dict[str, Any] = getattr(options, "parent", None) or {}
    name = parent.get("logfile")
    if parent.get("nodaemon", True) and name in (None, "", "-"):
        return sys.stdout
    path = name or "twistd.log"
    return cast(TextIO, _LogFile.fromFullPath(path, rotateLength=None))  # type: ignore[no-untyped-call]


TWISTED_INTERNALS = {LogFile: ("_file",)}
"""Private names that are used here; a test checks each."""


class _LogFile(LogFile):
    """Written without the two locks of Twisted's, which take longer than the writing: a line is one
    system call, and the reactor's thread alone writes them."""

    def write(self, data: str) -> None:
        self._file.write(data.encode("utf-8"))


def _handle_signals(reactor: Any, stream: TextIO, end: Callable[[], None]) -> None:
    """The first signal drains, a second one calls `end` and then ends the process; twistd's own
    handler would call `reactor.stop` twice, which raises. SIGUSR1 rotates a log file, as it does in
    twistd."""
    stopping = False

    def crash() -> None:
        end()
        reactor.crash()

    def handle(number: int, frame: object) -> None:
        nonlocal stopping
        # Before anything else: a second signal may interrupt this very function.
        first, stopping = not stopping, True
        if not first:
            reactor.callFromThread(crash)
        elif number == signal.SIGINT:
            reactor.sigInt(number)
        else:
            reactor.sigTerm(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    if isinstance(stream, LogFile):
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(stream.rotate))
