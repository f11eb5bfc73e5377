"""A real llama.cpp with a real model behind the gateway, asked by the openai package and curl."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from tests.e2e.harness import (
    OFF,
    ROOT,
    Process,
    SharedProcesses,
    absent,
    gateway,
    get,
    running,
    wait_for,
)
from tests.e2e.llama import MODEL, missing

skip = OFF

if not (OFF or absent("openai")):
    import openai

SLOT_FREE_SECONDS = 1.0

QUESTION = [{"role": "user", "content": "Name three colours."}]
SAME_EACH_TIME = {"temperature": 0, "seed": 7, "max_tokens": 24}
# A prompt that is partly in llama.cpp's cache is computed in other batches, and rounded otherwise.
UNCACHED = {"cache_prompt": False}
WITHOUT_END = {"ignore_eos": True}


def lacking() -> str | None:
    """Why these tests cannot run here."""
    if shutil.which("curl") is None:
        return "there is no curl on this machine"
    return absent("openai") or missing()


@contextmanager
def llama(*options: str) -> Iterator[str]:
    """The base URL of a llama.cpp of one's own."""
    command = [sys.executable, "-m", "tests.e2e.llama", "--port=0", *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.kill()


class RealModel(SharedProcesses):
    skip = OFF or lacking()

    llama: ClassVar[str]
    gateway: ClassVar[Process]

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.llama = stack.enter_context(llama())
        cls.gateway = gateway({"BACKEND_URL": cls.llama + "/v1/"})
        stack.enter_context(running(cls.gateway))

    def setUp(self) -> None:
        super().setUp()
        self.request_id = str(uuid.uuid4())
        self.client = self.new_client(self.gateway.url)

    def tearDown(self) -> None:
        self.assertEqual(self.gateway.complaints(), [])

    def new_client(self, url: str) -> openai.OpenAI:
        client = openai.OpenAI(
            base_url=url + "/v1",
            api_key="none",
            default_headers={"X-Request-ID": self.request_id},
        )
        self.addCleanup(client.close)
        return client

    def ask(self, client: openai.OpenAI | None = None, **members: Any) -> Any:
        asked = {"model": MODEL, "messages": QUESTION, **SAME_EACH_TIME, **members}
        return (client or self.client).chat.completions.create(**asked)

    def line(self) -> dict[str, Any]:
        """The log's one line about the request."""
        return self.gateway.request_line(self.request_id)

    def curl(self, *options: str, body: dict[str, Any]) -> tuple[str, bytes]:
        """The head and the body of an answer."""
        answer = subprocess.run(self.curl_command(*options, body=body), capture_output=True)
        self.assertEqual((answer.returncode, answer.stderr), (0, b""))
        head, _, rest = answer.stdout.partition(b"\r\n\r\n")
        return head.decode(), rest

    def curl_command(self, *options: str, body: dict[str, Any]) -> list[str]:
        document = json.dumps({"messages": QUESTION, **SAME_EACH_TIME, **body})
        url = self.gateway.url + "/v1/chat/completions"
        fields = ["-H", "Content-Type: application/json", "-H", f"X-Request-ID: {self.request_id}"]
        return ["curl", "-sSi", *options, *fields, "-d", document, url]

    def busy_slots(self) -> int:
        return sum(slot["is_processing"] for slot in json.loads(get(self.llama + "/slots")[2]))

    def assert_slots_free(self, since: float) -> None:
        wait_for(lambda: not self.busy_slots(), 20, "llama.cpp's slots to be free")
        self.assertLess(time.monotonic() - since, SLOT_FREE_SECONDS)

    def test_plain(self) -> None:
        """A plain answer is the model's, under the request's id, and its tokens are logged."""
        completion = self.ask()
        self.assertEqual((completion.id, completion.model), (self.request_id, MODEL))
        self.assertTrue(completion.choices[0].message.content)
        line = self.line()
        self.assertEqual((line["status"], line["outcome"]), (200, "ok"))
        self.assertEqual(line["usage_source"], "backend")
        self.assertEqual(
            [line[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")],
            [
                completion.usage.prompt_tokens,
                completion.usage.completion_tokens,
                completion.usage.total_tokens,
            ],
        )

    def test_streamed(self) -> None:
        """A stream that asked for no usage shows none, and is accounted for all the same."""
        plain = self.ask(extra_body=UNCACHED, extra_headers={"X-Request-ID": "plain"})
        chunks = list(self.ask(stream=True, extra_body=UNCACHED))
        self.assertTrue(all(chunk.choices and not chunk.usage for chunk in chunks))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        self.assertEqual(text, plain.choices[0].message.content)
        self.assertEqual(chunks[-1].choices[0].finish_reason, plain.choices[0].finish_reason)
        line = self.line()
        self.assertEqual((line["outcome"], line["usage_source"]), ("ok", "backend"))
        self.assertEqual(line["completion_tokens"], plain.usage.completion_tokens)
        self.assertLess(line["ttft_ms"], line["latency_ms"])

    def test_streamed_with_usage(self) -> None:
        """A stream that asked for usage ends with llama.cpp's own chunk of it."""
        chunks = list(self.ask(stream=True, stream_options={"include_usage": True}))
        *said, last = chunks
        self.assertTrue(all(chunk.choices for chunk in said))
        self.assertEqual(last.choices, [])
        self.assertGreater(last.timings["predicted_n"], 0)
        self.assertEqual(last.usage.total_tokens, self.line()["total_tokens"])

    def test_ten_at_once(self) -> None:
        """Of ten at once, more than llama.cpp has slots for, each gets the answer to its own."""

        async def ask(client: openai.AsyncOpenAI, number: int) -> tuple[str, int]:
            asked = {
                "model": MODEL,
                "messages": QUESTION,
                "max_tokens": 5 + number,
                "extra_body": WITHOUT_END,
                "extra_headers": {"X-Request-ID": f"{self.request_id}-{number}"},
            }
            if number % 2:
                completion = await client.chat.completions.create(**asked)
                return completion.id, completion.usage.completion_tokens
            response = await client.chat.completions.with_raw_response.create(
                **asked, stream=True, stream_options={"include_usage": True}
            )
            async for chunk in response.parse():
                usage = chunk.usage
            return response.headers["X-Request-ID"], usage.completion_tokens

        async def ask_all() -> list[tuple[str, int]]:
            async with openai.AsyncOpenAI(
                base_url=self.gateway.url + "/v1", api_key="none"
            ) as client:
                return await asyncio.gather(*(ask(client, number) for number in range(10)))

        answers = asyncio.run(ask_all())
        self.assertEqual(answers, [(f"{self.request_id}-{n}", 5 + n) for n in range(10)])

    def test_same_answer(self) -> None:
        """With a seed the answer is the same twice, and the same as without the gateway."""
        direct = self.new_client(self.llama)
        answers = {
            self.ask(client, extra_body=UNCACHED).choices[0].message.content
            for client in (self.client, self.client, direct)
        }
        self.assertEqual(len(answers), 1)

    def test_same_stream(self) -> None:
        """But for what llama.cpp makes anew each time, a stream is the same without the gateway."""

        def events(client: openai.OpenAI) -> list[dict[str, Any]]:
            options = {"include_usage": True}
            chunks = list(
                self.ask(client, stream=True, stream_options=options, extra_body=UNCACHED)
            )
            anew = {"id", "created", "timings"}
            return [chunk.model_dump(exclude=anew) for chunk in chunks]

        self.assertEqual(events(self.client), events(self.new_client(self.llama)))

    def test_schema(self) -> None:
        """A member that the gateway does not know, such as a schema for the answer, has effect."""
        schema = {
            "type": "object",
            "properties": {"colour": {"enum": ["red", "green"]}},
            "required": ["colour"],
        }
        wanted = {"type": "json_schema", "json_schema": {"name": "paint", "schema": schema}}
        completion = self.ask(response_format=wanted, max_tokens=100)
        answer = json.loads(completion.choices[0].message.content)
        self.assertIn(answer["colour"], ("red", "green"))

    def test_models(self) -> None:
        """The list of models is llama.cpp's own."""
        (model,) = self.client.models.list().data
        self.assertEqual((model.id, model.owned_by), (MODEL, "llamacpp"))

    def test_curl(self) -> None:
        """The request's id is in the header, in the reply and in the log."""
        head, body = self.curl(body={})
        self.assertTrue(head.startswith("HTTP/1.1 200 OK\r\n"))
        self.assertIn(f"\r\nX-Request-ID: {self.request_id}\r\n", head)
        self.assertNotIn("llama.cpp", head)
        self.assertEqual(json.loads(body)["id"], self.request_id)
        self.assertEqual(self.line()["path"], "/v1/chat/completions")

    def test_curl_streamed(self) -> None:
        """Streamed to curl: server-sent events, each a chunk, and [DONE] as the last."""
        head, body = self.curl("-N", body={"stream": True})
        self.assertIn("\r\nContent-Type: text/event-stream", head)
        *events, done, end = body.decode().split("\n\n")
        self.assertEqual((done, end), ("data: [DONE]", ""))
        kinds = {json.loads(event.removeprefix("data: "))["object"] for event in events}
        self.assertEqual(kinds, {"chat.completion.chunk"})

    def test_departure(self) -> None:
        """When the client leaves a stream, llama.cpp's slot is free again within a second."""
        stream = self.ask(stream=True, max_tokens=900, extra_body=WITHOUT_END)
        for _ in range(4):
            next(stream)
        self.assertTrue(self.busy_slots())
        left = time.monotonic()
        stream.close()
        self.assert_slots_free(left)
        line = self.line()
        self.assertEqual((line["status"], line["outcome"]), (200, "client_disconnected"))
        self.assertEqual(line["usage_source"], "counted")
        self.assertGreaterEqual(line["completion_tokens"], 2)

    def test_bad_grammar(self) -> None:
        """What llama.cpp refuses is passed on with its status, its message and its error object."""
        with self.assertRaises(openai.BadRequestError) as caught:
            self.ask(extra_body={"grammar": "root ::= ("})
        body = caught.exception.response.json()
        self.assertEqual(body["request_id"], self.request_id)
        self.assertIn("grammar", body["error"]["message"])
        self.assertEqual(body["error"]["type"], "invalid_request_error")
        line = self.line()
        self.assertEqual((line["error"], line["outcome"]), ("backend_rejected", "client_error"))

    def test_too_long(self) -> None:
        """A prompt over the context size is refused with llama.cpp's numbers, streamed or not."""
        for stream in (False, True):
            messages = [{"role": "user", "content": "word " * 2000}]
            with self.assertRaises(openai.BadRequestError) as caught:
                self.ask(messages=messages, stream=stream)
            detail = caught.exception.response.json()["error"]
            self.assertEqual(detail["type"], "exceed_context_size_error")
            self.assertGreater(detail["n_prompt_tokens"], detail["n_ctx"])

    def test_image(self) -> None:
        """llama.cpp's 500, for an image sent to a text model, is a 502 that is not tried again, in
        llama.cpp's own words."""
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        with self.assertRaises(openai.InternalServerError) as caught:
            self.ask(messages=[{"role": "user", "content": [image]}])
        response = caught.exception.response
        self.assertEqual(response.status_code, 502)
        self.assertIn("image", response.json()["error"]["message"])
        self.assertEqual(response.headers["x-should-retry"], "false")
        line = self.line()
        self.assertEqual((line["outcome"], line["backend_status"]), ("backend_error", 500))

    def test_curl_refused(self) -> None:
        """curl sees the same refusal as JSON."""
        head, body = self.curl(body={"tool_choice": "bad"})
        self.assertTrue(head.startswith("HTTP/1.1 400 Bad Request\r\n"))
        self.assertEqual(json.loads(body)["message"], "Invalid tool_choice: bad")
