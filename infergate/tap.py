"""``twistd infergate``: options, and the service made of them.

Of the gateway's modules the only one that imports Twisted's reactor, and the one that decides
where to listen and what the signals do. What runs on the reactor is wired in `compose`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

from infergate.backend.agent import backend_endpoint
from infergate.command import OneLineOptions, allow_many_connections
from infergate.compose import compose
from infergate.dotenv import read_dotenv
from infergate.manual import help_text, option_parameters
from infergate.reactor.deadlines import use_monotonic_clock
from infergate.reactor.epoll import shorten
from infergate.server.addresses import is_loopback
from infergate.server.edge import Edge
from infergate.service import GatewayService
from infergate.settings import Settings, load
from infergate.sources import SettingsError
from infergate.telemetry.lines import STOPPED_READER, LogWriter
from infergate.telemetry.logs import observer
from infergate.telemetry.targets import LogFile, Target, reopen, target_of

STDOUT = 1
"""The descriptor of standard output."""


class Options(OneLineOptions):
    """One option for each setting; see the README for what they mean."""

    program = "infergate"
    optParameters = option_parameters()

    def getUsage(self, width: int | None = None) -> str:
        """The help, without the synopsis above it."""
        return help_text()


def makeService(options: Options) -> GatewayService:
    """Read the settings, listen, and give back what runs the rest.

    Listening comes before anything is started or logged, so that a wrong setting or a port
    that is taken ends the process with one line.
    """
    from twisted.internet import reactor

    use_monotonic_clock(reactor)

    try:
        settings = load(options, os.environ, read_dotenv())
        return _service(settings, reactor, _log_target(options))
    except SettingsError as error:
        raise SystemExit(f"infergate: {error}") from None


def _service(settings: Settings, reactor: Any, target: Target) -> GatewayService:
    allow_many_connections()
    wired = compose(
        settings,
        reactor,
        lambda url: backend_endpoint(url, reactor, settings.backend_connect_timeout),
    )
    ports = [_listen_main(reactor, settings, wired.front)]
    where = settings.metrics_listen
    if where is not None:
        ports.append(_listen(reactor, "METRICS_LISTEN", where, where, wired.metrics_edge))
    writer = LogWriter(target, reactor)
    wired.metrics.count_dropped_lines(lambda: writer.dropped)
    reactor.callWhenRunning(_handle_signals, reactor, target, writer, wired.front.end)
    reactor.addSystemEventTrigger("after", "shutdown", writer.finish)
    shorten(reactor)
    return GatewayService(
        reactor,
        wired.front,
        ports,
        drain_timeout=settings.drain_timeout,
        observer=observer(writer.write, settings.log_format, settings.log_level),
        metrics_edge=wired.metrics_edge,
        pools=wired.pools,
        parts=wired.parts,
        warnings=_warnings(settings, ports[0]),
    )


def _warnings(settings: Settings, port: IListeningPort) -> list[str]:
    """What is allowed, and yet more likely a mistake; `port` is the main one."""
    # A unix: socket has no host: its mode says who may come.
    host = getattr(port.getHost(), "host", None)
    if settings.needs_key or host is None or is_loopback(host):
        return []
    return [
        f"Nobody needs a key, and {host} is not a loopback address: whoever reaches it "
        "may use the gateway. Set API_KEYS, API_KEYS_FILE or one of the JWT_* keys, or HOST to "
        "127.0.0.1"
    ]


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


def _log_target(options: Options) -> Target:
    """Where twistd was told to log to; its own choice, since our observer takes its place."""
    parent: dict[str, Any] = getattr(options, "parent", None) or {}
    name = parent.get("logfile")
    if parent.get("nodaemon", True) and name in (None, "", "-"):
        return target_of(STDOUT)
    return LogFile(name or "twistd.log")


def _handle_signals(
    reactor: Any, target: Target, writer: LogWriter, end: Callable[[], None]
) -> None:
    """The first signal drains, a second one calls `end` and then ends the process; twistd's own
    handler would call `reactor.stop` twice, which raises. SIGUSR1 opens a log file anew, and does
    nothing where there is none."""
    stopping = False

    def crash() -> None:
        end()
        writer.finish(STOPPED_READER)
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
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(reopen, target))
