"""Start, drain, stop."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock, call

from twisted.application.service import Application, IService, MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent
from twisted.python.components import Componentized
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.errors import CutByShutdown
from infergate.process import service as service_module
from infergate.process.service import GARBAGE, LAST_WORDS
from infergate.server.connection import ON_ITS_WAY
from tests.unit.inmemory import DONE, Client, Running, chat, completion, delta, request

DRAIN = 30.0


class Port:
    """A listening port; `slow` ones take until `closed` fires."""

    def __init__(self, slow: bool = False) -> None:
        self.listening = True
        self.closed: Deferred[None] | None = Deferred() if slow else None

    def getHost(self) -> str:
        return "somewhere"

    def stopListening(self) -> Deferred[None] | None:
        self.listening = False
        return self.closed


class Pusher:
    """What pushes metrics."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> Deferred[None]:
        self.calls.append("stop")
        return succeed(None)


class Starting(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        self.patch(service_module, "_log", Logger(observer=self.events.append))
        self.gc = Mock()
        self.patch(service_module, "gc", self.gc)

    def test_it_is_a_service(self) -> None:
        """It is a service as twistd takes it."""
        verifyObject(IService, Running().service())

    def test_greeting_comes_before_warnings(self) -> None:
        """At the start the log says what runs, and then what is likely to be a mistake."""
        service = Running().service(greeting=["here I am", "{twice}"], warnings=["{beware}"])
        service.startService()
        self.assertTrue(service.running)
        said = [(event["log_level"].name, formatEvent(event)) for event in self.events]
        self.assertEqual(said, [("info", "here I am"), ("info", "{twice}"), ("warn", "{beware}")])

    def test_parts_start_and_stop_with_the_service(self) -> None:
        """What pushes metrics starts and stops with it."""
        pusher = Pusher()
        service = Running().service(parts=[pusher])
        service.startService()
        self.assertEqual(pusher.calls, ["start"])
        self.successResultOf(service.stopService())
        self.assertEqual(pusher.calls, ["start", "stop"])

    def test_garbage_collections_leave_alone_what_is_there_at_the_start(self) -> None:
        """Once all parts run, the collector is told to look at what is made from then on."""
        service = Running().service()
        self.assertEqual(self.gc.mock_calls, [])
        service.startService()
        self.assertEqual(
            self.gc.mock_calls, [call.collect(), call.freeze(), call.set_threshold(GARBAGE)]
        )

    def test_application_logs_as_the_settings_say(self) -> None:
        """The application logs as the settings say, from when the service is a part of it."""
        application = Application("infergate")

        def observe(event: LogEvent) -> None:
            """Not called."""

        Running().service(observer=observe).setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), observe)

    def test_logging_is_left_alone_where_there_is_no_application(self) -> None:
        """In another collection of services it is one of them, and no more."""
        parent = MultiService()
        self.assertNotIsInstance(parent, Componentized)
        Running().service().setServiceParent(parent)
        self.assertEqual(len(list(parent)), 1)


class Draining(SynchronousTestCase):
    def start(self, drain_timeout: float = DRAIN, **settings: Any) -> None:
        self.running = Running(backend=True, **settings)
        self.port = Port()
        self.service = self.running.service(drain_timeout, ports=[self.port])
        self.events: list[LogEvent] = []
        self.patch(service_module, "_log", Logger(observer=self.events.append))
        self.patch(service_module, "gc", Mock())
        self.service.startService()

    def setUp(self) -> None:
        self.start()

    def test_process_with_nothing_running_ends_at_once(self) -> None:
        """With nothing running the process can end at once."""
        idle = self.running.connect()
        idle.ask(request("GET", "/healthz"))
        stopped = self.service.stopService()
        self.running.wait(0)
        self.successResultOf(stopped)
        self.assertTrue(idle.wire.lost)
        self.assertFalse(self.port.listening)
        self.assertFalse(self.service.running)
        self.running.wait(0.2)
        self.assertEqual(self.running.clock.getDelayedCalls(), [])

    def test_what_runs_may_finish_and_what_is_new_is_refused(self) -> None:
        """What runs may end; meanwhile the port stays open, probes are told, and what is new is
        refused."""
        plain, stream = self.running.connect(), self.running.connect()
        plain.send(chat())
        stream.send(chat(stream=True))
        plain_backend, stream_backend = self.running.port.connections
        stream_backend.begin()
        stream_backend.piece(delta("a"))
        stopped = self.service.stopService()
        self.running.wait(DRAIN - 1)
        self.assertTrue(self.port.listening)
        self.assertEqual(self.running.get("/readyz").json, {"status": "draining"})
        self.assertEqual(self.running.get("/healthz").status, 200)
        self.assertEqual(self.running.ask(chat()).code, "shutting_down")
        plain_backend.answer(completion())
        self.assertNoResult(stopped)
        stream_backend.piece(delta("b") + DONE)
        self.running.wait(0)
        self.successResultOf(stopped)
        self.assertEqual(plain.answer.status, 200)
        self.assertEqual(stream.answer.body, delta("a") + delta("b") + DONE)
        self.assertTrue(stream.answer.whole)
        self.assertFalse(self.port.listening)
        self.assertEqual([o for o in self.running.outcomes if o == "internal_error"], [])

    def test_what_runs_too_long_is_told_that_it_is_over(self) -> None:
        """What still runs after DRAIN_TIMEOUT is told that it is over: a stream by an error event,
        a plain request by a 502; then the process ends."""
        plain, stream = self.running.connect(), self.running.connect()
        plain.send(chat())
        stream.send(chat(stream=True))
        stream_backend = self.running.port.connections[1]
        stream_backend.begin()
        stream_backend.piece(delta("a"))
        stopped = self.service.stopService()
        self.running.wait(DRAIN - 0.1)
        self.assertEqual(plain.received, b"")
        self.running.wait(0.1)
        self.assertEqual((plain.answer.status, plain.answer.code), (502, "shutting_down"))
        self.assertEqual(stream.answer.body, delta("a") + CutByShutdown().event())
        self.assertFalse(stream.answer.whole)
        self.successResultOf(stopped)
        self.assertEqual(self.running.outcomes, ["shutdown"] * 2)
        for connection in self.running.port.connections:
            self.assertTrue(connection.closed)
        self.assertEqual(len(self.events), 1)  # that the time is up
        self.running.wait(0.2)
        self.assertEqual(self.running.clock.getDelayedCalls(), [])

    def test_client_that_does_not_read_is_cut(self) -> None:
        """A client that does not take its last words is cut, so that the process does end; its line
        is in the log by then."""
        client = self.running.connect()
        client.send(chat())
        client.stop_reading()
        stopped = self.service.stopService()
        stopped.addCallback(lambda _: list(self.running.outcomes))
        self.running.wait(DRAIN)
        self.assertNoResult(stopped)
        self.running.wait(LAST_WORDS)
        self.running.wait(0)
        self.assertTrue(client.wire.aborted)
        self.assertEqual(self.successResultOf(stopped), ["shutdown"])

    def test_drain_timeout_of_zero_waits_for_nothing(self) -> None:
        """With a DRAIN_TIMEOUT of 0 nothing is waited for."""
        self.start(drain_timeout=0)
        client = self.running.connect()
        client.send(chat())
        stopped = self.service.stopService()
        self.running.wait(0)
        self.assertEqual(client.answer.code, "shutting_down")
        self.successResultOf(stopped)

    def test_open_connection_of_a_probe_holds_nothing_up(self) -> None:
        """A probe's open connection holds nothing up, and is closed at the end."""
        busy = self.running.connect()
        busy.send(chat())
        stopped = self.service.stopService()
        probe = self.running.connect()
        self.running.wait(ON_ITS_WAY)
        self.running.backend.answer(completion())
        self.running.wait(0)
        self.successResultOf(stopped)
        self.assertTrue(probe.wire.lost)

    def test_who_waits_at_the_port_until_the_end_is_refused_in_words(self) -> None:
        """Who connects just before the port is closed gets a 503, which a proxy may send elsewhere,
        and no reset, which it may not."""
        late: list[Client] = []

        async def let_go() -> None:
            late.append(self.running.connect())

        stopped = self.running.service(DRAIN, let_go=let_go).stopService()
        (client,) = late
        self.running.wait(ON_ITS_WAY / 2)
        self.assertNoResult(stopped)
        client.send(chat())
        self.running.wait(0)
        self.assertEqual((client.answer.status, client.answer.code), (503, "shutting_down"))
        self.successResultOf(stopped)

    def test_who_waits_at_a_shared_port_is_served(self) -> None:
        """A shared port is let go of first; who was accepted last and who comes again on a kept
        connection is served, and sent away with the answer."""
        kept, late = self.running.connect(), []
        kept.ask(request("GET", "/healthz"))

        async def let_go() -> None:
            late.append(self.running.connect())

        stopped = self.running.service(DRAIN, let_go=let_go, shared=True).stopService()
        self.assertEqual(len(late), 1)
        for client in (kept, *late):
            client.send(chat())
            self.running.port.connections[-1].answer(completion())
            answer = client.answers()[-1]
            self.assertEqual((answer.status, answer.headers["connection"]), (200, "close"))
            self.assertTrue(client.wire.lost)
        self.successResultOf(stopped)

    def test_stream_that_ends_in_the_drain_of_a_shared_port(self) -> None:
        """The next request of a client whose stream ended is served: the connection is the one that
        the stream's head promised to keep. One that asks no more is closed."""
        clients = [self.running.connect() for _ in range(2)]
        for client in clients:
            client.send(chat(stream=True))
        backends = self.running.port.connections[:]
        for backend in backends:
            backend.begin()
            backend.piece(delta("a"))
        stopped = self.running.service(DRAIN, shared=True).stopService()
        for backend in backends:
            backend.piece(DONE)
        self.assertEqual([client.wire.lost for client in clients], [False, False])
        clients[0].send(chat())
        self.running.port.connections[-1].answer(completion())
        answer = clients[0].answers()[-1]
        self.assertEqual((answer.status, answer.headers["connection"]), (200, "close"))
        self.assertEqual(len(clients[0].answers()), 2)
        self.running.pass_time(ON_ITS_WAY + 0.2)
        self.assertEqual([client.wire.lost for client in clients], [True, True])
        self.successResultOf(stopped)

    def test_metrics_listener_answers_until_the_end(self) -> None:
        """The listener of METRICS_LISTEN answers until the end, and is then closed."""
        service = self.running.service(DRAIN)
        busy = self.running.connect()
        busy.send(chat())
        stopped = service.stopService()
        scraper = self.running.connect(edge=self.running.metrics_edge)
        self.assertEqual(scraper.ask(request("GET", "/metrics")).status, 200)
        self.assertFalse(scraper.closed)
        self.running.backend.answer(completion())
        self.running.wait(0)
        self.successResultOf(stopped)
        self.assertTrue(scraper.wire.aborted)

    def test_idle_connections_to_the_backend_are_closed(self) -> None:
        """The connections kept to the backend are closed."""
        client = self.running.connect()
        client.send(chat())
        backend = self.running.port.connections[-1]
        backend.answer(completion())
        self.assertFalse(backend.closed)
        stopped = self.service.stopService()
        self.running.wait(0)
        self.assertTrue(backend.closed)
        self.successResultOf(stopped)

    def test_echo_stops_too(self) -> None:
        """An echo has no such connections, and stops as well."""
        running = Running()
        self.successResultOf(running.service(pools=()).stopService())

    def test_end_waits_for_a_port_that_closes_slowly(self) -> None:
        """The end waits until the port is closed."""
        port = Port(slow=True)
        stopped = self.running.service(DRAIN, ports=[port]).stopService()
        self.assertNoResult(stopped)
        assert port.closed is not None
        port.closed.callback(None)
        self.successResultOf(stopped)
