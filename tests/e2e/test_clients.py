"""Clients that leave, and clients that read slowly or not at all.

The full size is ``INFERGATE_DISCONNECTS=1000 INFERGATE_SLOW_MIB=200 INFERGATE_SLOW_SECONDS=30
INFERGATE_SLOW_CLIENTS=500``; what was measured is in trial's log.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
import struct
import time
from collections.abc import Iterator

from twisted.python import log
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.faulty_backend import (
    CHUNKED,
    DONE,
    HOLD,
    HOLD_UNREAD,
    LAST_CHUNK,
    ROLE,
    STOP,
    STREAM_HEAD,
    UNREAD,
    Exchange,
    FaultyBackend,
    chunk,
    completion,
    delta,
    drip,
    head,
    pour,
    stream,
    whole,
)
from tests.e2e.harness import OFF, gateway, post, wait_for
from tests.e2e.wire import ask, receive, send

skip = OFF

DISCONNECTS = int(os.environ.get("INFERGATE_DISCONNECTS", "25"))
SLOW_MIB = int(os.environ.get("INFERGATE_SLOW_MIB", "32"))
SLOW_SECONDS = float(os.environ.get("INFERGATE_SLOW_SECONDS", "3"))
SLOW_CLIENTS = int(os.environ.get("INFERGATE_SLOW_CLIENTS", "50"))

MIB = 1 << 20
AT_ONCE = 25
CLOSED_WITHIN = 0.1
"""Seconds, at the 99th percentile, from a client's leaving to the end of its backend connection."""

PLAIN_HEAD = head(b"200 OK", b"Content-Type: application/json", CHUNKED)
WORD = chunk(delta(content="word "))


class ClientTests(SynchronousTestCase):
    def begin(self, *script: object, **settings: str) -> None:
        """Start a backend that answers so, and a gateway that has opened all that it keeps. No
        scrape has the backend asked how it is: it would answer that in the same way."""
        self.backend = FaultyBackend(script)  # type: ignore[arg-type]
        self.addCleanup(self.backend.stop)
        settings = {"BACKEND_URL": self.backend.url, "BACKEND_HEALTH_PATH": "", **settings}
        self.gateway = gateway(settings)
        self.addCleanup(self.gateway.kill)
        self.backend.scripts["warm"] = (stream(ROLE, STOP, DONE),)
        self.assertEqual(ask(self.gateway.port, "warm", stream=True).ended, "last_chunk")

    def tearDown(self) -> None:
        self.assertEqual(self.gateway.complaints(), [])

    def settled(self) -> bool:
        """Nothing is under way but the question itself."""
        figures = self.gateway.metrics()
        return (
            figures["infergate_requests_in_flight"],
            figures["infergate_streams_in_flight"],
        ) == (1.0, 0.0)


class LeavingTests(ClientTests):
    """`DISCONNECTS` clients leave in each phase, every other one with a reset."""

    def test_while_uploading(self) -> None:
        """A client that leaves before its body is whole has cost nothing, and is in the log."""
        self.begin()
        files = self.gateway.open_files()
        for number in range(DISCONNECTS):
            connection = socket.create_connection(("127.0.0.1", self.gateway.port))
            connection.sendall(post(b" " * 99, f"X-Request-ID: leaver.{number}")[:-50])
            if number % 2:
                time.sleep(0.01)  # a reset takes back what was not read
                _reset_on_close(connection)
            connection.close()
        self.assert_all_over(files)
        self.assertEqual({line["status"] for line in self.leavers()}, {499})
        self.assertEqual(self.backend.requests, 1)

    def test_before_the_head_plain(self) -> None:
        """A backend that has not answered yet is let go at once when its client leaves."""
        self.leave(HOLD, streams=False)
        self.assertEqual({line["status"] for line in self.leavers()}, {499})

    def test_before_the_head_streamed(self) -> None:
        """So it is when it was asked for a stream."""
        self.leave(HOLD, streams=True)
        self.assertEqual({line["status"] for line in self.leavers()}, {499})

    def test_before_the_body_plain(self) -> None:
        """A backend that has sent its head and no body yet is let go at once."""
        self.leave(PLAIN_HEAD, HOLD, streams=False, sent=len(PLAIN_HEAD))

    def test_before_the_first_token_streamed(self) -> None:
        """So is one whose stream holds no token yet; its prompt is accounted for."""
        begun = STREAM_HEAD + chunk(ROLE)
        self.leave(begun, HOLD, streams=True, sent=len(begun))
        self.assertEqual({line["usage_source"] for line in self.leavers()}, {"counted"})
        self.assertEqual({line["completion_tokens"] for line in self.leavers()}, {0})
        self.assertGreater(min(line["prompt_tokens"] for line in self.leavers()), 0)

    def test_in_mid_body_plain(self) -> None:
        """A backend in the midst of a plain body is let go at once."""
        pieces = drip(itertools.repeat(chunk(b" ")), 0.02)
        self.leave(PLAIN_HEAD, pieces, streams=False, sent=len(PLAIN_HEAD) + 20)

    def test_in_mid_stream(self) -> None:
        """A backend does not generate for a client who has left; its tokens so far are counted."""
        pieces = drip(itertools.repeat(WORD), 0.02)
        self.leave(STREAM_HEAD, pieces, streams=True, sent=len(STREAM_HEAD + WORD * 3))
        self.assertEqual({line["usage_source"] for line in self.leavers()}, {"counted"})
        self.assertGreater(min(line["completion_tokens"] for line in self.leavers()), 1)

    def test_backend_that_reads_no_further(self) -> None:
        """A backend that answers, but does not read the rest of a long prompt, is let go too."""
        begun = STREAM_HEAD + chunk(ROLE)
        self.begin(UNREAD, begun, HOLD_UNREAD)
        client = send(self.gateway.port, "leaver", stream=True, padding="x" * 8 * MIB)
        exchange = self.backend.exchange("leaver")
        wait_for(lambda: exchange.sent == len(begun), 10, "the phase")
        time.sleep(0.1)
        left = time.monotonic()
        client.close()
        self.assertLess(_seconds_to_end(exchange, left), 1)
        wait_for(self.settled, 5, "the gauges to be back at 0")

    def leave(self, *script: object, streams: bool, sent: int = 0) -> None:
        self.begin(*script)
        files = self.gateway.open_files()
        self.backend.meter = self.gateway.seconds_in_line
        took: list[tuple[float, float]] = []
        for first in range(0, DISCONNECTS, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, DISCONNECTS))
            took += self.leave_together(numbers, streams, sent)
        own = [all_of_it - in_line for all_of_it, in_line in took]
        _report(self, "in all", [all_of_it for all_of_it, _ in took])
        _report(self, "without waiting for a CPU", own)
        self.assert_all_over(files)
        self.assertLess(_percentile(own, 99), CLOSED_WITHIN)

    def leave_together(self, numbers: range, streams: bool, sent: int) -> list[tuple[float, float]]:
        """For each of these clients the seconds that it took to end the backend's connection, and
        how many of them the gateway spent in line for a CPU."""
        clients = [send(self.gateway.port, f"leaver.{n}", stream=streams) for n in numbers]
        exchanges = [self.backend.exchange(f"leaver.{n}") for n in numbers]
        wait_for(lambda: all(e.body and e.sent >= sent for e in exchanges), 10, "the phase")
        # Until what was sent has gone all the way; and who closes within 0.1 s waits for an answer.
        time.sleep(0.15)
        left = []
        for number, client in zip(numbers, clients, strict=True):
            if number % 2:
                _reset_on_close(client)
            left.append((time.monotonic(), self.backend.meter()))
            client.close()
            time.sleep(0.002)
        return [
            (_seconds_to_end(exchange, when), exchange.metered - metered)
            for exchange, (when, metered) in zip(exchanges, left, strict=True)
        ]

    def leavers(self) -> list[dict[str, object]]:
        lines = self.gateway.requests()
        return [line for line in lines if str(line["request_id"]).startswith("leaver")]

    def assert_all_over(self, files: int) -> None:
        wait_for(lambda: len(self.leavers()) == DISCONNECTS, 5, "a log line of each")
        self.assertEqual({line["outcome"] for line in self.leavers()}, {"client_disconnected"})
        wait_for(self.settled, 5, "the gauges to be back at 0")
        wait_for(lambda: self.gateway.open_files() <= files, 10, "the files to be closed")


class SlowReaderTests(ClientTests):
    def test_memory_of_one(self) -> None:
        """A client that does not read costs next to no memory, and no time: what it is to get
        waits in the backend, and all of it arrives when it reads again."""
        self.begin(STREAM_HEAD, numbered_events, LAST_CHUNK, STREAM_IDLE_TIMEOUT="1")
        before = self.gateway.memory()
        client = send(self.gateway.port, "slow", stream=True)
        exchange = self.backend.exchange("slow")
        grown = self.watch_memory(before, SLOW_SECONDS)
        self.assertLess(exchange.sent, SLOW_MIB * MIB)
        answer = receive(client, 120)
        log.msg(f"one slow reader of {SLOW_MIB} MiB: {grown / MIB:.2f} MiB more")
        self.assertEqual((answer.status, answer.ended), (200, "last_chunk"))
        expected = hashlib.sha256()
        for event in events_of_test():
            expected.update(event)
        self.assertEqual(hashlib.sha256(answer.body).digest(), expected.digest())
        self.assertEqual(self.gateway.request_line("slow")["outcome"], "ok")
        self.assertLess(grown, 2 * MIB)

    def test_memory_of_many(self) -> None:
        """Many such clients cost about 100 KiB each: 500 of them less than 64 MiB."""
        self.begin(STREAM_HEAD, pour(WORD * 99))
        before = self.gateway.memory()
        clients = [
            send(self.gateway.port, f"slow.{n}", stream=True, receive_buffer=65536)
            for n in range(SLOW_CLIENTS)
        ]
        exchanges = [self.backend.exchange(f"slow.{n}", 60) for n in range(SLOW_CLIENTS)]
        wait_for(lambda: standing(exchanges), 120, "every stream to stand still")
        grown = self.watch_memory(before, SLOW_SECONDS)
        log.msg(f"{SLOW_CLIENTS} slow readers: {grown / MIB:.1f} MiB more")
        for client in clients:
            client.close()
        wait_for(self.settled, 30, "the gauges to be back at 0")
        self.assertLess(grown, 8 * MIB + SLOW_CLIENTS * 56 * MIB / 500)

    def watch_memory(self, before: int, seconds: float) -> int:
        """By how much it has grown at its largest."""
        end, grown = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            grown = max(grown, self.gateway.memory() - before)
            time.sleep(0.05)
        return grown

    def test_stalled_in_a_stream(self) -> None:
        """A client that takes nothing of its stream for `WRITE_STALL_TIMEOUT` is cut, and the
        backend let go."""
        self.begin(STREAM_HEAD, pour(WORD * 99), WRITE_STALL_TIMEOUT="1")
        self.assert_cut(streams=True)

    def test_stalled_in_a_plain_reply(self) -> None:
        """So is one that takes nothing of a large plain reply."""
        reply = completion(padding="x" * 30 * MIB)
        self.begin(whole(reply), WRITE_STALL_TIMEOUT="1")
        self.assert_cut(streams=False)

    def assert_cut(self, *, streams: bool) -> None:
        client = send(self.gateway.port, "stalled", stream=streams, receive_buffer=65536)
        self.addCleanup(client.close)
        line = self.gateway.request_line("stalled", 15)
        self.assertEqual((line["status"], line["outcome"]), (200, "client_disconnected"))
        self.assertEqual(line["error"], "client_disconnected")
        self.assertGreater(line["latency_ms"], 1000)
        if streams:
            self.assertTrue(self.backend.exchanges["stalled"].ended.wait(1))
        wait_for(self.settled, 5, "the gauges to be back at 0")

    def test_slow_in_a_stream(self) -> None:
        """A client that takes a little now and then gets its whole stream."""
        count = 300
        self.begin(
            STREAM_HEAD,
            UNREAD,
            pour(WORD * 99, count),
            chunk(STOP + DONE),
            LAST_CHUNK,
            WRITE_STALL_TIMEOUT="1",
        )
        self.assert_whole(len(WORD) * 99 * count, streams=True)

    def test_slow_in_a_plain_reply(self) -> None:
        """And so does one that takes its plain reply so."""
        self.begin(whole(completion(padding="x" * 8 * MIB)), WRITE_STALL_TIMEOUT="1")
        self.assert_whole(8 * MIB, streams=False)

    def assert_whole(self, size: int, *, streams: bool) -> None:
        client = send(self.gateway.port, "slow", stream=streams, receive_buffer=16384)
        taken, end = b"", time.monotonic() + 4
        while time.monotonic() < end:
            taken += client.recv(32768)
            time.sleep(0.2)
        self.assertLess(len(taken), size / 2)
        answer = receive(client, 30, taken=taken)
        self.assertIn(answer.ended, ("length", "last_chunk"))
        self.assertEqual(self.gateway.request_line("slow")["outcome"], "ok")


EVENT_SIZE = 16384


def events_of_test() -> Iterator[bytes]:
    """`SLOW_MIB` of events, no two alike, and the end."""
    for number in range(SLOW_MIB * MIB // EVENT_SIZE):
        yield delta(content=f"{number:08d}".ljust(EVENT_SIZE - 200))
    yield STOP
    yield DONE


def numbered_events(exchange: Exchange) -> None:
    for event in events_of_test():
        exchange.send(chunk(event))


def standing(exchanges: list[Exchange]) -> bool:
    """Whether none of them gets anything out any more."""
    before = [exchange.sent for exchange in exchanges]
    time.sleep(1)
    return before == [exchange.sent for exchange in exchanges]


def _reset_on_close(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _seconds_to_end(exchange: Exchange, left: float) -> float:
    assert exchange.ended.wait(10), exchange.request_id
    assert exchange.closed is not None, exchange.request_id
    return exchange.closed - left


def _percentile(values: list[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def _report(case: SynchronousTestCase, what: str, took: list[float]) -> None:
    figures = (
        f"p{percent} {_percentile(took, percent) * 1000:.1f} ms" for percent in (50, 99, 100)
    )
    log.msg(f"{case.id()}: {len(took)} backend connections ended after, {what}:", *figures)
