"""What holds for every operation, whichever dialect it speaks: whole exchanges, in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.operations import OPERATIONS, ROUTES
from tests.unit.inmemory import Answer, Client, Running, request

HI = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": HI},
    "completions": {"prompt": "hi"},
    "embeddings": {"input": "hi"},
    "responses": {"input": "hi"},
    "messages": {"messages": HI, "max_tokens": 9},
    "rerank": {"query": "hi", "documents": ["a"]},
    "tokenize": {"content": "hi"},
    "infill": {"prompt": "hi"},
}
# What a backend says when all is well: plain, and the events of a stream without its last one.
REPLIES: dict[str, dict[str, Any]] = {
    "chat": {
        "choices": [{"message": {"content": "a"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    },
    "completions": {
        "choices": [{"text": "a"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    },
    "embeddings": {"data": [], "usage": {"prompt_tokens": 3}},
    "responses": {"output": [], "usage": {"input_tokens": 3, "output_tokens": 2}},
    "messages": {"content": [], "usage": {"input_tokens": 3, "output_tokens": 2}},
    "rerank": {"results": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}},
    "tokenize": {"tokens": [1]},
    "infill": {"content": "a", "tokens_evaluated": 3, "tokens_predicted": 2},
}
BEGUN: dict[str, bytes] = {
    "chat": b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    "completions": b'data: {"choices":[{"index":0,"text":"a"}]}\n\n',
    "responses": b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
    b'"sequence_number":4,"delta":"a"}\n\n',
    "messages": b'event: content_block_delta\ndata: {"type":"content_block_delta",'
    b'"delta":{"type":"text_delta","text":"a"}}\n\n',
    "infill": b'data: {"index":0,"content":"a","stop":false}\n\n',
}
ENDS: dict[str, bytes] = {
    "chat": b"data: [DONE]\n\n",
    "completions": b"data: [DONE]\n\n",
    "responses": b"event: response.completed\n"
    b'data: {"type":"response.completed","response":{}}\n\n',
    "messages": b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    "infill": b'data: {"index":0,"content":"","stop":true}\n\n',
}
PATHS = {operation.name: operation.path for operation in OPERATIONS}


def post(path: str, body: dict[str, Any], *fields: str) -> bytes:
    data = json.dumps(body).encode()
    return request("POST", path, "Content-Type: application/json", *fields, body=data)


class OneRequest(SynchronousTestCase):
    def ask(
        self, path: str, body: dict[str, Any], *fields: str, **settings: Any
    ) -> tuple[Running, Client]:
        """A request that is on its way to the backend."""
        running = Running(backend=True, **settings)
        client = running.connect()
        client.send(post(path, body, *fields))
        return running, client


class Plain(OneRequest):
    def test_each_route_goes_to_its_path_at_the_backend(self) -> None:
        """With its query as it came; the log names route and operation, and no query."""
        for path, (operation, route) in ROUTES.items():
            running, client = self.ask(f"{path}?beta=true&x=%20", BODIES[operation.name])
            received = running.backend.request
            self.assertEqual(received.path, f"{route.target}?beta=true&x=%20")
            running.backend.answer(json.dumps(REPLIES[operation.name]).encode())
            self.assertEqual(client.answer.status, 200, client.answer.body)
            line = running.line
            self.assertEqual((line["path"], line["operation"]), (path, operation.name))
            self.assertEqual((line["outcome"], line["stream"]), ("ok", False))

    def test_usage_is_in_the_log_and_on_the_bill(self) -> None:
        """Counting is charged nothing."""
        for path, (operation, route) in ROUTES.items():
            running, _ = self.ask(path, BODIES[operation.name])
            running.backend.answer(json.dumps(REPLIES[operation.name]).encode())
            line = running.line
            charged = "usage" in str(REPLIES[operation.name]) or operation.name == "infill"
            free = not route.costs or not charged
            self.assertEqual(line["prompt_tokens"], 0 if free else 3, path)
            self.assertEqual(line["usage_source"], "none" if free else "backend", path)

    def test_ids_are_replaced_for_chat_and_completions_alone(self) -> None:
        """Those of the others are names that a later request refers to."""
        for name, path in PATHS.items():
            running, client = self.ask(path, BODIES[name], "X-Request-ID: ours")
            reply = {"id": "theirs", **REPLIES[name]}
            running.backend.answer(json.dumps(reply).encode())
            replaced = name in ("chat", "completions")
            self.assertEqual(client.answer.json["id"], "ours" if replaced else "theirs")

    def test_model_of_the_reply_is_logged_where_the_request_named_none(self) -> None:
        """Where nothing is filled in either."""
        for name in ("responses", "messages", "infill", "tokenize", "rerank", "embeddings"):
            running, _ = self.ask(PATHS[name], BODIES[name], default_model=None)
            running.backend.answer(json.dumps({**REPLIES[name], "model": "theirs"}).encode())
            self.assertEqual(running.line["model"], "theirs", name)

    def test_version_and_beta_of_anthropic_go_on_for_messages_alone(self) -> None:
        """As they came."""
        for path, (operation, _) in ROUTES.items():
            fields = ("anthropic-version: 2023-06-01", "anthropic-beta: a,b", "x-other: c")
            running, _ = self.ask(path, BODIES[operation.name], *fields)
            headers = running.backend.request.headers
            goes = operation.name == "messages"
            self.assertEqual(headers.get("anthropic-version"), "2023-06-01" if goes else None)
            self.assertEqual(headers.get("anthropic-beta"), "a,b" if goes else None)
            self.assertNotIn("x-other", headers)

    def test_bytes_of_vllm_pass_unread(self) -> None:
        """Embeddings as bytes, with the header field that says what they are, and no other."""
        running, client = self.ask(PATHS["embeddings"], {"input": "a", "encoding_format": "bytes"})
        running.backend.answer(
            b"\x00\xff[", "metadata: {}", "x-other: a", kind="application/octet-stream"
        )
        answer = client.answer
        self.assertEqual((answer.status, answer.body), (200, b"\x00\xff["))
        self.assertEqual(answer.headers["content-type"], "application/octet-stream")
        self.assertEqual(answer.headers["metadata"], "{}")
        self.assertNotIn("x-other", answer.headers)
        self.assertEqual(running.line["usage_source"], "none")
        running, client = self.ask(PATHS["rerank"], BODIES["rerank"])
        running.backend.answer(b"\x00", kind="application/octet-stream")
        self.assertEqual(client.answer.status, 502)


class Streams(OneRequest):
    def start(self, name: str, **settings: Any) -> tuple[Running, Client]:
        running, client = self.ask(PATHS[name], {**BODIES[name], "stream": True}, **settings)
        running.backend.begin()
        running.backend.piece(BEGUN[name])
        return running, client

    def test_good_stream_passes_byte_for_byte(self) -> None:
        """Nothing is put behind it; the first delta is the time to the first token."""
        for name, end in ENDS.items():
            running, client = self.start(name)
            running.backend.piece(end)
            running.backend.end()
            self.assertEqual((client.answer.body, client.answer.whole), (BEGUN[name] + end, True))
            line = running.line
            self.assertEqual((line["outcome"], line["operation"]), ("ok", name))
            self.assertIsNotNone(line["ttft_ms"])
            self.assertEqual((line["completion_tokens"], line["usage_source"]), (1, "counted"))

    def test_stream_without_its_end_is_broken_in_its_dialect(self) -> None:
        """Also where the backend closed cleanly: an error event of the dialect's own form, and a
        connection cut without the last chunk."""
        for name in BEGUN:
            running, client = self.start(name)
            running.backend.end()
            answer = client.answer
            self.assertFalse(answer.whole, name)
            self.assertTrue(client.closed)
            self.assert_error_event(name, answer.body.removeprefix(BEGUN[name]), "backend_error")
            line = running.line
            self.assertEqual((line["status"], line["outcome"]), (200, "backend_error"))
            self.assertEqual((line["completion_tokens"], line["usage_source"]), (1, "counted"))
            self.assertGreater(line["prompt_tokens"], 0)  # type: ignore[arg-type]

    def test_failure_after_a_comment_is_told_in_its_dialect(self) -> None:
        """A comment commits the status before the backend has answered: a refusal, a failure and
        a deadline are error events then."""
        for name in BEGUN:
            for status, code in ((429, "backend_rejected"), (500, "backend_error"), (0, "")):
                body = {**BODIES[name], "stream": True}
                running, client = self.ask(PATHS[name], body, keepalive=5)
                running.pass_time(6, 1)
                if status:
                    running.backend.answer(b"{}", status=status)
                else:
                    running.pass_time(60, 1)
                    code = "gateway_timeout"
                said = client.answer.body.replace(b": keep-alive\n\n", b"")
                self.assert_error_event(name, said, code, number=0)
                self.assertFalse(client.answer.whole)

    def assert_error_event(self, name: str, event: bytes, code: str, number: int = 5) -> None:
        lines = event.split(b"\n")
        named = name in ("responses", "messages")
        self.assertEqual(lines[:-3], [b"event: error"] if named else [])
        document = json.loads(lines[-3].removeprefix(b"data: "))
        if name == "responses":
            self.assertEqual((document["type"], document["sequence_number"]), ("error", number))
            self.assertEqual((document["code"], document["param"]), (code, None))
            self.assertEqual(document["error"]["message"], document["message"])
        elif name == "messages":
            self.assertEqual(document["type"], "error")
            self.assertTrue(document["error"]["type"].endswith("_error"))
        self.assertEqual(document["error"]["code"], code)

    def test_deadline_breaks_a_stream_in_its_dialect(self) -> None:
        """With its own code."""
        for name in BEGUN:
            running, client = self.start(name)
            running.wait(60.2)
            running.wait(0.2)
            body = client.answer.body.removeprefix(BEGUN[name])
            self.assert_error_event(name, body, "gateway_timeout")
            self.assertEqual(running.outcomes, ["timeout"])

    def test_error_of_the_backends_own_is_passed_on_once(self) -> None:
        """And nothing after it, `[DONE]` neither; the connection is cut."""
        for name in BEGUN:
            running, client = self.start(name)
            error = b'event: error\ndata: {"type":"error","error":{"message":"no"}}\n\n'
            running.backend.piece(error + b"data: [DONE]\n\n" + ENDS[name])
            self.assertEqual(client.answer.body, BEGUN[name] + error)
            self.assertFalse(client.answer.whole)
            self.assertEqual(running.outcomes, ["backend_error"])

    def test_failed_response_is_passed_on_once(self) -> None:
        """It is the failure's own last event."""
        running, client = self.start("responses")
        failed = b'event: response.failed\ndata: {"type":"response.failed","response":{}}\n\n'
        running.backend.piece(failed)
        running.backend.end()
        self.assertEqual(client.answer.body, BEGUN["responses"] + failed)
        self.assertEqual(running.outcomes, ["backend_error"])

    def test_first_event_that_is_an_error_has_its_true_status(self) -> None:
        """In the form of its dialect."""
        for name in BEGUN:
            for code, status in ((400, 400), (429, 429), (500, 502), (401, 502)):
                running, client = self.ask(PATHS[name], {**BODIES[name], "stream": True})
                running.backend.begin()
                error = {"message": "too long", "type": "x", "code": code}
                running.backend.piece(b"data: %b\n\n" % json.dumps({"error": error}).encode())
                self.assertEqual(client.answer.status, status, (name, code))
                self.assertEqual(running.line["usage_source"], "none")

    def test_drain_cuts_a_stream_in_its_dialect(self) -> None:
        """With `shutting_down` as its code."""
        for name in BEGUN:
            running, client = self.start(name)
            running.edge.drain()
            running.edge.stop_requests()
            running.wait(0.2)
            body = client.answer.body.removeprefix(BEGUN[name])
            self.assert_error_event(name, body, "shutting_down")
            self.assertEqual(running.outcomes, ["shutdown"])

    def test_comments_stand_between_events_alone(self) -> None:
        """Whatever the dialect."""
        for name in BEGUN:
            running, client = self.start(name, keepalive=5)
            half = len(ENDS[name]) // 2
            running.backend.piece(ENDS[name][:half])
            running.pass_time(12, 1)
            running.backend.piece(ENDS[name][half:])
            running.backend.end()
            body = client.answer.body
            self.assertEqual(body.count(b": keep-alive\n\n"), 2)
            self.assertEqual(body.replace(b": keep-alive\n\n", b""), BEGUN[name] + ENDS[name])

    def test_plain_reply_becomes_the_whole_sequence(self) -> None:
        """Where a stream was asked for."""
        for name in BEGUN:
            running, client = self.ask(PATHS[name], {**BODIES[name], "stream": True})
            running.backend.answer(json.dumps(REPLIES[name]).encode())
            answer = client.answer
            self.assertEqual(answer.headers["content-type"].partition(";")[0], "text/event-stream")
            self.assertTrue(answer.whole)
            last = answer.body.split(b"\n\n")[-2]
            mark = {"responses": b"response.completed", "messages": b"message_stop"}
            self.assertIn(mark.get(name, b"[DONE]" if name != "infill" else b'"stop":true'), last)
            self.assertEqual(running.line["usage_source"], "backend")


class Refusals(OneRequest):
    def test_forms(self) -> None:
        """Anthropic's at and below `/v1/messages`, OpenAI's at and below `/v1/responses`."""
        running = Running(error_format="auto")
        for path, (operation, _) in ROUTES.items():
            answer = running.ask(post(path, {"stream": 5, "messages": 5}))
            document = answer.json
            if operation.name == "messages":
                self.assertEqual(document["type"], "error")
                self.assertEqual(document["error"]["type"], "invalid_request_error")
                self.assertEqual(document["request_id"], answer.headers["request-id"])
            elif operation.name == "responses":
                self.assertEqual(document["error"]["type"], "invalid_request_error")
            else:
                self.assertIsInstance(document["error"], str)

    def test_anthropics_types_by_status(self) -> None:
        """With our code, the backend's message where it has one, and the request's id in both
        fields."""
        for status, kind, said in (
            (400, "invalid_request_error", 400),
            (404, "not_found_error", 404),
            (409, "invalid_request_error", 409),
            (413, "request_too_large", 413),
            (422, "invalid_request_error", 422),
            (429, "rate_limit_error", 429),
            (500, "api_error", 502),
            (501, "api_error", 501),
        ):
            running, client = self.ask(PATHS["messages"], BODIES["messages"])
            reply = b'{"type":"error","error":{"type":"x","message":"too long"}}'
            running.backend.answer(reply, status=status)
            answer = client.answer
            self.assertEqual((answer.status, answer.json["type"]), (said, "error"))
            error = answer.json["error"]
            self.assertEqual((error["type"], error["message"]), (kind, "too long"))
            code = "backend_rejected" if said == status else "backend_error"
            self.assertEqual(error["code"], code)
            self.assertEqual(answer.headers["request-id"], answer.headers["x-request-id"])

    def test_types_of_the_gateways_own(self) -> None:
        """A wrong key, a rate, a drain, a deadline."""
        running = Running(keys="alice:secret-of-alice")
        answer = running.ask(post(PATHS["messages"], BODIES["messages"], "x-api-key: wrong"))
        self.assertEqual(answer.json["error"]["type"], "authentication_error")
        self.assertEqual(answer.headers["www-authenticate"], "Bearer")
        running = Running(rate="1/minute")
        running.ask(post(PATHS["messages"], BODIES["messages"]))
        answer = running.ask(post(PATHS["messages"], BODIES["messages"]))
        self.assertEqual(answer.json["error"]["type"], "rate_limit_error")
        running.edge.drain()
        answer = running.ask(post(PATHS["messages"], BODIES["messages"]))
        self.assertEqual(answer.json["error"]["type"], "overloaded_error")

    def test_refusal_of_the_backends_in_each_dialect(self) -> None:
        """501 too: what a backend does not offer has not failed."""
        for path, (operation, _) in ROUTES.items():
            running, client = self.ask(path, BODIES[operation.name], error_format="auto")
            error = {"message": "not supported", "type": "not_supported_error", "code": 501}
            running.backend.answer(json.dumps({"error": error}).encode(), status=501)
            document = client.answer.json
            self.assertEqual(client.answer.status, 501)
            if operation.name == "responses":
                self.assertEqual(document["error"], error)
            elif operation.name == "messages":
                self.assertEqual(document["error"]["message"], "not supported")
            else:
                self.assertEqual(document["error"], "backend_rejected")
                self.assertEqual(document["backend_error"], error)
            line = running.line
            self.assertEqual((line["outcome"], line["backend_status"]), ("client_error", 501))


class Echo(OneRequest):
    def test_what_it_cannot_do(self) -> None:
        """Is told so, and how that is mended; all else it answers."""
        running = Running()
        for path, (operation, _) in ROUTES.items():
            answer = running.ask(post(path, BODIES[operation.name]))
            expected = 200 if operation.echo is not None else 501
            self.assertEqual(answer.status, expected, path)
            if expected == 501:
                self.assertEqual(answer.code, "no_backend")
                self.assertIn("BACKEND_URL", answer.json["message"])

    def test_successes_of_messages_have_both_ids(self) -> None:
        """`request-id` is what Anthropic's SDK reads."""
        running = Running()
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            answer = running.ask(post(path, BODIES["messages"], "X-Request-ID: ours"))
            both = (answer.headers["request-id"], answer.headers["x-request-id"])
            self.assertEqual(both, ("ours", "ours"))
        answer = running.ask(post("/v1/chat/completions", BODIES["chat"]))
        self.assertNotIn("request-id", answer.headers)


class Shut(OneRequest):
    def test_operation_is_not_there(self) -> None:
        """It is a 404 before anything else, whatever the method, and no hint names it."""
        for operation in OPERATIONS:
            others = {other.name for other in OPERATIONS} - {operation.name}
            running = Running(keys="alice:secret-of-alice", rate="1/minute", routes=others)
            for route in operation.routes:
                near = route.path.removeprefix("/v1"), f"/v1{route.path}", f"{route.path}/"
                known = {one.path for other in OPERATIONS for one in other.routes}
                for path in (route.path, *(path for path in near if path not in known)):
                    for data in (post(path, {}), request("GET", path), request("OPTIONS", path)):
                        answer = running.ask(data)
                        self.assertEqual(answer.status, 404, (path, data))
                        self.assertNotIn(route.path.encode(), answer.body)
                        self.assertNotIn("allow", answer.headers)
                        self.assertNotIn("x-ratelimit-limit-requests", answer.headers)
            self.assertEqual({line["operation"] for line in running.lines}, {None})
            answer = running.get("/v1/responses/resp_1")
            self.assertEqual(b"Stored" in answer.body, operation.name != "responses")

    def test_the_others_are_there(self) -> None:
        """As ever, and their hints too."""
        running = Running(routes={"messages"})
        answer = running.ask(post("/v1/messages", BODIES["messages"]))
        self.assertEqual(answer.status, 200)
        answer = running.ask(post("/messages", BODIES["messages"]))
        self.assertIn("/v1/messages", answer.json["message"])


class Models(OneRequest):
    def ask_for(self, path: str) -> Answer:
        running = Running(backend=True)
        client = running.connect()
        client.send(request("GET", path))
        running.backend.answer(
            b'{"object":"list","data":[{"id":"org/model:7b","n":1.50e3},{"id":"m"}]}'
        )
        self.line = running.line
        return client.answer

    def test_ids_with_slashes(self) -> None:
        """Raw or as %2F; the entry comes as it stands in the list."""
        for path in ("org/model:7b", "org%2Fmodel:7b", "org%2fmodel%3A7b"):
            answer = self.ask_for(f"/v1/models/{path}")
            self.assertEqual(answer.body, b'{"id":"org/model:7b","n":1.50e3}', path)
            self.assertIsNone(self.line["operation"])
        self.assertEqual(self.ask_for("/v1/models/m").json, {"id": "m"})

    def test_unknown_one(self) -> None:
        """Is a 404."""
        for path in ("x", "org", "org/model", "m/"):
            self.assertEqual(self.ask_for(f"/v1/models/{path}").status, 404, path)


class Upgrade(OneRequest):
    def test_websocket(self) -> None:
        """Is refused at once, with what to speak; without that it is the wrong method."""
        running = Running()
        answer = running.get("/v1/responses", "Upgrade: websocket", "Connection: Upgrade")
        self.assertEqual((answer.status, answer.code), (426, "upgrade_not_supported"))
        self.assertEqual(answer.headers["upgrade"], "HTTP/1.1")
        answer = running.get("/v1/responses")
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "POST"))

    def test_stored_responses(self) -> None:
        """Are not carried, and the message says so."""
        running = Running(error_format="auto")
        for path in ("/v1/responses/resp_1", "/v1/responses/resp_1/input_items"):
            answer = running.get(path)
            self.assertEqual(answer.status, 404)
            self.assertIn("Stored responses", answer.json["error"]["message"])
