"""The openai package, sync and async, against a real gateway in front of the mock backend."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.e2e.harness import OFF, Process, absent, wait_for
from tests.e2e.sdk_cases import (
    ANSWER,
    BREAKS,
    BROKEN_AFTER,
    BROKEN_ANSWER,
    ERRORS,
    KEY,
    NEVER,
    OTHER_KEY,
    PATIENCE,
    QUESTION,
    TOKENS,
    Gateways,
    shown_code,
)

skip = OFF or absent("openai")

if not skip:
    import openai

TOOLS = [{"type": "function", "function": {"name": "say", "parameters": {"type": "object"}}}]


class Scenarios:
    """What holds for both clients; `call` and `stream` are how they differ."""

    def setUp(self) -> None:
        super().setUp()
        self.request_id = str(uuid.uuid4())

    def call(self, options: dict[str, Any], use: Callable[[Any], Any]) -> Any:
        """What `use` makes of a client with these options."""
        raise NotImplementedError

    def stream(self, options: dict[str, Any], members: dict[str, Any], chunks: list[Any]) -> None:
        """Stream a completion and add what comes to `chunks`, also where it fails."""
        raise NotImplementedError

    def options(self, process: Process | None = None, **options: Any) -> dict[str, Any]:
        return {"base_url": (process or self.plain).url + "/v1", "api_key": KEY, **options}

    def members(self, **members: Any) -> dict[str, Any]:
        extra = {"mock": members.pop("mock")} if "mock" in members else None
        return {
            "model": "m",
            "messages": QUESTION,
            "extra_body": extra,
            "extra_headers": {"X-Request-ID": self.request_id},
            **members,
        }

    def create(self, options: dict[str, Any], **members: Any) -> Any:
        asked = self.members(**members)
        return self.call(options, lambda client: client.chat.completions.create(**asked))

    def refused(self, options: dict[str, Any], **members: Any) -> openai.APIStatusError:
        with self.assertRaises(openai.APIStatusError) as caught:
            self.create(options, **members)
        return caught.exception

    def tries(self, process: Process, *statuses: int) -> list[int]:
        """The retry count of each try of the request, once the log has as many as `statuses`."""

        def found() -> list[dict[str, Any]]:
            return [line for line in process.requests() if line["request_id"] == self.request_id]

        wait_for(lambda: len(found()) >= len(statuses), 5, "the log lines of all tries")
        self.assertEqual([line["status"] for line in found()], [*statuses])
        return [line["retry_count"] for line in found()]

    # Success.

    def test_plain(self) -> None:
        """A plain completion has the request's id, the content and the usage."""
        completion = self.create(self.options())
        self.assertEqual((completion.id, completion.model), (self.request_id, "m"))
        self.assertEqual(completion.choices[0].message.content, ANSWER)
        self.assertEqual(completion.usage.total_tokens, TOKENS)
        line = self.plain.request_line(self.request_id)
        self.assertEqual((line["outcome"], line["caller"]), ("ok", "alice"))
        self.assertEqual((line["retry_count"], line["total_tokens"]), (0, TOKENS))

    def test_streamed(self) -> None:
        """A stream has the words as they come, and no usage that was not asked for."""
        chunks: list[Any] = []
        self.stream(self.options(), self.members(), chunks)
        self.assertEqual(said(chunks), ANSWER)
        self.assertTrue(all(chunk.choices and chunk.usage is None for chunk in chunks))
        self.assertEqual(chunks[-1].choices[0].finish_reason, "stop")
        line = self.plain.request_line(self.request_id)
        self.assertEqual((line["outcome"], line["total_tokens"]), ("ok", TOKENS))

    def test_streamed_with_usage(self) -> None:
        """A stream that asked for usage has it in a last chunk."""
        chunks: list[Any] = []
        self.stream(self.options(), self.members(stream_options={"include_usage": True}), chunks)
        *words, last = chunks
        self.assertEqual(said(words), ANSWER)
        self.assertEqual((last.choices, last.usage.total_tokens), ([], TOKENS))

    def test_models(self) -> None:
        """The models are the backend's."""
        models = self.call(self.options(), lambda client: client.models.list())
        self.assertEqual([model.id for model in models.data], ["mock"])

    def test_tool_call(self) -> None:
        """Tools reach the backend as they are, and its call of one comes back."""
        script = {"tool_call": "say", "received": True}
        completion = self.create(self.options(), tools=TOOLS, mock=script)
        self.assertEqual(completion.mock_received["tools"], TOOLS)
        self.assertEqual(completion.choices[0].finish_reason, "tool_calls")
        (call,) = completion.choices[0].message.tool_calls
        self.assertEqual(call.function.name, "say")
        arguments = json.loads(call.function.arguments)
        self.assertEqual(arguments, {"text": ANSWER})

    def test_tool_call_streamed(self) -> None:
        """A call that is streamed comes in its pieces."""
        chunks: list[Any] = []
        members = self.members(tools=TOOLS, mock={"tool_call": "say"})
        self.stream(self.options(), members, chunks)
        calls = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or ()]
        self.assertEqual(calls[0].function.name, "say")
        arguments = json.loads("".join(call.function.arguments for call in calls))
        self.assertEqual(arguments, {"text": ANSWER})
        self.assertGreater(self.plain.request_line(self.request_id)["ttft_ms"], 0)

    # Errors.

    def test_errors(self) -> None:
        """Each failure raises the class of its status; message, code and member are in their
        places, and the message is what is printed."""
        for members, name, status, code in ERRORS:
            error = self.refused(self.options(max_retries=0), **members)
            found = (type(error).__name__, error.status_code, error.code)
            self.assertEqual(found, (name, status, shown_code(members, code)), members)
            self.assertEqual(error.response.headers["X-Request-ID"], self.request_id)
            self.assertTrue(error.body["message"].endswith("."), error.body)
            self.assertIn(error.body["message"], str(error))
        error = self.refused(self.options(max_retries=0), temperature=-1)
        self.assertEqual(error.param, "temperature")

    def test_errors_in_code_format(self) -> None:
        """With ERROR_FORMAT=code the code is what `error` is."""
        options = self.options(self.code_format, max_retries=0)
        for members, name, status, code in ERRORS:
            error = self.refused(options, **members)
            found = (type(error).__name__, error.status_code, error.body)
            self.assertEqual(found, (name, status, code), members)

    def test_error_before_a_stream(self) -> None:
        """What fails before the first event raises as if it were not streamed."""
        for members, name, status, code in ERRORS:
            with self.assertRaises(openai.APIStatusError) as caught:
                self.stream(self.options(max_retries=0), self.members(**members), [])
            error = caught.exception
            found = (type(error).__name__, error.status_code, error.code)
            self.assertEqual(found, (name, status, shown_code(members, code)), members)

    def test_unauthorized(self) -> None:
        """A wrong key raises AuthenticationError, and is not tried again."""
        with self.assertRaises(openai.AuthenticationError) as caught:
            self.create(self.options(api_key="sk-mallory"))
        self.assertEqual(caught.exception.code, "unauthorized")
        self.assertEqual(self.plain.request_line(self.request_id)["caller"], None)

    def test_unknown_route(self) -> None:
        """Another of OpenAI's routes raises NotFoundError."""
        with self.assertRaises(openai.NotFoundError) as caught:
            self.call(self.options(), lambda client: client.moderations.create(input="x"))
        self.assertEqual(caught.exception.code, "not_found")

    # Retries.

    def test_no_second_try(self) -> None:
        """Once the backend may be at work, x-should-retry keeps the client from a second try."""
        for script in ({"status": 500}, {"delay": NEVER}):
            self.request_id = str(uuid.uuid4())
            error = self.refused(self.options(), mock=script)
            self.assertEqual(error.response.headers["x-should-retry"], "false")
            self.assertEqual(error.request.headers["x-stainless-retry-count"], "0")
            self.assertEqual(self.plain.request_line(self.request_id)["retry_count"], 0)

    def test_tries_again(self) -> None:
        """A backend that was never reached may be tried again; the log counts the tries."""
        error = self.refused(self.options(self.unconnected))
        self.assertEqual((error.status_code, error.code), (502, "backend_unavailable"))
        self.assertNotIn("x-should-retry", error.response.headers)
        self.assertEqual(self.tries(self.unconnected, 502, 502, 502), [0, 1, 2])

    def test_rate_limited(self) -> None:
        """Over the limit: RateLimitError that says when to come back."""
        options = self.options(self.limited, max_retries=0)
        with self.assertRaises(openai.RateLimitError) as caught:
            for _ in range(3):
                self.create(options)
        headers = caught.exception.response.headers
        self.assertEqual(headers["Retry-After"], "1")
        self.assertEqual(headers["x-ratelimit-remaining-requests"], "0")

    def test_retry_after(self) -> None:
        """A client that waits for Retry-After, as it does by default, is let in then."""
        options = self.options(self.limited, api_key=OTHER_KEY, max_retries=1)
        self.create(options)
        self.request_id = str(uuid.uuid4())
        began = time.monotonic()
        self.create(options)
        self.assertGreaterEqual(time.monotonic() - began, 1)
        self.assertEqual(self.tries(self.limited, 429, 200), [0, 1])

    # Streams that do not end well.

    def test_mid_stream_failure(self) -> None:
        """A stream that breaks off raises, after all that had come; it never just ends."""
        for fail, code, outcome in BREAKS:
            self.request_id = str(uuid.uuid4())
            chunks: list[Any] = []
            members = self.members(mock={"fail": fail, **BROKEN_AFTER})
            with self.assertRaises(openai.APIError) as caught:
                self.stream(self.options(), members, chunks)
            self.assertEqual(said(chunks), BROKEN_ANSWER, fail)
            self.assertEqual(caught.exception.code, code, fail)
            self.assertTrue(caught.exception.message.endswith("."), fail)
            line = self.plain.request_line(self.request_id)
            self.assertEqual((line["status"], line["outcome"]), (200, outcome), fail)
            self.assertEqual((line["completion_tokens"], line["usage_source"]), (2, "counted"))

    def test_client_timeout(self) -> None:
        """A client that gives up waiting is gone for the gateway, too."""
        with self.assertRaises(openai.APITimeoutError):
            self.create(
                self.options(self.patient, timeout=PATIENCE, max_retries=0), mock={"delay": NEVER}
            )
        line = self.patient.request_line(self.request_id)
        self.assertEqual((line["status"], line["outcome"]), (499, "client_disconnected"))

    def test_client_timeout_in_mid_stream(self) -> None:
        """So is one that gives up between two chunks."""
        chunks: list[Any] = []
        members = self.members(mock={"chunk_delay": NEVER})
        with self.assertRaises(Exception) as caught:  # which one depends on the client's version
            self.stream(
                self.options(self.patient, timeout=PATIENCE, max_retries=0), members, chunks
            )
        self.assertIn("Timeout", type(caught.exception).__name__)
        self.assertEqual(len(chunks), 1)
        line = self.patient.request_line(self.request_id)
        self.assertEqual((line["status"], line["outcome"]), (200, "client_disconnected"))


class Sync(Scenarios, Gateways):
    def call(self, options: dict[str, Any], use: Callable[[Any], Any]) -> Any:
        with openai.OpenAI(**options) as client:
            return use(client)

    def stream(self, options: dict[str, Any], members: dict[str, Any], chunks: list[Any]) -> None:
        with openai.OpenAI(**options) as client:
            for chunk in client.chat.completions.create(stream=True, **members):
                chunks.append(chunk)  # one by one: a failure leaves what had come


class Async(Scenarios, Gateways):
    def call(self, options: dict[str, Any], use: Callable[[Any], Any]) -> Any:
        async def main() -> Any:
            async with openai.AsyncOpenAI(**options) as client:
                return await use(client)

        return asyncio.run(main())

    def stream(self, options: dict[str, Any], members: dict[str, Any], chunks: list[Any]) -> None:
        async def main() -> None:
            async with openai.AsyncOpenAI(**options) as client:
                async for chunk in await client.chat.completions.create(stream=True, **members):
                    chunks.append(chunk)

        asyncio.run(main())


def said(chunks: list[Any]) -> str:
    """The content of a stream."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
