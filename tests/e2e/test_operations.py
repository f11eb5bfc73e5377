"""Every operation that llama.cpp serves, asked of real llama.cpp servers and of the gateway in
front of them by the clients that people use: the answers are the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar

from tests.e2e.harness import OFF, Process, SharedProcesses, absent, gateway, get, running
from tests.e2e.llama import MODEL, missing
from tests.e2e.test_llama import llama
from tests.e2e.test_node import INSTALL, INSTALL_SECONDS, PROGRAM, run
from tests.e2e.test_node import lacking as lacking_node

skip = OFF

PACKAGES = ("openai", "anthropic", "langchain_openai", "llm")
QUESTION = "Name three colours."
MESSAGES = [{"role": "user", "content": QUESTION}]
# A prompt that is partly in llama.cpp's cache is computed in other batches, and rounded otherwise.
SAME_EACH_TIME = {"temperature": 0, "seed": 7, "cache_prompt": False}

if not (OFF or absent(*PACKAGES)):
    import anthropic
    import openai


def lacking() -> str | None:
    """Why these tests cannot run here."""
    return absent(*PACKAGES) or missing()


class Operations(SharedProcesses):
    """Three llama.cpp servers, for text, embeddings and reranking, each behind a gateway."""

    skip = OFF or lacking()

    backends: ClassVar[dict[str, str]]
    gateways: ClassVar[dict[str, Process]]

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.backends = {
            "text": stack.enter_context(llama()),
            "mean": stack.enter_context(llama("--pooling=mean")),
            "rank": stack.enter_context(llama("--pooling=rank")),
        }
        cls.gateways = {name: gateway({"BACKEND_URL": url}) for name, url in cls.backends.items()}
        stack.enter_context(running(*cls.gateways.values()))

    def tearDown(self) -> None:
        for process in self.gateways.values():
            self.assertEqual(process.complaints(), [])

    def both(self, use: Callable[[str, dict[str, str]], Any], backend: str = "text") -> Any:
        """What `use` gets with a base URL and header fields: the same directly and through the
        gateway, whose log has one good line about it. Gives back the answer and that line."""
        self.request_id = str(uuid.uuid4())
        process = self.gateways[backend]
        fields = {"X-Request-ID": self.request_id}
        answer = use(process.url, fields)
        self.assertEqual(answer, use(self.backends[backend], fields))
        line = process.request_line(self.request_id)
        self.assertEqual((line["status"], line["outcome"]), (200, "ok"), line)
        return answer, line

    def post(self, path: str, body: dict[str, Any], backend: str = "text") -> Any:
        """`both` for one plain request: the members of its reply that are the same each time."""

        def use(url: str, fields: dict[str, str]) -> Any:
            fields = {"Content-Type": "application/json", **fields}
            status, _, reply = get(url + path, fields, json.dumps(body).encode())
            self.assertEqual(status, 200, reply)
            return json.loads(reply)

        return self.both(use, backend)


class NativeRoutes(Operations):
    def test_tokenize_and_back(self) -> None:
        """Text becomes tokens and text again, with no usage accounted for."""
        tokens, line = self.post("/tokenize", {"content": QUESTION})
        self.assertEqual((line["operation"], line["usage_source"]), ("tokenize", "none"))
        text, _ = self.post("/detokenize", tokens)
        self.assertEqual(text, {"content": QUESTION})

    def test_apply_template(self) -> None:
        """A list of messages becomes the prompt that the model reads."""
        prompt, line = self.post("/apply-template", {"messages": MESSAGES})
        self.assertIn(QUESTION, prompt["prompt"])
        self.assertEqual(line["operation"], "tokenize")

    def test_counting(self) -> None:
        """Prompts are counted in each dialect, and are charged nothing for it."""
        for path, body, operation in (
            ("/v1/messages/count_tokens", {"messages": MESSAGES}, "messages"),
            ("/v1/responses/input_tokens", {"input": QUESTION}, "responses"),
            ("/v1/chat/completions/input_tokens", {"messages": MESSAGES}, "chat"),
        ):
            counted, line = self.post(path, body)
            self.assertGreater(counted["input_tokens"], 0)
            self.assertEqual((line["operation"], line["total_tokens"]), (operation, 0))

    def test_rerank(self) -> None:
        """Documents are ranked, on each of the routes that clients ask."""
        body = json.dumps({"query": "colour", "documents": ["red", "a car"]}).encode()
        for path in ("/v1/rerank", "/rerank", "/v2/rerank"):

            def use(url: str, fields: dict[str, str], path: str = path) -> Any:
                # llama.cpp itself has no /v2/rerank.
                path = path if url == self.gateways["rank"].url else "/v1/rerank"
                fields = {"Content-Type": "application/json", **fields}
                status, _, reply = get(url + path, fields, body)
                self.assertEqual(status, 200, reply)
                return json.loads(reply)

            ranked, line = self.both(use, "rank")
            self.assertEqual(len(ranked["results"]), 2)
            self.assertEqual(line["operation"], "rerank")
            self.assertEqual(line["prompt_tokens"], ranked["usage"]["prompt_tokens"])

    def test_rerank_of_texts_is_an_array(self) -> None:
        """llama.cpp's answer to `texts` is an array, and passes."""
        ranked, line = self.post("/v1/rerank", {"query": "colour", "texts": ["red"]}, "rank")
        self.assertEqual((len(ranked), line["usage_source"]), (1, "none"))

    def test_embeddings_of_content_are_an_array(self) -> None:
        """llama.cpp's answer to `content` is an array, and passes."""
        embedded, line = self.post("/v1/embeddings", {"content": "red"}, "mean")
        self.assertEqual((len(embedded), line["usage_source"]), (1, "none"))

    def test_completion(self) -> None:
        """llama.cpp's own completion, plain; its tokens are accounted for."""

        def use(url: str, fields: dict[str, str]) -> Any:
            body = {"prompt": QUESTION, "n_predict": 8, **SAME_EACH_TIME}
            fields = {"Content-Type": "application/json", **fields}
            reply = json.loads(get(url + "/completion", fields, json.dumps(body).encode())[2])
            return reply["content"], reply["tokens_evaluated"], reply["tokens_predicted"]

        (_, prompt, completion), line = self.both(use)
        self.assertEqual(
            (line["operation"], line["prompt_tokens"], line["completion_tokens"]),
            ("infill", prompt, completion),
        )

    def test_completion_streamed(self) -> None:
        """llama.cpp's own stream ends with its `"stop": true`, and nothing is put behind it."""

        def use(url: str, fields: dict[str, str]) -> Any:
            body = {"prompt": QUESTION, "n_predict": 8, "stream": True, **SAME_EACH_TIME}
            fields = {"Content-Type": "application/json", **fields}
            _, _, stream = get(url + "/completion", fields, json.dumps(body).encode())
            events = [json.loads(event[6:]) for event in stream.split(b"\n\n") if event.strip()]
            self.assertTrue(events[-1]["stop"])
            counted = (events[-1]["tokens_evaluated"], events[-1]["tokens_predicted"])
            return "".join(event["content"] for event in events), *counted

        (_, prompt, completion), line = self.both(use)
        self.assertEqual((line["prompt_tokens"], line["completion_tokens"]), (prompt, completion))
        self.assertEqual((line["stream"], line["usage_source"]), (True, "backend"))

    def test_what_the_model_cannot_do_is_told_as_the_backend_tells_it(self) -> None:
        """A 501 of the backend's is passed on with its words: nothing has failed."""
        fields = {"Content-Type": "application/json"}
        for path, backend, body in (
            ("/infill", "text", {"input_prefix": "a", "input_suffix": "b"}),
            ("/v1/embeddings", "text", {"input": "red"}),
            ("/v1/rerank", "text", {"query": "a", "documents": ["b"]}),
        ):
            request_id = str(uuid.uuid4())
            status, _, reply = get(
                self.gateways[backend].url + path,
                {**fields, "X-Request-ID": request_id},
                json.dumps(body).encode(),
            )
            document = json.loads(reply)
            self.assertEqual((status, document["error"]), (501, "backend_rejected"))
            self.assertIn("support", document["message"])
            line = self.gateways[backend].request_line(request_id)
            self.assertEqual((line["outcome"], line["backend_status"]), ("client_error", 501))


class OpenAIPython(Operations):
    def client(self, url: str, fields: dict[str, str]) -> openai.OpenAI:
        # Straight at llama.cpp, which closes the connection after a stream, a retry is needed.
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", default_headers=fields)
        self.addCleanup(client.close)
        return client

    def test_completions(self) -> None:
        """`completions.create`, plain."""

        def use(url: str, fields: dict[str, str]) -> Any:
            reply = self.client(url, fields).completions.create(
                model=MODEL, prompt=QUESTION, max_tokens=8, extra_body=SAME_EACH_TIME
            )
            assert reply.usage is not None
            return reply.choices[0].text, reply.usage.total_tokens

        (text, total), line = self.both(use)
        self.assertTrue(text)
        self.assertEqual((line["operation"], line["total_tokens"]), ("completions", total))

    def test_completions_streamed(self) -> None:
        """`completions.create(stream=True)`; its tokens are accounted for."""

        def use(url: str, fields: dict[str, str]) -> Any:
            stream = self.client(url, fields).completions.create(
                model=MODEL, prompt=QUESTION, max_tokens=8, stream=True, extra_body=SAME_EACH_TIME
            )
            return "".join(chunk.choices[0].text for chunk in stream if chunk.choices)

        text, line = self.both(use)
        self.assertTrue(text)
        self.assertEqual((line["completion_tokens"], line["usage_source"]), (8, "backend"))

    def test_embeddings(self) -> None:
        """`embeddings.create`, which asks for base64, and as numbers."""

        def use(url: str, fields: dict[str, str]) -> Any:
            client = self.client(url, fields)
            return client.embeddings.create(model=MODEL, input=["red", "blue"]).data[1].embedding

        embedding, line = self.both(use, "mean")
        self.assertEqual(len(embedding), 576)
        self.assertEqual((line["operation"], line["completion_tokens"]), ("embeddings", 0))
        self.assertGreater(line["prompt_tokens"], 0)

    def test_responses(self) -> None:
        """`responses.create`, plain."""

        def use(url: str, fields: dict[str, str]) -> Any:
            reply = self.client(url, fields).responses.create(
                model=MODEL, input=QUESTION, max_output_tokens=8, extra_body=SAME_EACH_TIME
            )
            assert reply.usage is not None
            return reply.output_text, reply.usage.total_tokens

        (text, total), line = self.both(use)
        self.assertTrue(text)
        self.assertEqual((line["operation"], line["total_tokens"]), ("responses", total))

    def test_responses_streamed(self) -> None:
        """`responses.create(stream=True)`: every event comes, and the usage is accounted for."""

        def use(url: str, fields: dict[str, str]) -> Any:
            stream = self.client(url, fields).responses.create(
                model=MODEL,
                input=QUESTION,
                max_output_tokens=8,
                stream=True,
                extra_body=SAME_EACH_TIME,
            )
            events = list(stream)
            text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
            return [event.type for event in events], text

        (types, text), line = self.both(use)
        self.assertEqual(types[-1], "response.completed")
        self.assertTrue(text)
        self.assertEqual((line["completion_tokens"], line["usage_source"]), (8, "backend"))
        self.assertIsNotNone(line["ttft_ms"])

    def test_one_model(self) -> None:
        """`models.retrieve`, for which llama.cpp has no route: the entry of its list."""
        process = self.gateways["text"]
        found = self.client(process.url, {}).models.retrieve(MODEL)
        self.assertEqual((found.id, found.object), (MODEL, "model"))
        listed = self.client(self.backends["text"], {}).models.list().data
        self.assertEqual(found.model_dump(), listed[0].model_dump())
        with self.assertRaises(openai.NotFoundError):
            self.client(process.url, {}).models.retrieve("org/other")

    def test_stream_helper_fails_as_it_does_directly(self) -> None:
        """`responses.stream()` needs indexes that llama.cpp's events lack; those that the gateway
        makes have them (`test_helpers`)."""
        for url in (self.backends["text"], self.gateways["text"].url):
            with (
                self.assertRaises(TypeError),
                self.client(url, {}).responses.stream(model=MODEL, input=QUESTION) as stream,
            ):
                stream.until_done()


class AnthropicPython(Operations):
    def client(self, url: str, fields: dict[str, str], **options: Any) -> anthropic.Anthropic:
        client = anthropic.Anthropic(
            base_url=url, api_key="none", default_headers=fields, **options
        )
        self.addCleanup(client.close)
        return client

    def test_messages(self) -> None:
        """`messages.create`."""

        def use(url: str, fields: dict[str, str]) -> Any:
            reply = self.client(url, fields).messages.create(
                model=MODEL, messages=MESSAGES, max_tokens=8, extra_body=SAME_EACH_TIME
            )
            return reply.content[0].text, reply.usage.output_tokens

        (text, completion), line = self.both(use)
        self.assertTrue(text)
        self.assertEqual((line["operation"], line["completion_tokens"]), ("messages", completion))

    def test_messages_streamed(self) -> None:
        """The `messages.stream` helper: its text, its final message and its usage."""

        def use(url: str, fields: dict[str, str]) -> Any:
            with self.client(url, fields).messages.stream(
                model=MODEL, messages=MESSAGES, max_tokens=8, extra_body=SAME_EACH_TIME
            ) as stream:
                text = "".join(stream.text_stream)
                final = stream.get_final_message()
            self.assertEqual(final.content[0].text, text)
            return text, final.stop_reason, final.usage.output_tokens

        (text, _, completion), line = self.both(use)
        self.assertTrue(text)
        self.assertEqual((line["completion_tokens"], line["usage_source"]), (completion, "backend"))
        self.assertGreater(line["prompt_tokens"], 0)

    def test_count_tokens(self) -> None:
        """`messages.count_tokens`."""

        def use(url: str, fields: dict[str, str]) -> Any:
            client = self.client(url, fields)
            return client.messages.count_tokens(model=MODEL, messages=MESSAGES).input_tokens

        counted, line = self.both(use)
        self.assertGreater(counted, 0)
        self.assertEqual(line["usage_source"], "none")

    def test_errors(self) -> None:
        """A refusal is an exception of its class, with the gateway's words, code and id."""
        client = self.client(self.gateways["text"].url, {}, max_retries=0)
        with self.assertRaises(anthropic.BadRequestError) as caught:
            client.messages.create(model=MODEL, messages=[], max_tokens=8)
        error = caught.exception
        assert isinstance(error.body, dict)
        self.assertEqual(error.body["type"], "error")
        self.assertEqual(error.body["error"]["type"], "invalid_request_error")
        self.assertEqual(error.body["error"]["code"], "invalid_messages")
        self.assertTrue(error.request_id)


class OtherClients(Operations):
    def test_langchain_embeddings(self) -> None:
        """LangChain's `OpenAIEmbeddings`."""
        from langchain_openai import OpenAIEmbeddings

        def use(url: str, fields: dict[str, str]) -> Any:
            embeddings = OpenAIEmbeddings(
                base_url=url + "/v1",
                api_key="none",
                model=MODEL,
                check_embedding_ctx_length=False,  # it would ask a hub for the model's tokens
                default_headers=fields,
            )
            return embeddings.embed_query("red")

        embedding, line = self.both(use, "mean")
        self.assertEqual((len(embedding), line["operation"]), (576, "embeddings"))

    def test_langchain_completions(self) -> None:
        """LangChain's `OpenAI`."""
        from langchain_openai import OpenAI

        def use(url: str, fields: dict[str, str]) -> Any:
            model = OpenAI(
                base_url=url + "/v1",
                api_key="none",
                model=MODEL,
                max_tokens=8,
                temperature=0,
                default_headers=fields,
                extra_body=SAME_EACH_TIME,
            )
            return model.invoke(QUESTION)

        text, line = self.both(use)
        self.assertTrue(text)
        self.assertEqual(line["operation"], "completions")

    def test_llm_command(self) -> None:
        """The `llm` command, streaming a chat."""

        def use(url: str, fields: dict[str, str]) -> Any:
            with tempfile.TemporaryDirectory() as folder:
                with open(f"{folder}/extra-openai-models.yaml", "w") as file:
                    json.dump(
                        [
                            {
                                "model_id": "ours",
                                "model_name": MODEL,
                                "api_base": url + "/v1",
                                "headers": fields,
                            }
                        ],
                        file,
                    )
                environment = {
                    **os.environ,
                    "LLM_USER_PATH": folder,
                    "LLM_LOAD_PLUGINS": "",
                    "OPENAI_API_KEY": "none",
                }
                options = ["-o", "temperature", "0", "-o", "seed", "7", "-o", "max_tokens", "8"]
                return subprocess.run(
                    [sys.executable, "-m", "llm", "-m", "ours", *options, QUESTION],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout

        text, line = self.both(use)
        self.assertTrue(text.strip())
        self.assertEqual((line["operation"], line["stream"]), ("chat", True))


class NodeClients(Operations):
    """openai for Node.js, and Vercel's AI SDK with its providers for OpenAI and Anthropic."""

    skip = OFF or lacking() or lacking_node()

    directory: ClassVar[str]

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.directory = stack.enter_context(tempfile.TemporaryDirectory())
        for name in ("package.json", "operations.mjs"):
            shutil.copy(PROGRAM / name, cls.directory)
        run(INSTALL, cls.directory, INSTALL_SECONDS)
        super().start(stack)

    def call(self, url: str, fields: dict[str, str], call: str) -> dict[str, Any]:
        """What comes of one call: `said`, or `error`."""
        job = {
            "call": call,
            "url": url,
            "name": fields["X-Request-ID"],
            "model": MODEL,
            "prompt": QUESTION,
            "same": SAME_EACH_TIME,
        }
        came = run(["node", "operations.mjs"], self.directory, 60, json.dumps(job))
        return dict(json.loads(came))

    def test_every_call(self) -> None:
        """Each call gives what it gives directly, and is accounted for under its operation."""
        for call, operation, backend in (
            ("completions", "completions", "text"),
            ("completionsStreamed", "completions", "text"),
            ("responses", "responses", "text"),
            ("responsesStreamed", "responses", "text"),
            ("aiResponses", "responses", "text"),
            ("aiChatStreamed", "chat", "text"),
            ("aiMessages", "messages", "text"),
            ("aiMessagesStreamed", "messages", "text"),
            ("embeddings", "embeddings", "mean"),
            ("aiEmbeddings", "embeddings", "mean"),
        ):

            def use(url: str, fields: dict[str, str], call: str = call) -> Any:
                came = self.call(url, fields, call)
                self.assertEqual(list(came), ["said"], (call, came))
                return came["said"]

            said, line = self.both(use, backend)
            self.assertTrue(said, call)
            self.assertEqual((line["operation"], line["usage_source"]), (operation, "backend"))

    def test_what_fails_directly_fails_in_the_same_way(self) -> None:
        """The AI SDK's default model cannot read llama.cpp's streams of `responses`: it says so
        through the gateway as it does directly."""
        for url in (self.backends["text"], self.gateways["text"].url):
            came = self.call(url, {"X-Request-ID": str(uuid.uuid4())}, "aiResponsesStreamed")
            self.assertTrue(came["error"].startswith("AI_TypeValidationError"), came)
