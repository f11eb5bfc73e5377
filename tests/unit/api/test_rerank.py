"""`/v1/rerank`: requests and replies."""

from __future__ import annotations

from typing import Any

from tests.unit.api.dialects import DialectTestCase, asked, operation_at, sent, shaped

PATH = "/v1/rerank"
ASKED: dict[str, Any] = {"query": "a", "documents": ["b"]}
TEXTS: dict[str, Any] = {"query": "a", "texts": ["b"]}


class Requests(DialectTestCase):
    def test_members_at_fault_have_their_codes(self) -> None:
        """Each checked member of the wrong type is named, with its own code."""
        for member, value, code in (
            ("query", None, "invalid_query"),
            ("query", 5, "invalid_query"),
            ("query", ["a"], "invalid_query"),
            ("documents", None, "invalid_documents"),
            ("documents", [], "invalid_documents"),
            ("documents", 5, "invalid_documents"),
            ("texts", [], "invalid_documents"),
            ("model", 5, "invalid_model"),
        ):
            body = TEXTS if member == "texts" else ASKED
            self.assert_refused(PATH, {**body, member: value}, code)
        for wrong in ("b", {}, 5):
            self.assert_refused(PATH, {"query": "a", "texts": wrong}, "invalid_documents")

    def test_all_else_goes_on_as_it_came(self) -> None:
        """Documents may be an array, a string or an object, or called `texts`."""
        for body in (ASKED, TEXTS, {"query": {}, "documents": "b"}, {"query": "", "documents": {}}):
            body = {**body, "model": "m", "top_n": "x"}
            self.assertEqual(sent(PATH, body), body)

    def test_paths_that_cannot_be_set(self) -> None:
        """All go on as one."""
        for path in (PATH, "/rerank", "/v2/rerank"):
            self.assertEqual(asked(path, ASKED).route.target, PATH)


class Replies(DialectTestCase):
    def test_bytes_are_the_backends(self) -> None:
        """Usage and model are recorded."""
        body = b'{"results":[], "model":"m","usage":{"prompt_tokens":5,"total_tokens":5}}'
        reply = shaped(PATH, ASKED, body)
        self.assertEqual((reply.body, reply.model), (body, "m"))
        self.assertEqual((reply.usage.prompt_tokens, reply.usage.source), (5, "backend"))

    def test_array_in_answer_to_texts_alone(self) -> None:
        """Hugging Face's form; it says nothing of its usage."""
        self.assertEqual(shaped(PATH, TEXTS, [{"index": 0}]).usage.source, "none")
        self.assert_broken(PATH, ASKED, [{"index": 0}])
        for wrong in (b"no", {"error": "no"}, 5):
            self.assert_broken(PATH, ASKED, wrong)
        self.assertIsNone(operation_at(PATH).echo)
