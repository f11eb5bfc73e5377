"""`/tokenize`, `/detokenize` and `/apply-template`."""

from __future__ import annotations

from tests.unit.api.dialects import DialectTestCase, asked, operation_at, sent, shaped

PATHS = ("/tokenize", "/detokenize", "/apply-template")


class Tokenize(DialectTestCase):
    def test_any_object_goes_on(self) -> None:
        """Nothing is judged or filled in, the model neither."""
        for path in PATHS:
            for body in ({}, {"content": 5, "model": [], "stream": "x"}, {"messages": []}):
                self.assertEqual(sent(path, body), body)
            ask = asked(path, {"model": "m"})
            self.assertEqual((ask.model, ask.route.target, ask.stream), ("m", path, False))

    def test_nothing_is_charged(self) -> None:
        """There is no usage, whatever a reply says."""
        for path in PATHS:
            self.assertFalse(asked(path, {}).route.costs)
            body = b'{"tokens":[1], "usage":{"prompt_tokens":5}}'
            reply = shaped(path, {}, body)
            self.assertEqual((reply.body, reply.usage.source), (body, "none"))

    def test_what_is_no_object_is_a_backend_error(self) -> None:
        """And the echo cannot do it."""
        for wrong in ([], b"", 5, {"error": "no"}):
            self.assert_broken("/tokenize", {}, wrong)
        self.assertIsNone(operation_at("/tokenize").echo)
