"""What keeps a silent stream alive, and what an idle connection to the backend must not cost."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.faulty_backend import (
    CLOSE,
    DONE,
    EVENTS,
    HOLD,
    LAST_CHUNK,
    ROLE,
    STOP,
    STREAM_HEAD,
    WORDS,
    FaultyBackend,
    chunk,
    completion,
    drip,
    head,
    pause,
    stream,
    whole,
)
from tests.e2e.harness import gateway
from tests.e2e.wire import Answer, ask

INTERVAL = 0.5
COMMENT = b": keep-alive\n\n"


class KeepAliveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.backend = FaultyBackend()
        self.addCleanup(self.backend.stop)
        self.gateway = gateway(
            {
                "BACKEND_URL": self.backend.url,
                "SSE_KEEPALIVE": str(INTERVAL),
                "BACKEND_TIMEOUT": "2",
                "STREAM_IDLE_TIMEOUT": "2",
            }
        )
        self.addCleanup(self.gateway.kill)

    def tearDown(self) -> None:
        self.assertEqual(self.gateway.complaints(), [])

    def play(self, *script: object, stream: bool = True) -> Answer:
        self.backend.default = script  # type: ignore[assignment]
        return ask(self.gateway.port, "kept", stream=stream)

    def test_silence_before_the_head(self) -> None:
        """While the backend thinks, a comment comes each interval; then the stream, unchanged."""
        answer = self.play(pause(INTERVAL * 3.5), stream_of_all())
        self.assertEqual((answer.status, answer.ended), (200, "last_chunk"))
        comments, _, rest = answer.body.partition(ROLE)
        self.assertIn(comments, (COMMENT * 2, COMMENT * 3))
        self.assertEqual(ROLE + rest, ROLE + WORDS + STOP + DONE)
        line = self.gateway.request_line("kept")
        self.assertEqual(line["outcome"], "ok")
        self.assertGreater(line["ttft_ms"], INTERVAL * 3500)

    def test_silence_between_events(self) -> None:
        """A comment stands between two whole events, never inside of one, however it is split."""
        pieces = (ROLE, WORDS[:9], WORDS[9:] + STOP[:-1], STOP[-1:], DONE)
        answer = self.play(
            STREAM_HEAD,
            drip(map(chunk, pieces), INTERVAL * 1.5),
            chunk(b""),
        )
        self.assertEqual(answer.ended, "last_chunk")
        self.assertGreaterEqual(answer.body.count(COMMENT), 4)
        self.assertEqual(answer.body.replace(COMMENT, b""), ROLE + WORDS + STOP + DONE)
        for event in answer.events:
            self.assertTrue(event.startswith((b"data: {", b"data: [DONE]", b": keep-alive")), event)

    def test_a_stream_that_is_not_silent(self) -> None:
        """A stream that says something in each interval gets no comment."""
        answer = self.play(
            STREAM_HEAD, drip([chunk(ROLE)] * 20, INTERVAL / 5), chunk(STOP + DONE), LAST_CHUNK
        )
        self.assertEqual(answer.body, ROLE * 20 + STOP + DONE)

    def test_comments_of_the_backend(self) -> None:
        """Comments that the backend sent before its first event are not lost to ours."""
        said = b": one\n\n: two\n\n"
        answer = self.play(
            STREAM_HEAD + chunk(said), pause(INTERVAL * 1.5), chunk(ROLE + STOP + DONE), LAST_CHUNK
        )
        self.assertEqual(answer.body.replace(COMMENT, b""), said + ROLE + STOP + DONE)

    def test_early_failures_keep_their_status(self) -> None:
        """The status is held back for one interval, so that an early failure has its own."""
        refusal = whole(b'{"error": {"message": "no"}}', status=b"422 No")
        for script, status in (
            ((CLOSE,), 502),
            ((pause(INTERVAL / 3), whole(b"", status=b"500 Oops")), 502),
            ((pause(INTERVAL / 3), refusal), 422),
            ((STREAM_HEAD, pause(INTERVAL / 3), CLOSE), 502),
            ((STREAM_HEAD + chunk(b": hello\n\n"), pause(INTERVAL / 3), CLOSE), 502),
        ):
            answer = self.play(*script)
            self.assertEqual((answer.status, answer.ended), (status, "length"))

    def test_late_failures_are_events(self) -> None:
        """After the first comment a failure can only be an event, and says what it was."""
        refusal = whole(b'{"error": {"message": "no"}}', status=b"422 No")
        for script, code in (
            ((pause(INTERVAL * 1.5), CLOSE), "backend_unavailable"),
            ((pause(INTERVAL * 1.5), whole(b"", status=b"500 Oops")), "backend_error"),
            ((pause(INTERVAL * 1.5), refusal), "backend_rejected"),
            ((pause(INTERVAL * 1.5), whole(b"[]")), "backend_error"),
            ((pause(INTERVAL * 1.5), head(b"200 OK", EVENTS), CLOSE), "backend_error"),
            ((HOLD,), "gateway_timeout"),
            ((STREAM_HEAD, HOLD), "gateway_timeout"),
        ):
            answer = self.play(*script)
            self.assertEqual((answer.status, answer.ended), (200, "fin"))
            self.assertEqual(answer.last_event["error"]["code"], code)
            self.assertEqual(set(answer.events[:-1]), {COMMENT.strip()})

    def test_plain_json_in_answer(self) -> None:
        """A backend that answers a stream with plain JSON, late, still gives one chunk."""
        answer = self.play(pause(INTERVAL * 1.5), whole(completion()))
        self.assertEqual((answer.status, answer.ended), (200, "last_chunk"))
        self.assertEqual(answer.body.count(b"data: "), 2)
        self.assertTrue(answer.body.startswith(COMMENT))
        self.assertTrue(answer.body.endswith(DONE))

    def test_plain_requests(self) -> None:
        """A plain request gets no comment, and keeps its status however late it is."""
        answer = self.play(pause(INTERVAL * 2), whole(b"", status=b"500 Oops"), stream=False)
        self.assertEqual((answer.status, answer.ended), (502, "length"))
        answer = self.play(pause(INTERVAL * 2), whole(completion()), stream=False)
        self.assertEqual((answer.status, answer.ended), (200, "length"))


def stream_of_all() -> bytes:
    return stream(ROLE, WORDS, STOP, DONE)


class PoolTests(SynchronousTestCase):
    def test_backend_that_closes_idle_connections(self) -> None:
        """Requests that come just when the backend closes its idle connections do not fail."""
        idle = 2.4  # llama.cpp and uvicorn close after 5; the gateway keeps one for 2
        backend = FaultyBackend((whole(completion()),), idle=idle)
        self.addCleanup(backend.stop)
        process = gateway({"BACKEND_URL": backend.url})
        self.addCleanup(process.kill)

        def ask_now_and_then(number: int) -> list[int]:
            statuses = []
            for turn in range(5):
                statuses.append(ask(process.port, f"{number}.{turn}").status)
                time.sleep(1 + (number * 7 + turn * 3) % 16 / 10)
            return statuses

        with ThreadPoolExecutor(32) as pool:
            statuses = Counter(s for each in pool.map(ask_now_and_then, range(32)) for s in each)
        self.assertEqual(statuses, {200: 32 * 5})
        self.assertLess(backend.connections, backend.requests)

    def test_backend_that_closes_sooner(self) -> None:
        """Nor do they where it closes them sooner than the gateway does."""
        backend = FaultyBackend((whole(completion()),), idle=0.05)
        self.addCleanup(backend.stop)
        process = gateway({"BACKEND_URL": backend.url})
        self.addCleanup(process.kill)

        def ask_often(number: int) -> list[int]:
            statuses = []
            for turn in range(20):
                statuses.append(ask(process.port, f"{number}.{turn}").status)
                time.sleep(0.08)
            return statuses

        with ThreadPoolExecutor(4) as pool:
            statuses = Counter(s for each in pool.map(ask_often, range(4)) for s in each)
        self.assertEqual(statuses, {200: 80})
