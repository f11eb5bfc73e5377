"""`/v1/embeddings`: requests and replies."""

from __future__ import annotations

from typing import Any

from tests.unit.api.dialects import DialectTestCase, asked, operation_at, sent, shaped

PATH = "/v1/embeddings"
ASKED: dict[str, Any] = {"input": "hi"}
REPLY = {"data": [{"embedding": [0.5]}], "model": "m", "usage": {"prompt_tokens": 3}}


class Requests(DialectTestCase):
    def test_members_at_fault_have_their_codes(self) -> None:
        """Each checked member of the wrong type or range is named, with its own code."""
        for member, value, code in (
            ("input", None, "invalid_input"),
            ("input", "", "invalid_input"),
            ("input", [], "invalid_input"),
            ("input", 5, "invalid_input"),
            ("input", [None], "invalid_input"),
            ("dimensions", 0, "invalid_dimensions"),
            ("dimensions", 1.0, "invalid_dimensions"),
            ("encoding_format", 5, "invalid_encoding_format"),
            ("model", 5, "invalid_model"),
        ):
            self.assert_refused(PATH, {**ASKED, member: value}, code)
        self.assert_refused(PATH, {}, "invalid_input")

    def test_input_may_be_absent_beside_what_holds_it(self) -> None:
        """llama.cpp takes `content`, vLLM `messages`."""
        for other in ("content", "messages"):
            self.assertNotIn("input", sent(PATH, {other: ["x"], "input": None}))
            self.assert_refused(PATH, {other: "x", "input": ""}, "invalid_input")

    def test_all_else_goes_on_as_it_came(self) -> None:
        """What is within an input is the backend's to judge, and `stream` means nothing here."""
        for given in ("a", [1, 2], ["a", "b"], [[1], [2]], {"x": 1}, [""]):
            body = {"input": given, "model": "m", "dimensions": 5, "stream": "yes"}
            self.assertEqual(sent(PATH, body), body)
            self.assertFalse(asked(PATH, body).stream)


class Replies(DialectTestCase):
    def test_bytes_are_the_backends(self) -> None:
        """Its id too; usage and model are recorded."""
        body = b'{ "id":"embd-1","data":[],"n":1.50e3}'
        self.assertEqual(shaped(PATH, ASKED, body).body, body)
        shown = shaped(PATH, ASKED, REPLY)
        usage = shown.usage
        self.assertEqual((usage.prompt_tokens, usage.completion_tokens), (3, 0))
        self.assertEqual((usage.source, shown.model), ("backend", "m"))

    def test_array_in_answer_to_content_alone(self) -> None:
        """llama.cpp's; it says nothing of its usage."""
        array = [{"index": 0, "embedding": [[0.5]]}]
        self.assertEqual(shaped(PATH, {"content": "a"}, array).usage.source, "none")
        self.assert_broken(PATH, ASKED, array)
        self.assert_broken(PATH, {**ASKED, "content": None}, array)
        self.assert_broken(PATH, {"content": "a"}, b"[1")

    def test_what_is_no_embedding_is_a_backend_error(self) -> None:
        """An object without data is none."""
        for wrong in ({}, b"no", {"data": None}, {"data": {}}, {"error": "no"}, 5):
            self.assert_broken(PATH, ASKED, wrong)

    def test_bytes_of_vllm_pass_unread(self) -> None:
        """With the header field that says what they are."""
        operation = operation_at(PATH)
        self.assertEqual(operation.passed_types, (b"application/octet-stream",))
        self.assertEqual(operation.returned, (b"metadata",))
        self.assertIsNone(operation.echo)
