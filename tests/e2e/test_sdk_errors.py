"""What a program reads and a person sees of a failure, in the SDKs that people use.

With the default `ERROR_FORMAT` (``auto``) each of them is to show the sentence, and to have the
code where programs look for it, as `error.code`: of a failure of the gateway's own as of one that
the backend explains in its words.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar, NamedTuple

from twisted.trial.unittest import SkipTest

from tests.e2e.faulty_backend import (
    CLOSE,
    CONTENT,
    HOLD,
    ROLE,
    STREAM_HEAD,
    FaultyBackend,
    Script,
    chunk,
    completion,
    whole,
)
from tests.e2e.harness import OFF, Process, SharedProcesses, absent, chat, gateway, running
from tests.e2e.test_node import do, install
from tests.e2e.test_node import lacking as lacking_node

skip = OFF

if not (OFF or absent("openai")):
    import openai

KEY = "sk-alice"
QUESTION = [{"role": "user", "content": "hello"}]

TOO_LONG = {
    "code": 400,
    "message": "request (2031 tokens) exceeds the available context size (1024 tokens)",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 2031,
    "n_ctx": 1024,
}
"""What llama.cpp says of a prompt that is too long."""

CONTEXT_LENGTH = {
    "message": "This model's maximum context length is 1024 tokens.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}
"""What OpenAI says of it, and agents look for."""

UNKNOWN_MODEL = {
    "message": "The model `m` does not exist.",
    "type": "invalid_request_error",
    "param": None,
    "code": "model_not_found",
}


def refused(status: bytes, error: dict[str, Any]) -> Script:
    """A backend that answers with an error object."""
    return (whole(json.dumps({"error": error}).encode(), status=status),)


class Failure(NamedTuple):
    """Of which gateway what is asked, what the backend then does, and what is to be seen of it:
    the status (None: the stream had begun), the code, and words of the sentence."""

    gateway: str
    asked: dict[str, Any]
    script: Script
    status: int | None
    code: str | int
    words: str
    kind: str | None = None
    """The ``type`` of the error object, where a program may look for that."""


FAILURES: dict[str, Failure] = {
    "temperature": Failure("plain", {"temperature": -1}, (), 400, "invalid_temperature", "`temper"),
    "top_p": Failure("plain", {"top_p": -1}, (), 400, "invalid_top_p", "`top_p`"),
    "key": Failure("plain", {"key": "sk-mallory"}, (), 401, "unauthorized", "key"),
    "rate": Failure("limited", {}, (), 429, "rate_limit_exceeded", "RATE_LIMIT"),
    "body": Failure("small", {}, (), 413, "body_too_large", "MAX_BODY_BYTES"),
    "unreachable": Failure("nobody", {}, (), 502, "backend_unavailable", "cannot be reached"),
    "slow": Failure("plain", {}, (HOLD,), 504, "gateway_timeout", "too long"),
    "model": Failure(
        "plain",
        {},
        refused(b"404 Not Found", UNKNOWN_MODEL),
        404,
        "model_not_found",
        "The model `m` does not exist.",
    ),
    "context": Failure(
        "plain",
        {},
        refused(b"400 Bad Request", CONTEXT_LENGTH),
        400,
        "context_length_exceeded",
        "maximum context length is 1024",
    ),
    "llama.cpp": Failure(
        "plain",
        {},
        refused(b"400 Bad Request", TOO_LONG),
        400,
        400,
        "exceeds the available context size",
        "exceed_context_size_error",
    ),
    "out of memory": Failure(
        "plain",
        {},
        refused(b"500 Oh", {"message": "CUDA out of memory", "type": "server_error", "code": 500}),
        502,
        500,
        "CUDA out of memory",
    ),
    "broken stream": Failure(
        "plain",
        {"stream": True},
        (STREAM_HEAD + chunk(ROLE), CLOSE),
        None,
        "backend_error",
        "broken or was cut short",
    ),
}


class Failing(SharedProcesses):
    """Gateways in front of one backend that fails as `FAILURES` have it, by the request's id."""

    backend: ClassVar[FaultyBackend]
    plain: ClassVar[Process]
    limited: ClassVar[Process]
    small: ClassVar[Process]
    nobody: ClassVar[Process]

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.backend = FaultyBackend((whole(completion()),))
        stack.callback(cls.backend.stop)
        settings = {"BACKEND_URL": cls.backend.url, "API_KEYS": f"alice:{KEY}"}
        cls.plain = gateway({**settings, "BACKEND_TIMEOUT": "1"})
        cls.limited = gateway({**settings, "RATE_LIMIT": "1/hour"})
        cls.small = gateway({**settings, "MAX_BODY_BYTES": "10"})
        cls.nobody = gateway({"BACKEND_URL": "http://127.0.0.1:1"})
        stack.enter_context(running(cls.plain, cls.limited, cls.small, cls.nobody))

    def prepared(self, failure: Failure) -> tuple[Process, str]:
        """The gateway to ask, and the id that a request is to have."""
        request_id = str(uuid.uuid4())
        if failure.script:
            self.backend.scripts[request_id] = failure.script
        process: Process = getattr(self, failure.gateway)
        if failure.gateway == "limited":
            chat(process.url, {}, {"Authorization": f"Bearer {KEY}"})
        return process, request_id


class PythonTests(Failing):
    """openai-python, and LangChain on top of it."""

    skip = OFF or absent("openai")

    def each(self, ask: Callable[[str, str, dict[str, Any], dict[str, str]], None]) -> None:
        """Have every failure caused by `ask`, given base URL, key, members and header fields."""
        for name, failure in FAILURES.items():
            process, request_id = self.prepared(failure)
            asked = dict(failure.asked)
            key = asked.pop("key", KEY)
            with self.assertRaises(openai.APIError, msg=name) as caught:
                ask(process.url + "/v1", key, asked, {"X-Request-ID": request_id})
            error = caught.exception
            self.assertEqual(getattr(error, "status_code", None), failure.status, name)
            # The package makes a text of what its types call one.
            self.assertEqual(error.code, str(failure.code), name)
            self.assertEqual(error.type, failure.kind or error.type, name)
            self.assertIn(failure.words, str(error), name)
            if failure.status is not None:
                self.assertTrue(str(error).startswith(f"Error code: {failure.status} - "), name)

    def test_openai(self) -> None:
        """openai-python raises the class of the status, prints the sentence and has the code."""

        def ask(url: str, key: str, asked: dict[str, Any], fields: dict[str, str]) -> None:
            client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
            answer = client.chat.completions.create(
                model="m", messages=QUESTION, extra_headers=fields, **asked
            )
            if asked.get("stream"):
                list(answer)

        self.each(ask)

    def test_langchain(self) -> None:
        """LangChain's `ChatOpenAI` passes the same error on, plain and streamed."""
        if lacking := absent("langchain_openai"):
            raise SkipTest(lacking)
        from langchain_openai import ChatOpenAI

        def ask(url: str, key: str, asked: dict[str, Any], fields: dict[str, str]) -> None:
            streamed = asked.pop("stream", False)
            client = ChatOpenAI(
                base_url=url, api_key=key, model="m", max_retries=0, default_headers=fields, **asked
            )
            if streamed:
                list(client.stream("hello"))
            else:
                client.invoke("hello")

        self.each(ask)

    def test_backend_that_is_busy_twice_is_asked_a_third_time(self) -> None:
        """A backend that answers 503, 503 and 200 gives a client its answer, as it does directly:
        the package tries again by itself where it is not told otherwise."""
        request_id = str(uuid.uuid4())
        loading = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
        busy = whole(json.dumps({"error": loading}).encode(), status=b"503 Service Unavailable")
        answers = iter((busy, busy, whole(completion())))
        self.backend.scripts[request_id] = (lambda exchange: exchange.send(next(answers)),)
        with openai.OpenAI(base_url=self.plain.url + "/v1", api_key=KEY) as client:
            answer = client.chat.completions.create(
                model="m", messages=QUESTION, extra_headers={"X-Request-ID": request_id}
            )
        self.assertEqual(answer.choices[0].message.content, CONTENT)
        tries = [line for line in self.plain.requests() if line["request_id"] == request_id]
        self.assertEqual([line["status"] for line in tries][:2], [502, 502])
        self.assertEqual([line["backend_status"] for line in tries][:2], [503, 503])


class NodeTests(Failing):
    """openai-node and Vercel's AI SDK."""

    skip = OFF or lacking_node()

    directory: ClassVar[str]

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.directory = install(stack)
        super().start(stack)

    def test_openai_and_ai_sdk(self) -> None:
        """openai-node prints status and sentence, the AI SDK the sentence; both have the code."""
        jobs = []
        for client in ("openai", "ai"):
            for name, failure in FAILURES.items():
                process, request_id = self.prepared(failure)
                job = {"gateway": process, "client": client, "name": request_id, "failure": name}
                jobs.append({"key": KEY, **job, **failure.asked})
        for job, result in do(jobs, self.directory):
            failure = FAILURES[job["failure"]]
            error = result["error"]
            self.assertEqual(error.get("status"), failure.status, job)
            self.assertEqual(error.get("code"), failure.code, (job, error))
            self.assertIn(failure.words, error["message"], job)
            if job["client"] == "openai" and failure.status is not None:
                self.assertTrue(error["message"].startswith(f"{failure.status} "), error)
