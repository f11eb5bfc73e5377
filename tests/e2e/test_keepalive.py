"""What keeps a silent stream alive, and what an idle connection to the backend must not cost."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.faulty_backend import (
    CLOSE,
    DONE,
    HOLD,
    LAST_CHUNK,
    ROLE,
    STOP,
    STREAM_HEAD,
    WORDS,
    FaultyBackend,
    Script,
    chunk,
    completion,
    drip,
    pause,
    stream,
    whole,
)
from tests.e2e.harness import OFF, gateway
from tests.e2e.wire import Answer, ask

skip = OFF

INTERVAL = 0.5
REQUESTS = 3600
COMMENT = b": keep-alive\n\n"
REFUSAL = whole(b'{"error": {"message": "no"}}', status=b"422 No")


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

    def play(self, *script: object, stream: bool = True, name: str = "kept") -> Answer:
        self.backend.scripts[name] = script  # type: ignore[assignment]
        return ask(self.gateway.port, name, stream=stream)

    def play_all(self, scripts: dict[str, tuple[object, ...]]) -> list[Answer]:
        """The answers to streams by each of these scripts, all at once."""
        with ThreadPoolExecutor(len(scripts)) as pool:
            play = [pool.submit(self.play, *script, name=n) for n, script in scripts.items()]
        return [answer.result() for answer in play]

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
        soon = pause(INTERVAL / 3)
        scripts: dict[str, tuple[object, ...]] = {
            "closed": (CLOSE,),
            "failed": (soon, whole(b"", status=b"500 Oops")),
            "refused": (soon, REFUSAL),
            "empty": (STREAM_HEAD, soon, CLOSE),
            "comment": (STREAM_HEAD + chunk(b": hello\n\n"), soon, CLOSE),
        }
        answers = self.play_all(scripts)
        self.assertEqual([a.status for a in answers], [502, 502, 422, 502, 502])
        self.assertEqual({a.ended for a in answers}, {"length"})

    def test_late_failures_are_events(self) -> None:
        """After the first comment a failure can only be an event, and says what it was."""
        late = pause(INTERVAL * 1.5)
        scripts: dict[str, tuple[object, ...]] = {
            "backend_unavailable": (late, CLOSE),
            "backend_error": (late, whole(b"", status=b"500 Oops")),
            "backend_error.": (late, whole(b"[]")),
            "backend_error..": (late, STREAM_HEAD, CLOSE),
            "backend_rejected": (late, REFUSAL),
            "gateway_timeout": (HOLD,),
            "gateway_timeout.": (STREAM_HEAD, HOLD),
        }
        for name, answer in zip(scripts, self.play_all(scripts), strict=True):
            self.assertEqual((answer.status, answer.ended), (200, "fin"), name)
            self.assertEqual(answer.last_event["error"]["code"], name.rstrip("."))
            self.assertEqual(set(answer.events[:-1]), {COMMENT.strip()}, name)
            self.assertNotEqual(self.gateway.request_line(name)["outcome"], "ok")

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
        answer = self.play(pause(INTERVAL * 2), whole(completion()), stream=False, name="another")
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
            for turn in range(4):
                statuses.append(ask(process.port, f"{number}.{turn}").status)
                time.sleep(1.5 + (number * 7 + turn * 3) % 11 / 10)
            return statuses

        with ThreadPoolExecutor(32) as pool:
            statuses = Counter(s for each in pool.map(ask_now_and_then, range(32)) for s in each)
        self.assertEqual(statuses, {200: 32 * 4})
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

    def test_backend_that_closes_after_a_stream(self) -> None:
        """Nor do those that come just when it closes the connection of a stream, unannounced, at
        once or up to 0.1 s later; where it does not close it, the connection is used again."""
        whole_stream = STREAM_HEAD + chunk(stream_of_all()) + LAST_CHUNK
        delays = [number / 1000 for number in range(0, 101, 3)]
        scripts: dict[str, Script] = {
            f"s{number}": (whole_stream, pause(delays[number % len(delays)]), CLOSE)
            if number % 2
            else (whole_stream,)
            for number in range(REQUESTS)
        }
        backend = FaultyBackend((whole(completion()),), scripts)
        self.addCleanup(backend.stop)
        process = gateway({"BACKEND_URL": backend.url})
        self.addCleanup(process.kill)

        def one(number: int) -> tuple[int, str]:
            answer = ask(process.port, f"{'ps'[number % 3 > 0]}{number}", stream=number % 3 > 0)
            return answer.status, answer.ended

        with ThreadPoolExecutor(16) as pool:
            answers = Counter(pool.map(one, range(REQUESTS)))
        streams = REQUESTS - len(range(0, REQUESTS, 3))
        self.assertEqual(
            answers, {(200, "last_chunk"): streams, (200, "length"): REQUESTS - streams}
        )
        self.assertLess(backend.connections, REQUESTS * 0.7)
