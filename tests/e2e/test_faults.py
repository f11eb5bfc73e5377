"""Whatever a backend does wrong, the client gets one true answer and the log one true line."""

from __future__ import annotations

import itertools
import json
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e import dialects, faults
from tests.e2e.dialects import DIALECTS, Dialect
from tests.e2e.faults import Expected, Fault
from tests.e2e.faulty_backend import (
    CLOSE,
    CONTENT,
    DONE,
    ERROR,
    HALF_CLOSE,
    HOLD,
    RESET,
    ROLE,
    STOP,
    STREAM_HEAD,
    UNREAD,
    WORDS,
    FaultyBackend,
    chunk,
    completion,
    pause,
    pause_unread,
    stream,
    whole,
)
from tests.e2e.harness import OFF, Process, gateway, wait_for
from tests.e2e.wire import Answer, ask

skip = OFF

SETTINGS = {
    "BACKEND_TIMEOUT": str(faults.RESPONSE_TIMEOUT),
    "STREAM_IDLE_TIMEOUT": str(faults.IDLE_TIMEOUT),
    "REQUEST_TIMEOUT": str(faults.TOTAL_TIMEOUT),
    "MAX_RESPONSE_BYTES": str(faults.MAX_RESPONSE),
    "MAX_EVENT_BYTES": str(faults.MAX_EVENT),
}

AT_ONCE = 48
"""Most of a table's time is spent in waiting for deadlines."""

OUR_FIELDS = {
    "x-request-id", "date", "content-type", "content-length", "transfer-encoding", "connection",
    "cache-control", "x-accel-buffering", "retry-after", "x-should-retry",
    "server-timing",
}  # fmt: skip

PRIVATE = (b"Traceback", b"<html", b"secret", b"of-the-backend-host")
"""What backends of the table say and no client may see."""


def request_id(fault: Fault, streams: bool) -> str:
    slug = "".join(c if c.isalnum() else "-" for c in fault.name)
    return f"{slug}.{'streamed' if streams else 'plain'}"


class FaultTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.backend = FaultyBackend(default=(whole(completion()),))
        self.addCleanup(self.backend.stop)
        self.gateway = gateway({"BACKEND_URL": self.backend.url, **SETTINGS})
        self.addCleanup(self.gateway.kill)
        # Only now has it opened all that it keeps open.
        self.assertEqual(ask(self.gateway.port, "first").status, 200)

    def test_every_fault_in_every_dialect(self) -> None:
        """Each fault gets its own true answer, plain and streamed: a failure is never a success, a
        cut stream ends with one error event and no end, and the log says which it was, once."""
        for dialect in DIALECTS:
            self.try_all(dialect, faults.faults_of(dialect))

    def try_all(self, dialect: Dialect, table: list[Fault]) -> None:
        cases = list(itertools.product(table, (False, True)))
        files = self.gateway.open_files()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            tried = pool.map(lambda case: self.try_one(dialect, *case), cases)
            wrong = [said for said in tried if said]
        lines = self.lines({self.name(dialect, *case) for case in cases})
        for fault, streams in cases:
            expected = fault.streamed if streams else fault.plain
            name = self.name(dialect, fault, streams)
            wrong += judge_lines(lines[name], dialect, expected, self.estimate(name))
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))
        self.assertEqual(self.gateway.complaints(), [])
        wait_for(lambda: self.gateway.open_files() <= files, 15, "the files to be closed")
        self.assertEqual(ask(self.gateway.port, f"after-{dialect.name}").status, 200)

    def name(self, dialect: Dialect, fault: Fault, streams: bool) -> str:
        return f"{dialect.name}.{request_id(fault, streams)}"

    def estimate(self, name: str) -> int:
        """The tokens of a prompt that nobody counted: one for each four bytes that were sent."""
        exchange = self.backend.exchanges.get(name)
        return len(exchange.body) // 4 if exchange is not None else 0

    def try_one(self, dialect: Dialect, fault: Fault, streams: bool) -> str:
        """Say what is wrong with the answer, if anything is."""
        name = self.name(dialect, fault, streams)
        script = fault.script_of_stream if streams else None
        self.backend.scripts[name] = script or fault.script
        asked = {**dialect.request, **fault.request}
        try:
            answer = ask(self.gateway.port, name, path=dialect.path, stream=streams, **asked)
            judge(answer, fault.streamed if streams else fault.plain, name, dialect)
        except Exception as error:
            return f"{name}: {type(error).__name__} {error}"
        return ""

    def lines(self, request_ids: set[str]) -> dict[str, list[dict[str, Any]]]:
        """The lines about these exchanges, once each has one."""

        def all_logged() -> bool:
            found.clear()
            for line in self.gateway.requests():
                found.setdefault(line["request_id"], []).append(line)
            return request_ids <= found.keys()

        found: dict[str, list[dict[str, Any]]] = {}
        wait_for(all_logged, 10, "the log lines")
        return found


def judge_lines(
    lines: list[dict[str, Any]], dialect: Dialect, expected: Expected, estimate: int
) -> list[str]:
    """Say what is wrong with the log about one exchange; `estimate` are the tokens of its prompt
    where nobody counted them."""
    line = lines[0]
    says = (len(lines), line["operation"], line["status"], line["error"], line["outcome"])
    wanted = (1, dialect.name, expected.status, expected.code, expected.outcome)
    if says != wanted:
        return [f"{line['request_id']}: logged {says}, not {wanted}"]
    members = ("prompt_tokens", "completion_tokens", "total_tokens", "usage_source")
    usage = tuple(line[member] for member in members)
    if expected.usage is None:
        return []
    prompt, completion, _, source = expected.usage
    prompt = estimate if prompt is None else prompt
    if usage != (prompt, completion, prompt + completion, source):
        return [f"{line['request_id']}: logged {usage}, not {expected.usage} of {estimate}"]
    return []


class ReuseTests(SynchronousTestCase):
    """What one request did to a connection is no other request's trouble."""

    def setUp(self) -> None:
        self.backend = FaultyBackend(default=(whole(completion()),))
        self.addCleanup(self.backend.stop)
        self.gateway = gateway({"BACKEND_URL": self.backend.url, **SETTINGS})
        self.addCleanup(self.gateway.kill)

    def many(self, count: int, threads: int = 16) -> Counter[int]:
        """Ask often and at once; how often which status came."""
        with ThreadPoolExecutor(threads) as pool:
            answers = pool.map(lambda n: ask(self.gateway.port, f"many.{n}"), range(count))
            return Counter(answer.status for answer in answers)

    def test_bytes_after_an_answer(self) -> None:
        """What a backend sends after its answer is never taken for the next answer."""
        leak = whole(completion(leak="secret"))
        for name, script in (
            ("at once", (whole(completion()) + leak,)),
            ("in part", (whole(completion()) + leak[:99], pause(0.05), leak[99:])),
            ("later", (whole(completion()), pause(0.05), leak)),
        ):
            self.backend.scripts["first"] = script
            self.assertEqual(ask(self.gateway.port, "first").status, 200, name)
            self.backend.exchanges["first"].ended.wait(5)
            answer = ask(self.gateway.port, "second")
            self.assertEqual((answer.status, answer.document["id"]), (200, "second"), name)
            self.assertNotIn(b"secret", answer.body, name)
        self.assertEqual(self.gateway.complaints(), [])

    def test_backend_of_http_1_0(self) -> None:
        """A backend that closes after each answer, and does not say so, costs no request."""
        reply = whole(completion()).replace(b"HTTP/1.1", b"HTTP/1.0")
        self.backend.default = (reply, CLOSE)
        self.assertEqual(self.many(400), {200: 400})

    def test_backend_that_says_it_closes(self) -> None:
        """Neither does one that says so, in whatever letters."""
        self.backend.default = (whole(completion(), b"Connection: Close"), CLOSE)
        self.assertEqual(self.many(400), {200: 400})

    def test_failures_beside_successes(self) -> None:
        """A failed request does not take the next one's connection with it."""
        failure = whole(b"oh no", status=b"500 Oops")
        too_large = stream(ROLE, b"data: " + b"x" * faults.MAX_EVENT, b"\n\n")
        for number in range(0, 400, 2):
            self.backend.scripts[f"many.{number}"] = (failure if number % 4 else too_large,)
        self.assertEqual(self.many(400), {200: 200, 502: 200})
        errors = {line["error"] for line in self.gateway.requests()}
        self.assertEqual(errors, {None, "backend_error"})

    def test_answer_before_the_request_is_read(self) -> None:
        """A backend may answer before it has read the request."""
        closing = whole(completion(), b"Connection: close")
        for size in (10, 3_000_000):
            for ending in (CLOSE, RESET, HALF_CLOSE):
                self.backend.scripts["early"] = (UNREAD, closing, pause_unread(0.2), ending)
                answer = ask(self.gateway.port, "early", padding="x" * size)
                self.assertEqual((answer.status, answer.document["id"]), (200, "early"))
                self.assertEqual(ask(self.gateway.port, "next").status, 200)
        self.assertEqual(self.gateway.complaints(), [])

    def test_refusal_before_the_request_is_read(self) -> None:
        """A request that is too large for the backend is told so, although it was not read."""
        refusal = whole(b'{"error": "too large"}', b"Connection: close", status=b"413 Large")
        self.backend.scripts["early"] = (UNREAD, refusal, pause_unread(0.2), CLOSE)
        answer = ask(self.gateway.port, "early", padding="x" * 3_000_000)
        self.assertEqual((answer.status, answer.code), (413, "backend_rejected"))
        self.assertEqual(answer.document["message"], "too large")


class UnreachableTests(SynchronousTestCase):
    """No backend at all; the prompt was not sent, so that a client may try again."""

    def ask_at(self, url: str, **settings: str) -> tuple[Answer, Process]:
        process = gateway({"BACKEND_URL": url, **SETTINGS, **settings})
        self.addCleanup(process.kill)
        return ask(process.port, "unreachable", stream=True), process

    def judge(self, said: tuple[Answer, Process], expected: Expected) -> None:
        answer, process = said
        judge(answer, expected, "unreachable")
        line = process.request_line("unreachable")
        self.assertEqual((line["status"], line["outcome"]), (expected.status, expected.outcome))
        self.assertEqual(process.complaints(), [])

    def test_refused(self) -> None:
        """A backend that is down is a 502 that may be tried again."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        expected = Expected(502, "backend_unavailable", "backend_unavailable")
        self.judge(self.ask_at(f"http://127.0.0.1:{port}"), expected)

    def test_no_such_name(self) -> None:
        """So is one whose name is not known."""
        expected = Expected(502, "backend_unavailable", "backend_unavailable")
        self.judge(self.ask_at("http://no-such-backend.invalid:80"), expected)

    def test_no_answer_to_the_connection(self) -> None:
        """A backend that takes no connection is a 504."""
        with ExitStack() as stack:
            deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(2):  # what its queue holds; all further ones go unanswered
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(deaf.getsockname())
            said = self.ask_at(
                f"http://127.0.0.1:{deaf.getsockname()[1]}", BACKEND_CONNECT_TIMEOUT="0.5"
            )
            self.judge(said, Expected(504, "gateway_timeout", "timeout"))


class OldClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.backend = FaultyBackend()
        self.addCleanup(self.backend.stop)
        self.gateway = gateway({"BACKEND_URL": self.backend.url, **SETTINGS})
        self.addCleanup(self.gateway.kill)

    def test_whole_stream(self) -> None:
        """A client of HTTP/1.0 gets a stream that ends where the connection does."""
        self.backend.default = (stream(ROLE, WORDS, STOP, DONE),)
        answer = ask(self.gateway.port, "old", version="1.0", stream=True)
        self.assertEqual((answer.body, answer.ended), (ROLE + WORDS + STOP + DONE, "fin"))

    def test_cut_stream(self) -> None:
        """It is reset where the stream was cut, for it could not tell that end from a right one."""
        for number, ending in enumerate((CLOSE, RESET, HOLD, chunk(ERROR))):
            self.backend.scripts[f"old.{number}"] = (STREAM_HEAD, chunk(ROLE + WORDS), ending)
            answer = ask(self.gateway.port, f"old.{number}", version="1.0", stream=True)
            self.assertEqual((answer.status, answer.ended), (200, "reset"))
            self.assertTrue(answer.body.startswith(ROLE + WORDS))
            self.assertIn("message", answer.last_event["error"])
            line = self.gateway.request_line(f"old.{number}")
            self.assertIn(line["outcome"], ("backend_error", "timeout"))


def judge(answer: Answer, expected: Expected, name: str, dialect: Dialect = dialects.CHAT) -> None:
    """Raise where the client was not answered as it ought to have been."""
    equal(answer.status, expected.status, answer.body)
    equal(answer.fields.get("x-should-retry"), expected.retry)
    equal(answer.fields.get("retry-after"), expected.retry_after)
    equal(answer.fields["x-request-id"], name)
    named = answer.fields.pop("request-id", None)
    equal(named, name if dialect.name == "messages" else None)
    equal(set(answer.fields) - OUR_FIELDS, set())
    equal([secret for secret in PRIVATE if secret in answer.body], [])
    equal(answer.rest, b"")
    kind = "text/event-stream" if expected.streams else "application/json"
    equal(answer.fields["content-type"].partition(";")[0], kind)
    if expected.status != 200:
        judge_error(answer, expected, name, dialect)
    elif expected.code is not None:
        judge_cut(answer, expected, dialect)
    elif expected.body is not None:
        equal((answer.body, answer.ended), (expected.body, "last_chunk"))
    elif expected.one_chunk:
        judge_one_chunk(answer, name, dialect)
    else:
        equal(answer.ended, "length")
        judge_reply(answer.document, name, dialect)


def judge_error(answer: Answer, expected: Expected, name: str, dialect: Dialect) -> None:
    """An error in the form of its dialect; with OpenAI's the backend's own object stands there,
    where it sent one that may be shown."""
    equal(answer.ended, "length")
    document = answer.document
    equal(document["request_id"], name)
    if dialect.name in ("messages", "responses"):
        error = document["error"]
        if dialect.name == "messages":
            equal((document["type"], error["code"]), ("error", expected.code))
            assert error["type"].endswith(("_error", "_too_large")), error
        message = error["message"]
    else:
        equal(document["error"], expected.code)
        message = document["message"]
    if expected.message is not None:
        equal(message, expected.message)


def judge_cut(answer: Answer, expected: Expected, dialect: Dialect) -> None:
    """Neither an end nor a last chunk, and one error event, in the form of its dialect."""
    equal(answer.ended, "fin")
    if expected.passed_on is not None:
        equal(answer.body, expected.passed_on)
        return
    said, _, last = answer.body.rpartition(b"data: ")
    document = json.loads(last)
    if dialect.name in ("messages", "responses"):
        assert said.endswith(b"event: error\n"), said
        said = said.removesuffix(b"event: error\n")
        equal(document["type"], "error")
    if dialect.name == "responses":
        members = {"type", "code", "message", "param", "sequence_number", "error"}
        equal(set(document), members)
        equal((document["code"], document["sequence_number"]), (expected.code, 0))
    equal({"message", "type", "code"} - set(document["error"]), set())
    equal(document["error"]["code"], expected.code)
    if expected.before is not None:
        equal(said, expected.before)


def judge_one_chunk(answer: Answer, name: str, dialect: Dialect) -> None:
    equal(answer.ended, "last_chunk")
    assert dialect.last_mark in answer.events[-1], answer.events[-1]
    if dialect is not dialects.CHAT:
        assert CONTENT.encode() in answer.body, answer.body
        return
    first, _, rest = answer.body.partition(b"\n\n")
    equal(rest, DONE)
    document = json.loads(first.removeprefix(b"data: "))
    equal(document["object"], "chat.completion.chunk")
    equal(document["choices"][0]["delta"]["content"], CONTENT)
    equal(document["id"], name)


def judge_reply(reply: dict[str, Any], name: str, dialect: Dialect) -> None:
    text: Any = reply
    for step in dialect.text_at:
        text = text[step]
    equal(text, CONTENT)
    if not dialect.replaces_id:
        equal(reply, json.loads(dialect.good))
        return
    kind = "chat.completion" if dialect is dialects.CHAT else "text_completion"
    equal((reply["id"], reply["object"]), (name, kind))
    equal(set(reply["usage"]), {"prompt_tokens", "completion_tokens", "total_tokens"})
    assert isinstance(reply["created"], int), reply["created"]
    assert isinstance(reply["model"], str), reply["model"]


def equal(seen: object, wanted: object, about: object = "") -> None:
    if seen != wanted:
        raise AssertionError(f"{seen!r:.600}, not {wanted!r:.600} {about!r:.300}")
