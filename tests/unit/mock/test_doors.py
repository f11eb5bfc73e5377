"""The mock on every route: its answers are whole as the gateway reads them."""

from __future__ import annotations

import base64
import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.events import Scanner
from infergate.api.operation import Rules, Stamp, request_members
from infergate.api.operations import ROUTES
from infergate.api.steps import at_once
from infergate.api.usage import Usage
from infergate.mock.doors import DOORS
from infergate.mock.replies import Reply, reply_to
from infergate.mock.script import Script

HI = [{"role": "user", "content": "Name three colours"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": HI},
    "completions": {"prompt": "Name three colours"},
    "embeddings": {"input": "Name three colours"},
    "responses": {"input": "Name three colours"},
    "messages": {"messages": HI, "max_tokens": 9},
    "rerank": {"query": "red car", "documents": ["a car", "red car", "blue"]},
    "tokenize": {"content": "Name", "tokens": [78], "messages": HI},
    "infill": {"prompt": "Name three colours"},
}
STREAMS = ("/v1/completions", "/v1/responses", "/v1/messages", "/infill", "/completion")
SAID = "Mock: Name three colours"


def body_of(path: str, **members: Any) -> dict[str, Any]:
    return {**BODIES[ROUTES[path][0].name], **members}


def answer(path: str, mock: dict[str, Any] | None = None, **members: Any) -> Reply:
    body = body_of(path, mock=mock or {}, **members)
    return reply_to(json.dumps(body).encode(), Script(), path)[1]


def plain(path: str, mock: dict[str, Any] | None = None, **members: Any) -> Any:
    return json.loads(b"".join(answer(path, mock, **members).pieces))


def scanned(path: str, mock: dict[str, Any] | None = None) -> tuple[Scanner, bytes]:
    """What the gateway makes of a stream."""
    operation, route = ROUTES[path]
    body = json.dumps(body_of(path, stream=True)).encode()
    assert operation.reader is not None
    reader = operation.reader(operation.check(request_members(body), route, Rules(None, 1000)))
    scanner = Scanner(1 << 20, reader)
    stream = b"".join(answer(path, mock, stream=True).pieces)
    scanner.feed(stream)
    return scanner, stream


class GoodAnswers(SynchronousTestCase):
    def test_every_route_of_the_gateway_is_answered(self) -> None:
        """With what the gateway takes for a good reply, its usage included."""
        targets = {route.target for _, route in ROUTES.values()}
        self.assertEqual(targets, {*DOORS})
        for path, (operation, route) in ROUTES.items():
            reply = answer(route.target, **body_of(path))
            self.assertEqual((reply.status, reply.content_type), (200, b"application/json"))
            body = json.dumps(body_of(path)).encode()
            ask = operation.check(request_members(body), route, Rules(None, 1000))
            usage = at_once(operation.shape(b"".join(reply.pieces), ask, Stamp("r", 1))).usage
            free = not route.costs
            self.assertEqual(usage.source, "none" if free else "backend", path)

    def test_text_is_that_of_a_chat(self) -> None:
        """In each dialect, plain and streamed."""
        for path in STREAMS:
            self.assertIn(json.dumps(SAID), json.dumps(plain(path)))
            _, stream = scanned(path)
            for word in ("Mock: ", "Name ", "three ", "colours"):
                self.assertIn(json.dumps(word).encode(), stream)

    def test_streams_are_whole(self) -> None:
        """And their usage is the backend's."""
        for path in STREAMS:
            scanner, _ = scanned(path)
            self.assertTrue(scanner.complete(), path)
            self.assertEqual(scanner.reader.tokens, 4)
            self.assertEqual(scanner.reader.usage(99), Usage(3, 4, 7, "backend"))
            scanner, _ = scanned(path, {"usage": False})
            self.assertEqual(scanner.reader.usage(99), Usage(99, 4, 103, "counted"))

    def test_chunks(self) -> None:
        """As many as are asked for."""
        for path in STREAMS:
            self.assertEqual(scanned(path, {"chunks": 20})[0].reader.tokens, 20)

    def test_embeddings(self) -> None:
        """One for each input, the same for the same text, as numbers or as base64."""
        first, second = plain("/v1/embeddings", input=["a", "b"])["data"]
        self.assertNotEqual(first["embedding"], second["embedding"])
        self.assertEqual(plain("/v1/embeddings", input="a")["data"], [first])
        self.assertEqual(len(plain("/v1/embeddings", input=[1, 2])["data"]), 1)
        packed = plain("/v1/embeddings", input="a", encoding_format="base64")["data"][0]
        self.assertEqual(len(base64.b64decode(packed["embedding"])), 4 * len(first["embedding"]))

    def test_rerank(self) -> None:
        """By the words shared with the query; of `texts` an array."""
        results = plain("/v1/rerank")["results"]
        self.assertEqual([result["index"] for result in results], [1, 0, 2])
        ranked = plain("/v1/rerank", texts=["red", "x"], documents=None)
        self.assertEqual([result["index"] for result in ranked], [0, 1])

    def test_tokens_and_back(self) -> None:
        """Text becomes tokens and text again."""
        tokens = plain("/tokenize", content="h\u00e9")["tokens"]
        self.assertEqual(plain("/detokenize", tokens=tokens), {"content": "h\u00e9"})
        prompt = plain("/apply-template")["prompt"]
        self.assertEqual(prompt, "user: Name three colours\nassistant: ")

    def test_counts(self) -> None:
        """Words are tokens."""
        for path in ("/v1/messages/count_tokens", "/v1/responses/input_tokens"):
            self.assertEqual(plain(path)["input_tokens"], 3)

    def test_request_can_be_shown(self) -> None:
        """As it came to the mock."""
        shown = plain("/v1/messages", {"received": True})["mock_received"]
        self.assertEqual(shown["messages"], HI)
