"""The two libraries that put many providers behind one interface, litellm and pydantic-ai: each of
their calls that llama.cpp serves gets through the gateway what it gets directly."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tests.e2e.harness import OFF, absent, wait_for
from tests.e2e.llama import MODEL, missing
from tests.e2e.test_operations import MESSAGES, QUESTION, SAME_EACH_TIME, Operations

skip = OFF


class LiteLLM(Operations):
    skip = OFF or absent("litellm") or missing()

    def setUp(self) -> None:
        super().setUp()
        # Without this the import asks a server for the prices of models.
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import litellm

        litellm.suppress_debug_info = True
        self.litellm = litellm

    def common(
        self, provider: str, url: str, fields: dict[str, str], **more: Any
    ) -> dict[str, Any]:
        """The arguments that every call takes."""
        model = f"{provider}/{MODEL}"
        asked = {"model": model, "api_base": url, "api_key": "none", "extra_headers": fields}
        return {**asked, **more}

    def test_completion(self) -> None:
        """A chat by `openai/`, plain."""

        def use(url: str, fields: dict[str, str]) -> Any:
            asked = self.common("openai", url + "/v1", fields, extra_body=SAME_EACH_TIME)
            reply = self.litellm.completion(messages=MESSAGES, max_tokens=8, **asked)
            return reply.choices[0].message.content, reply.usage.total_tokens

        (text, total), line = self.both(use)
        self.assertTrue(text)
        self.assertEqual((line["operation"], line["total_tokens"]), ("chat", total))

    def test_completion_streamed(self) -> None:
        """The same, streamed."""

        def use(url: str, fields: dict[str, str]) -> Any:
            asked = self.common("openai", url + "/v1", fields, extra_body=SAME_EACH_TIME)
            stream = self.litellm.completion(messages=MESSAGES, max_tokens=8, stream=True, **asked)
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

        text, line = self.both(use)
        self.assertTrue(text)
        self.assertEqual((line["stream"], line["usage_source"]), (True, "backend"))

    def test_messages(self) -> None:
        """A chat by `anthropic/`, plain and streamed."""

        def plain(url: str, fields: dict[str, str]) -> Any:
            asked = self.common("anthropic", url, fields, temperature=0)
            reply = self.litellm.completion(messages=MESSAGES, max_tokens=8, **asked)
            return reply.choices[0].message.content

        def streamed(url: str, fields: dict[str, str]) -> Any:
            asked = self.common("anthropic", url, fields, temperature=0)
            stream = self.litellm.completion(messages=MESSAGES, max_tokens=8, stream=True, **asked)
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

        for use, streams in ((plain, False), (streamed, True)):
            text, line = self.both(use)
            self.assertTrue(text)
            self.assertEqual((line["operation"], line["stream"]), ("messages", streams))

    def test_text_completion(self) -> None:
        """`text_completion`, by `text-completion-openai/`."""

        def use(url: str, fields: dict[str, str]) -> Any:
            asked = self.common("text-completion-openai", url + "/v1", fields)
            reply = self.litellm.text_completion(
                prompt=QUESTION, max_tokens=8, extra_body=SAME_EACH_TIME, **asked
            )
            return reply.choices[0].text

        text, line = self.both(use)
        self.assertTrue(text)
        self.assertEqual((line["operation"], line["completion_tokens"]), ("completions", 8))

    def test_responses(self) -> None:
        """`responses`, plain."""

        def use(url: str, fields: dict[str, str]) -> Any:
            asked = self.common("openai", url + "/v1", fields, extra_body=SAME_EACH_TIME)
            reply = self.litellm.responses(input=QUESTION, max_output_tokens=8, **asked)
            return reply.output[0].content[0].text, reply.usage.total_tokens

        (text, total), line = self.both(use)
        self.assertTrue(text)
        self.assertEqual((line["operation"], line["total_tokens"]), ("responses", total))

    def test_embedding(self) -> None:
        """`embedding`."""

        def use(url: str, fields: dict[str, str]) -> Any:
            asked = self.common("openai", url + "/v1", fields)
            return self.litellm.embedding(input=["red"], **asked).data[0]["embedding"]

        embedding, line = self.both(use, "mean")
        self.assertEqual((len(embedding), line["operation"]), (576, "embeddings"))

    def test_rerank(self) -> None:
        """`rerank`, by `jina_ai/`, which takes the whole URL and sends no header field of ours."""

        def use(url: str) -> Any:
            asked = self.common("jina_ai", url + "/v1/rerank", {})
            reply = self.litellm.rerank(query="colour", documents=["red", "a car"], **asked)
            return [(result["index"], result["relevance_score"]) for result in reply.results]

        process = self.gateways["rank"]
        ranked = use(process.url)
        self.assertEqual(ranked, use(self.backends["rank"]))
        wait_for(lambda: process.requests(), 5, "the log line")
        line = process.requests()[-1]
        self.assertEqual((len(ranked), line["operation"], line["outcome"]), (2, "rerank", "ok"))


class PydanticAI(Operations):
    skip = OFF or absent("pydantic_ai") or missing()

    def settings(self, fields: dict[str, str], **more: Any) -> Any:
        from pydantic_ai.settings import ModelSettings

        return ModelSettings(
            max_tokens=8, temperature=0, extra_headers=fields, extra_body=SAME_EACH_TIME, **more
        )

    def models(self, url: str) -> dict[str, Any]:
        """One of each of its models, by the operation that it calls."""
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
        from pydantic_ai.providers.anthropic import AnthropicProvider
        from pydantic_ai.providers.openai import OpenAIProvider

        provider = OpenAIProvider(base_url=url + "/v1", api_key="none")
        anthropic = AnthropicProvider(base_url=url, api_key="none")
        return {
            "chat": OpenAIChatModel(MODEL, provider=provider),
            "responses": OpenAIResponsesModel(MODEL, provider=provider),
            "messages": AnthropicModel(MODEL, provider=anthropic),
        }

    def test_every_model_plain(self) -> None:
        """`Agent.run` with each of its models."""
        from pydantic_ai import Agent

        for operation in ("chat", "responses", "messages"):

            async def ask(url: str, fields: dict[str, str], operation: str = operation) -> str:
                agent = Agent(self.models(url)[operation])
                done = await agent.run(QUESTION, model_settings=self.settings(fields))
                return str(done.output)

            text, line = self.both(lambda url, fields: asyncio.run(ask(url, fields)))
            self.assertTrue(text)
            self.assertEqual((line["operation"], line["stream"]), (operation, False))

    def test_every_model_streamed(self) -> None:
        """`Agent.run_stream` with each of its models."""
        from pydantic_ai import Agent

        for operation in ("chat", "responses", "messages"):

            async def ask(url: str, fields: dict[str, str], operation: str = operation) -> str:
                agent = Agent(self.models(url)[operation])
                settings = self.settings(fields)
                async with agent.run_stream(QUESTION, model_settings=settings) as stream:
                    return "".join([text async for text in stream.stream_text(delta=True)])

            text, line = self.both(lambda url, fields: asyncio.run(ask(url, fields)))
            self.assertTrue(text)
            self.assertEqual((line["operation"], line["stream"]), (operation, True))
