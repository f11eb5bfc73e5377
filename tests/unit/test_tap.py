"""`twistd infergate`: options, and the service made of them."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import twisted.internet
from msgspec.structs import astuple
from twisted.application.service import IService, IServiceMaker
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, _FakePort
from twisted.logger import ILogObserver, Logger
from twisted.plugin import IPlugin
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate import __version__, ledger, tap
from infergate.access.auth import AnyOf, Token
from infergate.config.dotenv import read_dotenv
from infergate.config.settings import Settings
from infergate.process import service, warnings
from infergate.server.edge import Edge
from infergate.tap import Options, makeService
from infergate.telemetry import logs
from infergate.worker import BackendWorker, EchoWorker
from tests.unit.inmemory import Client, Output, Wire, chat, request
from twisted.plugins.infergate_plugin import infergate as plugin


class Reactor(MemoryReactorClock):
    """A reactor in memory on which some ports are taken."""

    taken: tuple[int, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.threads = ThreadPool()

    def getThreadPool(self) -> ThreadPool:
        return self.threads

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port in self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        super().listenTCP(port, factory, backlog, interface)
        kind = IPv6Address if ":" in interface else IPv4Address
        return _FakePort(kind("TCP", interface or "0.0.0.0", port))

    def callFromThread(self, function: Any, *args: Any) -> None:
        function(*args)


class InMemory(SynchronousTestCase):
    """A process without a reactor, an environment, a .env or a say about its limits."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.patch(twisted.internet, "reactor", self.reactor)
        self.environ: dict[str, str] = {}
        self.patch(tap.os, "environ", self.environ)
        self.patch(tap, "read_dotenv", dict)
        self.limits: list[tuple[int, tuple[int, int]]] = []
        self.patch(resource, "setrlimit", lambda which, limits: self.limits.append((which, limits)))
        self.handlers: dict[int, Any] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.output = Output()
        self.patch(tap, "target_of", lambda fd: self.output if fd == 1 else None)

    def make(self, *arguments: str) -> Any:
        options = Options()
        options.parseOptions(arguments)
        return makeService(options)

    def refused(self, *arguments: str) -> str:
        """The one line with which the process ends."""
        error = self.assertRaises(SystemExit, self.make, *arguments)
        (line,) = str(error).splitlines()
        self.assertTrue(line.startswith("infergate: "), line)
        self.assertEqual(self.output.written, b"")
        return line

    def edge(self, service: Any) -> Edge:
        return service._edge

    def client(self, edge: Edge) -> Client:
        clock: Clock = self.reactor
        return Client(clock, edge, Wire(clock, "192.0.2.1"))

    @contextmanager
    def settings(self, **values: Any) -> Iterator[None]:
        settings = attrs.evolve(Settings(), **values)
        with mock.patch.object(tap, "load", lambda *_: settings):
            yield


class Plugin(SynchronousTestCase):
    def test_found(self) -> None:
        """twistd finds the plugin by its name, without loading what it stands for."""
        verifyObject(IPlugin, plugin)
        verifyObject(IServiceMaker, plugin)
        self.assertEqual(plugin.tapname, "infergate")
        self.assertIs(plugin.options, Options)
        self.assertIs(plugin.makeService, makeService)


class OptionsTests(InMemory):
    def test_help_is_in_groups(self) -> None:
        """The help shows every option, group by group."""
        usage = Options().getUsage()
        for name in [name for name, *_ in Options.optParameters]:
            self.assertIn(f"--{name}=", usage)
        self.assertIn("\nDeadlines:\n", usage)

    def test_given(self) -> None:
        """What is given on the command line is read."""
        self.make("--port=1234", "--host", "127.0.0.2")
        (port, _, backlog, interface) = self.reactor.tcpServers[0]
        self.assertEqual((port, interface, backlog), (1234, "127.0.0.2", 1024))

    def test_order(self) -> None:
        """The command line comes before the environment, that before .env, that before the
        default."""
        self.patch(tap, "read_dotenv", lambda: {"PORT": "1", "MAX_CONNECTIONS": "7"})
        self.environ.update(PORT="2", MAX_HEADERS="8")
        self.assertEqual(self.edge(self.make()).limits.framing.fields, 8)
        self.assertEqual(self.edge(self.make()).limits.connections, 7)
        self.make("--port=3")
        self.assertEqual([server[0] for server in self.reactor.tcpServers], [2, 2, 3])

    def test_unknown(self) -> None:
        """An option that there is not ends the process with one line, not a page of help."""
        self.assertIn("--nonsense", self.refused("--nonsense"))
        self.assertIn("port", self.refused("--port"))

    def test_wrong(self) -> None:
        """A wrong setting ends it with its name, its value and what is allowed; nothing has
        been listened to by then."""
        line = self.refused("--port=70000")
        self.assertEqual(line, "infergate: PORT='70000': must be a whole number from 0 to 65535")
        self.environ["LOG_LEVEL"] = "loud"
        self.assertIn("LOG_LEVEL='loud': must be ", self.refused())
        self.assertEqual(self.reactor.tcpServers, [])

    def test_secrets(self) -> None:
        """A secret is not shown, however wrong it is."""
        self.environ["API_KEYS"] = "canary canary"
        self.assertNotIn("canary", self.refused())
        self.environ.clear()
        self.environ["BACKEND_URL"] = "http://user:canary@host"
        self.assertNotIn("canary", self.refused())


class Listening(InMemory):
    def test_default(self) -> None:
        """By default it listens on port 8080 of this machine alone."""
        service = self.make()
        verifyObject(IService, service)
        self.assertEqual(self.reactor.tcpServers[0][0], 8080)
        self.assertEqual(self.reactor.tcpServers[0][3], "127.0.0.1")

    def test_ipv6(self) -> None:
        """HOST may be an IPv6 address."""
        self.make("--host=::1")
        self.assertEqual(self.reactor.tcpServers[0][3], "::1")

    def test_endpoint(self) -> None:
        """LISTEN takes the place of both, with any endpoint that Twisted knows."""
        self.make("--listen=unix:/run/infergate", "--port=9")
        self.assertEqual(self.reactor.unixServers[0][0], "/run/infergate")
        self.assertEqual(self.reactor.tcpServers, [])

    def test_metrics(self) -> None:
        """METRICS_LISTEN is another port, for the metrics alone."""
        service = self.make("--metrics-listen=tcp:9100")
        self.assertEqual([server[0] for server in self.reactor.tcpServers], [8080, 9100])
        front, apart = (server[1] for server in self.reactor.tcpServers)
        self.assertIs(self.edge(service), front)
        self.assertEqual(self.client(apart).ask(request("GET", "/metrics")).status, 200)
        self.assertEqual(self.client(apart).ask(request("GET", "/healthz")).status, 404)
        self.assertEqual(self.client(front).ask(request("GET", "/metrics")).status, 404)

    def test_greeting(self) -> None:
        """The log begins with what runs, and with where the metrics are."""
        service = self.make("--rate-limit=60/minute", "--metrics-listen=tcp:9100", "--routes=chat")
        self.assertEqual(
            service._greeting,
            [
                f"infergate {__version__} at http://127.0.0.1:8080; backend: echo; operations: "
                "chat; no key needed; limits: RATE_LIMIT=60/minute",
                "Metrics at http://0.0.0.0:9100/metrics",
            ],
        )

    def test_wrong_endpoint_names_its_setting(self) -> None:
        """What cannot be listened on ends the process with one line that names the setting."""
        self.reactor.taken = (8080, 9100)
        for arguments, start in (
            ((), "infergate: PORT='8080': "),
            (("--listen=tcp:8080",), "infergate: LISTEN='tcp:8080': "),
            (("--port=1", "--metrics-listen=tcp:9100"), "infergate: METRICS_LISTEN='tcp:9100': "),
        ):
            self.assertEqual(
                self.refused(*arguments), start + "cannot be listened on: Address already in use"
            )


class Directory(InMemory):
    """A process that twistd was told to run elsewhere, with ``-d`` or ``--rundir``."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(tap, "read_dotenv", read_dotenv)
        self.here = os.getcwd()
        self.addCleanup(os.chdir, self.here)
        self.there = Path(self.mktemp()).absolute()
        self.there.mkdir()

    def make_in(self, rundir: str, **parent: Any) -> tuple[Any, dict[str, Any]]:
        options = Options()
        options.parent = {"rundir": rundir, "chroot": None, "logfile": None, "nodaemon": True}
        options.parent.update(parent)
        options.parseOptions([])
        return makeService(options), options.parent

    def test_dotenv_is_read_where_the_service_runs(self) -> None:
        """.env is that of the directory given by `-d`, and paths in it start from there."""
        (self.there / ".env").write_text("MAX_HEADERS=7\nAPI_KEYS_FILE=keys\n")
        (self.there / "keys").write_text("a:b\n")
        service, parent = self.make_in(os.path.relpath(self.there))
        self.assertEqual(self.edge(service).limits.framing.fields, 7)
        self.assertEqual(parent["rundir"], str(self.there))  # twistd goes there once more

    def test_log_file_is_named_from_where_twistd_was_called(self) -> None:
        """As in twistd, `-l` and the default of a daemon do not move with `-d`."""
        for given, named in (({"logfile": "gate.log"}, "gate.log"),
                             ({"nodaemon": False}, "twistd.log")):  # fmt: skip
            os.chdir(self.here)
            _, parent = self.make_in(str(self.there), **given)
            self.assertEqual(parent["logfile"], os.path.join(self.here, named))
        os.chdir(self.here)
        self.assertEqual(self.make_in(str(self.there), logfile="-")[1]["logfile"], "-")

    def test_no_directory(self) -> None:
        """A directory that is not there, or a log that cannot be written, ends with one line."""
        for parent, line in (
            ({"rundir": "/nonexistent"}, "--directory='/nonexistent': must be a directory"),
            ({"rundir": ".", "logfile": "/nonexistent/x"}, "--logfile='/nonexistent/x': must be"),
        ):
            error = self.assertRaises(SystemExit, self.make_in, **parent)
            self.assertTrue(str(error).startswith(f"infergate: {line}"), error)

    def test_misspelt_names_are_warned_of(self) -> None:
        """A name in .env that is nearly a setting is warned of, with the likely one."""
        (self.there / ".env").write_text("BACKNED_URL=http://a\nHOSTNAME=x\n")
        service, _ = self.make_in(str(self.there))
        self.assertEqual(
            service._warnings, ["BACKNED_URL in .env is no setting. Is BACKEND_URL meant?"]
        )


class Warnings(InMemory):
    """What the log says at the start beside where the gateway listens."""

    def test_ledger_that_cannot_be_made_stops_the_start(self) -> None:
        """Before anything listens, the line names the setting and the path."""
        line = self.refused("--usage-db=no/such/folder/usage.db")
        self.assertIn("USAGE_DB='no/such/folder/usage.db': cannot be made", line)
        with mock.patch.dict(sys.modules, {"psycopg": None}):
            sys.modules.pop("infergate.ledger.postgresql", None)
            vars(ledger).pop("postgresql", None)
            self.assertIn("[postgresql]", self.refused("--usage-db=postgresql://a:b@host/c"))
        self.assertEqual(self.reactor.tcpServers, [])

    def test_ledger_is_made_before_the_gateway_listens(self) -> None:
        """And a path is relative to the folder in which the gateway runs."""
        path = self.mktemp()
        self.make(f"--usage-db={path}")
        self.assertTrue(Path(path).exists())

    def warned(self, *arguments: str) -> list[str]:
        events: list[Any] = []
        self.patch(service, "_log", Logger(observer=events.append))
        self.patch(service, "gc", mock.Mock())
        self.make(*arguments).startService()
        return [event["warning"] for event in events if "warning" in event]

    def test_open_to_other_machines_without_a_key_is_warned_of(self) -> None:
        """Who serves other machines and asks nobody for a key is told so at the start."""
        for arguments in (
            ("--host=0.0.0.0",),
            ("--host=::",),
            ("--host=10.0.0.1",),
            ("--listen=tcp:8080",),
        ):
            (warning,) = self.warned(*arguments)
            self.assertIn("Nobody needs a key", warning)
            self.assertIn("API_KEYS", warning)

    def test_ledger_on_a_network_file_system_is_warned_of(self) -> None:
        """SQLite's locks cannot be relied on there."""
        path = self.mktemp()
        with mock.patch.object(warnings, "network_file_system", lambda path: "nfs4"):
            (warning,) = self.warned(f"--usage-db={path}")
        self.assertIn("nfs4", warning)
        self.assertIn(path, warning)

    def test_loopback_or_keys_are_not_warned_of(self) -> None:
        """Where a key is needed, or no other machine can come, there is nothing to warn of."""
        path = self.mktemp()
        Path(path).write_text("key-in-the-file-too")
        os.chmod(path, 0o600)
        for arguments in (
            (),
            ("--host=127.0.0.2",),
            ("--host=::1",),
            ("--listen=unix:/run/infergate",),
            ("--host=0.0.0.0", "--api-keys=key-of-sixteen-chars"),
            ("--host=0.0.0.0", f"--api-keys-file={path}"),
            ("--host=0.0.0.0", "--jwt-secret=s"),
            ("--host=0.0.0.0", "--jwt-jwks-url=http://127.0.0.1/keys"),
            ("--metrics-listen=tcp:9100",),
        ):
            self.assertEqual(self.warned(*arguments), [], arguments)


class Wiring(InMemory):
    """Each setting reaches what it is for."""

    def worker(self, service: Any) -> Any:
        return self.gateway(service)._worker

    def gateway(self, service: Any) -> Any:
        return self.edge(service).resource._unrouted._app._instance

    def test_limits(self) -> None:
        """The limits of the settings are those of the edge."""
        with self.settings(
            max_url_bytes=1,
            max_header_bytes=2,
            max_headers=3,
            max_body_bytes=4,
            max_connections=5,
            max_requests_per_connection=6,
            header_timeout=7.0,
            body_timeout=8.0,
            keepalive_timeout=9.0,
            write_stall_timeout=10.0,
            request_timeout=11.0,
            max_connection_age=12.0,
        ):
            limits = self.edge(self.make()).limits
        self.assertEqual(
            attrs.astuple(limits, recurse=False)[1:], (5, 6, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0)
        )
        self.assertEqual(astuple(limits.framing), (1, 2, 3, 4))

    def test_echo(self) -> None:
        """Without BACKEND_URL the gateway is an echo, of the model that DEFAULT_MODEL names."""
        service = self.make("--default-model=mine")
        self.assertEqual(self.worker(service), EchoWorker("mine"))
        answer = self.client(self.edge(service)).ask(chat())
        self.assertEqual(answer.json["model"], "mine")

    def test_backend(self) -> None:
        """With it, each of the backend's settings is the backend's."""
        service = self.make(
            "--backend-url=http://127.0.0.1:9000/v1/",
            "--backend-api-key=canary",
            "--backend-connect-timeout=1",
            "--backend-timeout=2",
            "--stream-idle-timeout=3",
            "--request-timeout=4",
            "--backend-retries=0",
            "--max-response-bytes=5",
            "--max-event-bytes=64",
            "--sse-keepalive=7",
        )
        worker = self.worker(service)
        self.assertIsInstance(worker, BackendWorker)
        backend = worker._backend
        self.assertEqual(attrs.astuple(backend._timeouts), (2.0, 3.0, 4.0))
        self.assertEqual(backend._retries, 0)
        self.assertEqual((worker._max_response, worker._max_event, worker._keepalive), (5, 64, 7.0))
        self.client(self.edge(service)).send(chat())
        host, port, factory, timeout, _ = self.reactor.tcpClients[0]
        self.assertEqual((host, port, timeout), ("127.0.0.1", 9000, 1.0))
        wire = Wire(self.reactor, "127.0.0.1")
        wire.protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
        wire.protocol.makeConnection(wire)
        self.assertTrue(wire.value().startswith(b"POST /v1/chat/completions HTTP/1.1\r\n"))
        self.assertIn(b"Authorization: Bearer canary\r\n", wire.value())

    def test_nobody_needs_a_key(self) -> None:
        """Without a key nobody needs one."""
        self.assertIsNone(self.gateway(self.make())._admission.roster.authenticator)

    def test_keys(self) -> None:
        """Keys from the settings and from a file open alike, and so does a token."""
        path = self.mktemp()
        Path(path).write_text("# keys\nfile:key-in-the-file\n")
        self.environ["API_KEYS"] = "one:key-one"
        service = self.make(f"--api-keys-file={path}")
        authenticator = self.gateway(service)._admission.roster.authenticator
        self.assertIsInstance(authenticator, AnyOf)
        self.assertEqual(authenticator.authenticate(Token("key-in-the-file")), "file")
        for key, status in (("key-one", 200), ("key-in-the-file", 200), ("other", 401)):
            asked = request("GET", "/v1/models", f"Authorization: Bearer {key}")
            self.assertEqual(self.client(self.edge(service)).ask(asked).status, status)

    def test_rate(self) -> None:
        """RATE_LIMIT is per caller, on the reactor's clock."""
        service = self.make("--rate-limit=1/minute")
        asked = request("GET", "/v1/models")
        statuses = [self.client(self.edge(service)).ask(asked).status for _ in range(2)]
        self.assertEqual(statuses, [200, 429])
        self.reactor.advance(60)
        self.assertEqual(self.client(self.edge(service)).ask(asked).status, 200)

    def test_tokens(self) -> None:
        """JWT_SECRET, JWT_PUBLIC_KEY_FILE and JWT_JWKS_URL turn the checking of tokens on, with
        the issuer, audience and algorithms that are set."""
        self.environ["JWT_SECRET"] = "s" * 64
        service = self.make("--jwt-algorithms=HS512", "--jwt-issuer=me", "--jwt-audience=you")
        verifier = self.gateway(service)._admission.roster.authenticator
        self.assertEqual(
            (verifier.algorithms, verifier.issuer, verifier.audience), (("HS512",), "me", "you")
        )
        path = self.mktemp()
        Path(path).write_text(PUBLIC_KEY)
        self.environ.clear()
        service = self.make(f"--jwt-public-key-file={path}", "--jwt-algorithms=EdDSA")
        verifier = self.gateway(service)._admission.roster.authenticator
        self.assertEqual(verifier.algorithms, ("EdDSA",))

    def test_jwks(self) -> None:
        """With JWT_JWKS_URL the keys are fetched when the first token comes, on this reactor."""
        url = "http://127.0.0.1:9001/keys"
        service = self.make(f"--jwt-jwks-url={url}")
        self.assertEqual(self.reactor.tcpClients, [])
        token = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.e30.e30"
        asked = request("GET", "/v1/models", f"Authorization: Bearer {token}")
        self.client(self.edge(service)).send(asked)
        self.assertEqual(self.reactor.tcpClients[0][:2], ("127.0.0.1", 9001))

    def test_others(self) -> None:
        """What is left reaches the edge and the service."""
        service = self.make(
            "--error-format=openai", "--trusted-proxies=10.0.0.0/8", "--drain-timeout=3"
        )
        edge = self.edge(service)
        self.assertEqual((edge.error_format, len(edge.trusted_proxies)), ("openai", 1))
        self.assertEqual(service._drain_timeout, 3.0)
        rules = self.gateway(self.make("--max-tokens-limit=5", "--default-model="))._rules
        self.assertEqual((rules.max_tokens_limit, rules.default_model), (5, ""))

    def test_accounted(self) -> None:
        """An exchange that has ended is in the log and in the metrics."""
        events: list[Any] = []
        self.patch(logs, "_log", Logger(observer=events.append))
        edge = self.edge(self.make())
        self.client(edge).ask(chat("X-Request-ID: my-id"))
        self.assertEqual([event["record"].request_id for event in events], ["my-id"])
        text = self.client(edge).ask(request("GET", "/metrics")).body
        self.assertIn(b'route="/v1/chat/completions",status="200"} 1.0', text)

    def test_push(self) -> None:
        """Without OTEL_EXPORTER_OTLP_ENDPOINT nothing is pushed; without the extra that it needs
        the process ends with one line that says so."""
        self.assertEqual(len(self.make()._parts), 3)
        with mock.patch.dict(sys.modules, {"infergate.telemetry.otlp": None}):
            line = self.refused("--otel-exporter-otlp-endpoint=http://collector:4318")
        self.assertIn("OTEL_EXPORTER_OTLP_ENDPOINT", line)
        self.assertIn("otlp", line)
        otlp = mock.Mock(message=lambda *_: b"the metrics")
        modules = {"infergate.telemetry.otlp": otlp, "infergate.telemetry.otlpmetrics": mock.Mock()}
        self.environ["OTEL_TRACES_EXPORTER"] = "none"
        with mock.patch.dict(sys.modules, modules):
            made = self.make("--otel-exporter-otlp-endpoint=http://127.0.0.1:4318/x")
        *_, pushers, _ = made._parts
        (pusher,) = pushers._pushers
        pusher._parts = lambda: iter(())
        pushers.stop()
        host, port, factory, *_ = self.reactor.tcpClients[0]
        self.assertEqual((host, port), ("127.0.0.1", 4318))
        wire = Wire(self.reactor, "127.0.0.1")
        wire.protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
        wire.protocol.makeConnection(wire)
        self.assertTrue(wire.value().startswith(b"POST /x/v1/metrics HTTP/1.1\r\n"))
        self.assertTrue(wire.value().endswith(b"\r\n\r\nthe metrics"))


class Logging(InMemory):
    def line(self, service: Any) -> str:
        verifyObject(ILogObserver, service._observer)
        Logger(observer=service._observer).warn("hello")
        return self.output.written.decode()

    def test_stdout(self) -> None:
        """Without a log file, or in the foreground, the log is the standard output."""
        self.assertEqual(json.loads(self.line(self.make()))["message"], "hello")

    def test_format(self) -> None:
        """LOG_FORMAT and LOG_LEVEL are the log's."""
        self.assertRegex(self.line(self.make("--log-format=text")), r"\A[0-9:]{8} warn hello\n\Z")
        self.output.written = b""
        self.assertEqual(self.line(self.make("--log-level=error")), "")

    def test_log_on_a_terminal_is_made_to_be_read(self) -> None:
        """With LOG_FORMAT unset it is text on a terminal, and JSON elsewhere, as before."""
        self.patch(os, "isatty", lambda fd: True)
        self.assertRegex(self.line(self.make()), r" (\x1b.*)?warn(\x1b.*)? hello\n\Z")
        self.output.written = b""
        self.assertEqual(json.loads(self.line(self.make("--log-format=json")))["level"], "warn")

    def test_successful_probes_are_logged_where_they_are_asked_for(self) -> None:
        """LOG_PROBES has them at info."""
        for options, lines in ((("--log-probes=true",), 1), ((), 0)):
            self.output.written = b""
            service = self.make(*options)
            self.patch(logs, "_log", Logger("infergate", observer=service._observer))
            self.client(self.edge(service)).ask(request("GET", "/healthz"))
            self.assertEqual(self.output.written.count(b'"path":"/healthz"'), lines)

    def target(self, **parent: Any) -> Any:
        options = Options()
        options.parent = parent
        return tap._log_target(options)

    def test_log_goes_where_twistd_was_told(self) -> None:
        """What twistd was told with --logfile is where the log goes; in the background by default
        to twistd.log."""
        path = self.mktemp()
        target = self.target(nodaemon=True, logfile=path)
        self.assertEqual(target.path, os.path.abspath(path))
        os.close(target.fileno())
        self.assertIs(self.target(nodaemon=True, logfile="-"), self.output)
        self.assertIs(self.target(nodaemon=True, logfile=None), self.output)
        directory = self.mktemp()
        os.mkdir(directory)
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(directory)
        target = self.target(nodaemon=False, logfile=None)
        self.assertEqual(os.path.basename(target.path), "twistd.log")
        os.close(target.fileno())

    def test_lines_are_waited_for_when_the_reactor_has_ended(self) -> None:
        """What the reader of the log has not taken by then is waited for at the very end."""
        self.make()
        names = [
            trigger.__name__ for trigger, *_ in self.reactor.triggers.get("after", {})["shutdown"]
        ]
        self.assertEqual(names, ["finish"])

    def test_dropped_lines_are_a_metric(self) -> None:
        """Lines that nobody took are counted where an operator looks."""
        service = self.make()
        name = b"infergate_log_lines_dropped_total"

        def broken(data: bytes) -> int:
            raise BrokenPipeError

        client = self.client(self.edge(service))
        self.assertIn(name + b" 0.0\n", client.ask(request("GET", "/metrics")).body)
        self.patch(self.output, "send", broken)
        Logger(observer=service._observer).warn("hello")
        self.reactor.advance(60)
        self.assertIn(name + b" 1.0\n", client.ask(request("GET", "/metrics")).body)


class Process(InMemory):
    def test_open_files(self) -> None:
        """The limit of open files is raised as far as it goes."""
        self.make()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.assertEqual(self.limits, [(resource.RLIMIT_NOFILE, (hard, hard))])

    def test_threads_hold_up_no_process_that_is_to_end_now(self) -> None:
        """After a second signal Python does not wait for threads that read files or resolve names,
        which nobody has stopped then."""
        self.make()
        self.assertTrue(self.reactor.getThreadPool().threadFactory(target=print).daemon)

    def test_when(self) -> None:
        """Signals are handled from when the reactor runs: twistd's own handlers come before."""
        self.make()
        early = {signal.SIGHUP: signal.SIG_IGN, signal.SIGUSR1: signal.SIG_IGN}
        self.assertEqual(self.handlers, early)
        for hook, args, keywords in self.reactor.whenRunningHooks:
            hook(*args, **keywords)
        self.assertEqual(set(self.handlers), {signal.SIGTERM, signal.SIGINT, *early})


PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""
