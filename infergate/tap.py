"""``twistd infergate``: options, and the service made of them.

Of the gateway's modules the only one that imports Twisted's reactor. What runs on the reactor is
wired in `compose`.

    makeService        the directory, ``.env``, the settings, where to log: all that can be wrong
      _service         the stores are opened, all is wired, the ports listen
    the reactor runs   the signals are handled, systemd is told, `GatewayService.startService`
    SIGTERM, SIGINT    `GatewayService.stopService`: drain, then the end; a second one ends at once
    SIGHUP             files are read again
    SIGUSR1            a log file is opened anew

Whatever is wrong before the reactor runs ends the process with one line and exit status 1; twistd
would show a traceback.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.threads import deferToThreadPool
from twisted.logger import LogEvent

from infergate.backend.endpoint import backend_endpoint
from infergate.command import OneLineOptions, allow_many_connections
from infergate.compose import compose
from infergate.config.dotenv import read_dotenv
from infergate.config.loading import load
from infergate.config.manual import help_text, option_parameters
from infergate.config.otel import Telemetry, read_telemetry, variables
from infergate.config.settings import Settings
from infergate.config.sources import SettingsError
from infergate.process.certificates import Certificates
from infergate.process.closing import let_go
from infergate.process.greeting import start_line, url
from infergate.process.listening import listen, listen_main
from infergate.process.notify import Notifier
from infergate.process.reload import KeyFiles, Reloader
from infergate.process.service import GatewayService
from infergate.process.sharing import is_inherited, reactor_for
from infergate.process.signals import handle_signals, ignore_signals
from infergate.process.warnings import ledger_warnings, misspelt_names, warnings_about
from infergate.reactor.deadlines import use_monotonic_clock
from infergate.reactor.epoll import shorten
from infergate.telemetry.jsonlines import json_line
from infergate.telemetry.lines import LogWriter
from infergate.telemetry.logs import observer
from infergate.telemetry.targets import LogFile, Target, target_of
from infergate.telemetry.textlines import TextLines, shows_colours
from infergate.wiring.stores import open_stores

STDOUT = 1
"""The descriptor of standard output."""


class Options(OneLineOptions):
    """The options of ``twistd infergate``: one for each setting; see the README for what they
    mean."""

    program = "infergate"
    optParameters = option_parameters()

    def getUsage(self, width: int | None = None) -> str:
        """Return the help, without the synopsis above it that Twisted would write. Called for
        ``--help``."""
        return help_text(example="twistd -n infergate")


def makeService(options: Options) -> GatewayService:
    """Read the settings, listen, and return the service that runs the rest.

    twistd calls this once, before the reactor runs. Listening comes before anything is started or
    logged, so that a wrong setting or a port that is taken ends the process with one line: each
    `SettingsError` becomes a `SystemExit` that names the setting and what is allowed.
    """
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    ignore_signals()
    try:
        _enter_directory(options)
        dotenv = read_dotenv()
        settings = load(options, os.environ, dotenv)
        endpoint = settings.otel_exporter_otlp_endpoint
        telemetry = read_telemetry(variables(os.environ, dotenv, endpoint))
        return _service(settings, telemetry, reactor, _log_target(options), misspelt_names(dotenv))
    except SettingsError as error:
        raise SystemExit(f"infergate: {error}") from None


def _enter_directory(options: Options) -> None:
    """Go to the directory where twistd was told to run, which it does itself only later: ``.env``
    is read there, and a path in it means the same now and when it is read again.

    Where to log stays relative to where twistd was called, as twistd has it. Changes twistd's own
    options (`options.parent`) to absolute paths. Does nothing where there is no twistd, or where it
    is to change its root first. Raises `SettingsError` as `enter` does. Called by `makeService`
    before anything is read.
    """
    parent: dict[str, Any] | None = getattr(options, "parent", None)
    if parent is None or parent["chroot"] is not None:
        return
    if parent["logfile"] not in (None, "", "-"):
        parent["logfile"] = os.path.abspath(parent["logfile"])
    elif not parent["nodaemon"]:
        parent["logfile"] = os.path.abspath("twistd.log")
    enter(parent["rundir"])
    parent["rundir"] = os.getcwd()


def enter(directory: str) -> None:
    """Change into the directory in which the gateway runs. Called here and by ``infergate check``.
    Raises `SettingsError` for one that cannot be entered."""
    try:
        os.chdir(directory)
    except OSError as why:
        allowed = f"must be a directory to run in: {why.strerror}"
        raise SettingsError("--directory", directory, allowed) from None


def _service(
    settings: Settings, telemetry: Telemetry, reactor: Any, target: Target, warnings: list[str]
) -> GatewayService:
    """Open the stores, wire the gateway, listen on its ports, and return the service.

    The second half of `makeService`: `target` is where log lines go, and `warnings` are shown when
    the reactor runs, with those about the settings. What the signals do is settled here too, but
    takes effect only when the reactor runs. Raises `SettingsError` for what a setting asks for and
    the machine does not give, such as a port that is taken. Called by `makeService` alone.
    """
    allow_many_connections()
    # Before there is anything that asks for the reactor's iteration.
    shorten(reactor)
    wired = compose(
        settings,
        reactor,
        lambda url, trust: backend_endpoint(url, reactor, settings.backend_connect_timeout, trust),
        stores=open_stores(settings, reactor),
        telemetry=telemetry,
    )
    main = Certificates(settings.listen or "", wired.front)
    ports = [listen_main(main.reactor_for(reactor_for(settings, reactor)), settings, wired.front)]
    notifier = Notifier(os.environ, reactor)
    greeting = [start_line(settings, ports[0].getHost())]
    where = settings.metrics_listen
    apart = Certificates(where or "", wired.metrics_edge)
    if where is not None:
        listening = listen(apart.reactor_for(reactor), "METRICS_LISTEN", where, wired.metrics_edge)
        ports.append(listening)
        greeting.append(f"Metrics at {url(ports[1].getHost(), where)}/metrics")
    writer = LogWriter(target, reactor)
    wired.metrics.count_dropped_lines(lambda: writer.dropped)
    # A thread that reads a file or resolves a name holds up no process that is to end now.
    reactor.getThreadPool().threadFactory = partial(Thread, daemon=True)
    reloader = Reloader(
        [KeyFiles(settings, wired.admission, wired.roster), main, apart],
        reactor,
        lambda read: deferToThreadPool(reactor, reactor.getThreadPool(), read),
    )

    def hangup() -> None:
        """Read key files and certificates again, and tell systemd when that is done. Called for
        SIGHUP."""
        notifier.reload(reloader.reload())

    reactor.callWhenRunning(handle_signals, reactor, target, writer, wired.front.end, hangup)
    # Not before the signals are handled: who is told that this process is ready may send one.
    reactor.callWhenRunning(notifier.ready)
    reactor.addSystemEventTrigger("after", "shutdown", writer.finish)
    return GatewayService(
        clock=reactor,
        edge=wired.front,
        metrics_edge=wired.metrics_edge,
        ports=ports,
        drain_timeout=settings.drain_timeout,
        drain_delay=settings.drain_delay,
        let_go=lambda: let_go(ports[0], reactor, inherited=is_inherited(settings)),
        shared=settings.reuse_port or is_inherited(settings),
        notifier=notifier,
        observer=observer(writer.write, _line(settings, target), settings.log_level),
        pools=wired.pools,
        parts=(reloader, *wired.parts),
        greeting=greeting,
        warnings=[
            *warnings,
            *warnings_about(settings, getattr(ports[0].getHost(), "host", None)),
            *ledger_warnings(settings),
        ],
    )


def _log_target(options: Options) -> Target:
    """Return where to write the log, which is where twistd was told to; the choice is made again
    here, since our observer takes the place of twistd's.

    Standard output where twistd stays in the foreground and no file is named, else the file, which
    is ``twistd.log`` where it has no name. Raises `SettingsError` for a file that cannot be opened.
    Called by `makeService`.
    """
    parent: dict[str, Any] = getattr(options, "parent", None) or {}
    name = parent.get("logfile")
    if parent.get("nodaemon", True) and name in (None, "", "-"):
        return target_of(STDOUT)
    path = name or "twistd.log"
    try:
        return LogFile(path)
    except OSError as why:
        allowed = f"must be a file that can be written: {why.strerror}"
        raise SettingsError("--logfile", path, allowed) from None


def _line(settings: Settings, target: Target) -> Callable[[LogEvent], str]:
    """Return the function that makes a line of text out of a log event: in words where the log goes
    to a terminal, as JSON elsewhere, unless `LOG_FORMAT` says ``text`` or ``json``. Called by
    `_service` once, with the target that the log goes to."""
    terminal = os.isatty(target.fileno())
    if (settings.log_format or ("text" if terminal else "json")) == "json":
        return json_line
    return TextLines(colours=shows_colours(target.fileno()))
