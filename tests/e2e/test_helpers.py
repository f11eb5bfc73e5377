"""What the SDKs of OpenAI and Anthropic make of each dialect, without a model: the echo, the mock
behind the gateway, and every failure that the mock can make."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any, ClassVar

from tests.e2e.harness import OFF, Process, SharedProcesses, absent, gateway, get, mock, running

skip = OFF or absent("openai", "anthropic")

if not skip:
    import anthropic
    import openai
    from anthropic.types import Message, MessageTokensCount
    from openai.types import Completion
    from openai.types.chat import ChatCompletion
    from openai.types.responses import Response

HI: Any = [{"role": "user", "content": "Hello there"}]
JSON = {"Content-Type": "application/json"}


class Dialects(SharedProcesses):
    """An echo, and a gateway in front of the mock."""

    echo: ClassVar[Process]
    gateway: ClassVar[Process]

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        behind = mock()
        stack.enter_context(running(behind))
        cls.echo = gateway()
        cls.gateway = gateway(
            {"BACKEND_URL": behind.url, "BACKEND_TIMEOUT": "1", "STREAM_IDLE_TIMEOUT": "1"}
        )
        stack.enter_context(running(cls.echo, cls.gateway))

    def tearDown(self) -> None:
        for process in (self.echo, self.gateway):
            self.assertEqual(process.complaints(), [])

    def said(self) -> list[tuple[Process, str]]:
        return [(self.echo, "Echo: Hello there"), (self.gateway, "Mock: Hello there")]

    def openai(self, process: Process) -> openai.OpenAI:
        client = openai.OpenAI(base_url=process.url + "/v1", api_key="none", max_retries=0)
        self.addCleanup(client.close)
        return client

    def anthropic(self, process: Process) -> anthropic.Anthropic:
        client = anthropic.Anthropic(base_url=process.url, api_key="none", max_retries=0)
        self.addCleanup(client.close)
        return client


class Schemas(Dialects):
    def test_echo_is_complete_by_the_public_schemas(self) -> None:
        """The SDKs' own models of the replies take it, strictly."""
        for path, body, model in (
            ("/v1/chat/completions", {"messages": HI}, ChatCompletion),
            ("/v1/completions", {"prompt": "Hello"}, Completion),
            ("/v1/responses", {"input": "Hello"}, Response),
            ("/v1/messages", {"messages": HI, "max_tokens": 9}, Message),
            ("/v1/messages/count_tokens", {"messages": HI}, MessageTokensCount),
        ):
            for process, _ in self.said():
                _, _, reply = get(process.url + path, JSON, json.dumps(body).encode())
                model.model_validate_json(reply, strict=True)


class Helpers(Dialects):
    def test_responses_stream(self) -> None:
        """`responses.stream()` finds each delta's place, and ends in the whole response."""
        for process, said in self.said():
            with self.openai(process).responses.stream(model="m", input="Hello there") as stream:
                deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
                response = stream.get_final_response()
            self.assertEqual(("".join(deltas), response.output_text), (said, said))
            assert response.usage is not None
            self.assertGreater(response.usage.output_tokens, 0)

    def test_chat_stream(self) -> None:
        """So does `chat.completions.stream()`."""
        for process, said in self.said():
            client = self.openai(process)
            with client.chat.completions.stream(model="m", messages=HI) as stream:
                text = "".join(e.delta for e in stream if e.type == "content.delta")
            self.assertEqual(text, said)

    def test_completions_stream(self) -> None:
        """`completions.create(stream=True)`."""
        for process, said in self.said():
            stream = self.openai(process).completions.create(
                model="m", prompt="Hello there", stream=True
            )
            text = "".join(chunk.choices[0].text for chunk in stream if chunk.choices)
            self.assertEqual(text, said)

    def test_messages_stream(self) -> None:
        """`messages.stream()`, and the usage that it adds up."""
        for process, said in self.said():
            with self.anthropic(process).messages.stream(
                model="m", messages=HI, max_tokens=9
            ) as stream:
                text = "".join(stream.text_stream)
                final = stream.get_final_message()
            self.assertEqual((text, final.stop_reason), (said, "end_turn"))
            self.assertEqual((final.usage.input_tokens, final.usage.output_tokens), (2, 3))

    def test_embeddings(self) -> None:
        """As base64, which the SDK asks for, and as numbers."""
        client = self.openai(self.gateway)
        first = client.embeddings.create(model="m", input="red").data[0].embedding
        plain = client.embeddings.create(model="m", input="red", encoding_format="float")
        self.assertEqual(len(first), len(plain.data[0].embedding))
        self.assertAlmostEqual(first[0], plain.data[0].embedding[0], 5)


class Errors(Dialects):
    def test_anthropics_classes(self) -> None:
        """Each status is the exception of its class, with its type, our code, and the id."""
        client = self.anthropic(self.gateway)
        for status, kind, said, name in (
            (400, anthropic.BadRequestError, "invalid_request_error", "backend_rejected"),
            (404, anthropic.NotFoundError, "not_found_error", "backend_rejected"),
            (413, anthropic.RequestTooLargeError, "request_too_large", "backend_rejected"),
            (422, anthropic.UnprocessableEntityError, "invalid_request_error", "backend_rejected"),
            (429, anthropic.RateLimitError, "rate_limit_error", "backend_rejected"),
            (500, anthropic.InternalServerError, "api_error", "backend_error"),
        ):
            with self.assertRaises(kind) as caught:
                client.messages.create(
                    model="m", messages=HI, max_tokens=9, extra_body={"mock": {"status": status}}
                )
            error = caught.exception
            assert isinstance(error.body, dict)
            self.assertEqual(
                (error.body["error"]["type"], error.body["error"]["code"]), (said, name)
            )
            self.assertEqual(error.body["error"]["message"], "The mock was told so.")
            self.assertTrue(error.request_id)

    def test_broken_streams_raise(self) -> None:
        """In each SDK and each dialect, however they break; what had come before is there."""
        for fault in (
            {"fail": "reset"},
            {"fail": "close"},
            {"fail": "stall"},
            {"fail": "error_event"},
            {"done": False, "fail": "close", "fail_after": 99},
            {"done": False},
        ):
            extra = {"mock": {"fail_after": 3, **fault}}
            for call in (self._responses, self._messages, self._completions):
                if call == self._completions and fault == {"done": False}:
                    continue  # a proper end after a `finish_reason` is one
                texts: list[str] = []
                with self.assertRaises((openai.OpenAIError, anthropic.APIError)):
                    call(extra, texts)
                self.assertTrue("".join(texts).startswith("Mock: "), (call, fault, texts))

    def _responses(self, extra: dict[str, Any], texts: list[str]) -> None:
        stream = self.openai(self.gateway).responses.create(
            model="m", input="Hello there", stream=True, extra_body=extra
        )
        failed = None
        for event in stream:
            if event.type == "response.output_text.delta":
                texts.append(event.delta)
            if event.type == "response.failed":
                failed = event.response.error
        if failed is not None:
            raise openai.OpenAIError(failed.message)

    def _messages(self, extra: dict[str, Any], texts: list[str]) -> None:
        with self.anthropic(self.gateway).messages.stream(
            model="m", messages=HI, max_tokens=9, extra_body=extra
        ) as stream:
            texts += iter(stream.text_stream)

    def _completions(self, extra: dict[str, Any], texts: list[str]) -> None:
        stream = self.openai(self.gateway).completions.create(
            model="m", prompt="Hello there", stream=True, extra_body=extra
        )
        texts += (chunk.choices[0].text for chunk in stream if chunk.choices)

    def test_error_event_of_the_gateways_is_read(self) -> None:
        """The SDKs print its message, not "Connection error."."""
        extra = {"mock": {"fail": "stall", "fail_after": 3}}
        with self.assertRaises(openai.APIError) as caught:
            self._responses(extra, [])
        self.assertIn("STREAM_IDLE_TIMEOUT", caught.exception.message)
        with self.assertRaises(anthropic.APIStatusError) as said:
            self._messages(extra, [])
        assert isinstance(said.exception.body, dict)
        self.assertEqual(said.exception.body["error"]["code"], "gateway_timeout")

    def test_refusals_before_a_stream(self) -> None:
        """A failing first event has its status in each SDK."""
        extra = {"mock": {"fail": "error_event", "fail_after": 0}}
        with self.assertRaises(openai.InternalServerError):
            self._responses(extra, [])
        with self.assertRaises(anthropic.InternalServerError):
            self._messages(extra, [])
