"""All connections of one listener: limits, whose turn it is, and how they end."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.errors import CutByShutdown
from infergate.server.connection import ON_ITS_WAY
from tests.unit.inmemory import (
    Client,
    Running,
    chat,
    request,
)

HEALTHZ = request("GET", "/healthz")
CLOSING = request("GET", "/healthz", "Connection: close")


class Factory(SynchronousTestCase):
    def test_only_http_1_1_is_offered_over_tls(self) -> None:
        """Over TLS only HTTP/1.1 is offered: HTTP/2 would go around all that is checked here."""
        self.assertEqual(Running().edge.acceptableProtocols(), [b"http/1.1"])

    def test_factory_opens_no_log_and_leaves_no_timer(self) -> None:
        """Starting and stopping the factory opens no access log and leaves no timer."""
        running = Running()
        running.edge.doStart()
        running.edge.log(object())
        running.edge.doStop()
        self.assertEqual(running.clock.getDelayedCalls(), [])


class Connections(SynchronousTestCase):
    """MAX_CONNECTIONS."""

    def busy(self, running: Running) -> Client:
        """A client whose request waits for the backend."""
        client = running.connect()
        client.send(chat())
        return client

    def test_connection_that_idled_longest_makes_room(self) -> None:
        """A new client above the limit has the place of the one that idles longest after a
        request, and is served like any other."""
        running = Running(connections=2)
        first, second = running.connect(), running.connect()
        for client in (first, second, first):
            client.send(HEALTHZ)
        third = running.connect()
        self.assertEqual([c.wire.lost for c in (first, second, third)], [False, True, False])
        self.assertEqual(third.ask(chat()).status, 200)
        self.assertEqual(first.ask(chat()).status, 200)

    def test_busy_connections_make_no_room(self) -> None:
        """Nobody whose request is under way, or who has not asked yet, is closed for another."""
        running = Running(backend=True, connections=2)
        busy, fresh = self.busy(running), running.connect()
        for _ in range(5):
            running.connect()
        running.backend.answer(b'{"error":{}}', status=400)
        self.assertEqual(busy.answer.status, 400)
        self.assertEqual(fresh.ask(HEALTHZ).status, 200)

    def test_probes_get_through_above_the_limit(self) -> None:
        """Above the limit probes are answered as ever, and all else is told 503 and when to come
        back, before any of its body is read."""
        running = Running(backend=True, connections=1)
        self.busy(running)
        for path in ("/healthz", "/readyz"):
            answer = running.get(path)
            self.assertEqual((answer.status, answer.headers["connection"]), (200, "close"))
        for data in (chat()[:-5], request("GET", "/v1/models"), request("GET", "/nope")):
            answer = running.ask(data)
            self.assertEqual((answer.status, answer.code), (503, "overloaded"))
            self.assertEqual(answer.headers["retry-after"], "1")
            self.assertEqual(answer.headers["connection"], "close")
        self.assertEqual(running.outcomes[-3:], ["overloaded"] * 3)

    def test_connection_above_the_limit_gets_a_place_that_is_free(self) -> None:
        """Who came above the limit, and asks when there is room again, is served."""
        for leave in (True, False):
            running = Running(backend=True, connections=1)
            busy = self.busy(running)
            waiting = running.connect()
            if leave:
                busy.reset()
            else:
                running.backend.answer(b'{"error":{}}', status=400)
            waiting.send(request("GET", "/v1/models"))
            running.port.connections[-1].answer(b'{"data":[]}')
            self.assertEqual(waiting.answer.status, 200)
            self.assertNotIn("connection", waiting.answer.headers)
            self.assertTrue(busy.wire.lost)

    def test_one_silent_longest_makes_room_above_the_limit(self) -> None:
        """As many again are let in above the limit; of these the one silent longest is closed for
        the next, without an answer where it had asked nothing."""
        running = Running(backend=True, connections=2)
        held = [self.busy(running) for _ in range(2)]
        first, second = running.connect(), running.connect()
        first.send(b"GET /he")
        third = running.connect()
        self.assertEqual([c.wire.lost for c in (first, second, third)], [False, True, False])
        self.assertEqual((second.received, running.records), (b"", []))
        running.connect()
        self.assertEqual((first.answer.status, first.answer.code), (503, "overloaded"))
        self.assertEqual([c.closed for c in held], [False, False])

    def test_flood_is_bounded(self) -> None:
        """However many come, no more stay than twice the limit, and nobody is written a line who
        asked nothing."""
        running = Running(backend=True, connections=3)
        for _ in range(3):
            self.busy(running)
        for _ in range(50):
            running.connect()
        self.assertEqual(len(running.edge.connections), 6)
        self.assertEqual(running.records, [])
        self.assertEqual(running.get("/healthz").status, 200)


class Draining(SynchronousTestCase):
    def test_idle_connections_close_in_a_drain(self) -> None:
        """Idle connections are closed at once, and when none is left the drain is over."""
        running = Running()
        silent = running.connect()
        running.wait(ON_ITS_WAY)
        used = running.connect()
        used.send(HEALTHZ)
        drained = running.edge.drain()
        running.wait(0)
        self.assertTrue(silent.wire.lost and used.wire.lost)
        self.successResultOf(drained)

    def test_new_connection_is_no_idle_one(self) -> None:
        """Who has just connected gets an answer to what is on its way, and is waited for, if only
        for half a second."""
        running = Running()
        prompt, silent = running.connect(), running.connect()
        drained = running.edge.drain()
        prompt.send(chat())
        self.assertEqual((prompt.answer.status, prompt.answer.code), (503, "shutting_down"))
        running.pass_time(ON_ITS_WAY - 0.1)
        self.assertFalse(silent.wire.lost)
        self.assertNoResult(drained)
        running.pass_time(0.2)
        self.assertTrue(silent.wire.lost)
        self.successResultOf(drained)

    def test_newcomers_hold_no_drain_up(self) -> None:
        """However many come in a drain, to be refused, it is over when those before it are gone."""
        running = Running(backend=True)
        busy = running.connect()
        busy.send(chat())
        drained = running.edge.drain()
        running.connect().send(chat()[:30])
        running.backend.answer(b'{"error":{}}', status=400)
        self.successResultOf(drained)

    def test_connections_are_closed_with_their_answers_before_a_drain(self) -> None:
        """Once a drain is announced a connection closes with its next answer, which says so: no
        request of its client's meets the closing of an idle connection."""
        running = Running()
        client = running.connect()
        self.assertNotIn("connection", client.ask(HEALTHZ).headers)
        running.edge.leaving = True
        self.assertEqual(client.ask(HEALTHZ).headers["connection"], "close")
        self.assertTrue(client.wire.lost)

    def test_drain_of_nobody_is_over_at_once(self) -> None:
        """Where there is no connection the drain is over before it has begun."""
        self.successResultOf(Running().edge.drain())

    def test_running_request_is_finished_in_a_drain(self) -> None:
        """What runs is finished, on a connection that then closes."""
        running = Running(backend=True)
        client = running.connect()
        client.send(chat())
        drained = running.edge.drain()
        running.wait(1)
        self.assertFalse(client.closed)
        self.assertNoResult(drained)
        running.backend.answer(b'{"error":{}}', status=400)
        self.assertEqual(client.answer.status, 400)
        self.assertEqual(client.answer.headers["connection"], "close")
        self.assertTrue(client.wire.lost)
        self.successResultOf(drained)

    def test_new_request_in_a_drain_is_a_503(self) -> None:
        """What is new gets 503 and is told to come back, on new connections and old ones."""
        running = Running(backend=True)
        busy = running.connect()
        busy.send(chat() + chat())
        running.edge.drain()
        for data in (chat(), request("GET", "/v1/models"), request("GET", "/nope")):
            client = running.connect()
            client.send(data)
            answer = client.answer
            self.assertEqual((answer.status, answer.code), (503, "shutting_down"))
            self.assertEqual(answer.headers["retry-after"], "1")
            self.assertEqual(answer.headers["connection"], "close")
            self.assertTrue(client.closed)
        self.assertEqual(running.outcomes, ["shutdown"] * 3)
        running.backend.answer(b'{"error":{}}', status=400)
        self.assertEqual(busy.answer.status, 400)

    def test_probes_are_answered_and_hold_no_drain_up(self) -> None:
        """Probes are answered all along, and do not hold the drain up."""
        running = Running(backend=True)
        busy = running.connect()
        busy.send(chat())
        drained = running.edge.drain()
        waiting = running.connect()
        probe = running.connect()
        self.assertEqual(probe.ask(HEALTHZ).json, {"status": "ok"})
        probe = running.connect()
        answer = probe.ask(request("GET", "/readyz"))
        self.assertEqual((answer.status, answer.json), (503, {"status": "draining"}))
        running.backend.answer(b'{"error":{}}', status=400)
        self.successResultOf(drained)
        self.assertFalse(waiting.closed)

    def test_request_that_had_begun_is_waited_for(self) -> None:
        """A request that had begun to come is waited for, and then told 503."""
        running = Running()
        client = running.connect()
        client.send(chat()[:30])
        drained = running.edge.drain()
        self.assertNoResult(drained)
        client.send(chat()[30:])
        self.assertEqual(client.answer.status, 503)
        running.wait(0)
        self.successResultOf(drained)

    def test_end_of_the_drain_ends_what_runs(self) -> None:
        """At the end of the drain what runs is ended: answered 503 where it was not begun, 502
        where the backend has the prompt, and cut where the answer had begun, a stream with an
        error event."""
        running = Running(backend=True)
        waiting, streaming, sending = (running.connect() for _ in range(3))
        waiting.send(chat())
        streaming.send(chat(stream=True))
        backend = running.port.connections[1]
        backend.begin()
        backend.piece(b'data: {"choices":[]}\n\n')
        sending.send(chat()[:30])
        idle = running.connect()
        drained = running.edge.drain()
        running.edge.stop_requests()
        running.wait(0)
        self.assertEqual((waiting.answer.status, waiting.answer.code), (502, "shutting_down"))
        self.assertEqual(waiting.answer.headers["x-should-retry"], "false")
        self.assertNotIn("retry-after", waiting.answer.headers)
        self.assertEqual(sending.answer.headers["retry-after"], "1")
        self.assertEqual((sending.answer.status, sending.answer.code), (503, "shutting_down"))
        self.assertTrue(streaming.answer.body.endswith(CutByShutdown().event()))
        self.assertFalse(streaming.answer.whole)
        self.assertTrue(idle.wire.lost)
        self.assertEqual(running.outcomes, ["shutdown"] * 3)
        for connection in running.port.connections:
            self.assertTrue(connection.closed)
        sending.close()
        self.successResultOf(drained)
        self.assertEqual(running.in_flight, (0, 0))

    def test_every_exchange_has_its_line_before_the_process_goes(self) -> None:
        """When the process is to go at once, every exchange has its line before it does."""
        running = Running(backend=True)
        waiting, streaming, sending = (running.connect() for _ in range(3))
        waiting.send(chat())
        streaming.send(chat(stream=True))
        running.port.connections[1].begin()
        running.port.connections[1].piece(b'data: {"choices":[]}\n\n')
        sending.send(chat()[:30])
        running.connect()
        running.edge.end()
        self.assertEqual(running.outcomes, ["shutdown"] * 3)
        self.assertEqual(
            sorted(str(line["status"]) for line in running.lines), ["200", "502", "503"]
        )
        self.assertEqual((running.in_flight, len(running.edge.connections)), ((0, 0), 0))

    def test_answer_that_is_not_out_holds_a_drain_up(self) -> None:
        """A connection whose last answer is not out yet is still waited for."""
        running = Running()
        client = running.connect()
        client.wire.stalled = True
        client.send(CLOSING)
        drained = running.edge.drain()
        self.assertNoResult(drained)
        running.edge.stop_requests()
        client.read_again()
        self.successResultOf(drained)
        self.assertEqual(running.outcomes, ["ok"])

    def test_idle_client_that_has_not_taken_its_answer_holds_a_drain_up(self) -> None:
        """Nor is the drain over while an idle client has not taken its last answer."""
        running = Running()
        client = running.connect()
        client.send(HEALTHZ)
        client.wire.stalled = True
        drained = running.edge.drain()
        running.wait(0)
        self.assertNoResult(drained)
        client.read_again()
        self.successResultOf(drained)

    def test_client_that_reads_again_in_a_drain_is_closed(self) -> None:
        """A client that reads again in the drain, with nothing more to ask, is closed."""
        running = Running()
        client = running.connect()
        client.send(HEALTHZ + b"GET /he")
        client.stop_reading()
        running.edge.drain()
        client.send(b"althz HTTP/1.1\r\nHost: x\r\n\r\n")
        client.read_again()
        self.assertEqual([a.status for a in client.answers()], [200, 200])
        self.assertTrue(client.wire.lost)

    def test_abort_cuts_every_connection(self) -> None:
        """Aborting cuts every connection, whatever runs on it."""
        running = Running(backend=True)
        idle, busy = running.connect(), running.connect()
        busy.send(chat())
        running.edge.abort()
        running.wait(0)
        self.assertTrue(idle.wire.aborted and busy.wire.aborted)
        self.assertEqual(running.outcomes, ["client_disconnected"])
        self.assertTrue(running.backend.closed)
