"""`/v1/completions`: requests, plain replies, streams and the echo."""

from __future__ import annotations

import json
from typing import Any

from infergate.api.completions import COMPLETIONS
from tests.unit.api.dialects import (
    DONE,
    STAMP,
    DialectTestCase,
    asked,
    echoed,
    event,
    operation_at,
    read,
    sent,
    shaped,
    streamed,
)

PATH = "/v1/completions"
ASKED: dict[str, Any] = {"prompt": "hi"}


def choice(text: str = "a", index: int = 0, reason: str | None = None, **members: Any) -> bytes:
    return event({"choices": [{"index": index, "text": text, "finish_reason": reason}], **members})


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


class Requests(DialectTestCase):
    def test_members_at_fault_have_their_codes(self) -> None:
        """Each checked member of the wrong type or range is named, with its own code."""
        for member, value, code in (
            ("prompt", None, "invalid_prompt"),
            ("prompt", 5, "invalid_prompt"),
            ("prompt", True, "invalid_prompt"),
            ("prompt", [], "invalid_prompt"),
            ("prompt", [None], "invalid_prompt"),
            ("prompt", ["a", True], "invalid_prompt"),
            ("prompt", [1.5], "invalid_prompt"),
            ("max_tokens", -1, "invalid_max_tokens"),
            ("max_tokens", 1001, "invalid_max_tokens"),
            ("stream", 1, "invalid_stream"),
            ("temperature", -1, "invalid_temperature"),
            ("top_p", -1, "invalid_top_p"),
            ("stop", 5, "invalid_stop"),
            ("n", 0, "invalid_n"),
            ("stream_options", 5, "invalid_stream_options"),
            ("model", 5, "invalid_model"),
        ):
            self.assert_refused(PATH, {**ASKED, member: value}, code)

    def test_prompts(self) -> None:
        """An absent one is at fault, an empty string is none, and what is within an array is the
        backend's to judge."""
        self.assert_refused(PATH, {}, "invalid_prompt")
        for prompt in (
            "",
            "a",
            {},
            {"prompt_string": "a"},
            [1, 2],
            ["a"],
            [""],
            [[]],
            [[1.5]],
            [{}],
        ):
            self.assertEqual(sent(PATH, {"prompt": prompt})["prompt"], prompt)
        self.assertNotIn("prompt", sent(PATH, {"prompt_embeds": "x", "prompt": None}))
        self.assert_refused(PATH, {"prompt_embeds": "x", "prompt": 5}, "invalid_prompt")

    def test_no_tokens_at_all(self) -> None:
        """May be asked for, to fill a cache."""
        self.assertEqual(sent(PATH, {**ASKED, "max_tokens": 0})["max_tokens"], 0)

    def test_usage_of_a_stream_is_asked_for(self) -> None:
        """As for a chat."""
        options = sent(PATH, {**ASKED, "stream": True})["stream_options"]
        self.assertEqual(options, {"include_usage": True})
        self.assertFalse(asked(PATH, {**ASKED, "stream": True}).wants_usage)
        self.assertNotIn("stream_options", sent(PATH, ASKED))


class PlainReplies(DialectTestCase):
    def test_id_is_replaced_and_the_rest_filled_in(self) -> None:
        """As for a chat, with the text in place of a message."""
        shown = shaped(PATH, ASKED, {"id": "cmpl-1", "choices": [{"text": "a"}]})
        document = json.loads(shown.body)
        self.assertEqual((document["id"], document["object"]), ("r-1", "text_completion"))
        self.assertEqual(document["choices"][0]["finish_reason"], "stop")
        self.assertEqual(document["usage"]["total_tokens"], 0)
        self.assertEqual(shown.usage.source, "none")

    def test_what_is_no_completion_is_a_backend_error(self) -> None:
        """A choice without a text is none."""
        for wrong in (
            {},
            {"choices": []},
            {"choices": [{"message": {}}]},
            {"choices": [{"text": 5}]},
        ):
            self.assert_broken(PATH, ASKED, wrong)

    def test_as_stream(self) -> None:
        """One chunk with the whole text, then the end."""
        reply = shaped(PATH, ASKED, {"choices": [{"text": "a b"}], "usage": usage(3, 2)})
        first, last = streamed(PATH, {**ASKED, "stream": True}, reply)
        self.assertEqual((first["choices"][0]["text"], last), ("a b", "[DONE]"))
        options = {"stream_options": {"include_usage": True}}
        events = streamed(PATH, {**ASKED, "stream": True, **options}, reply)
        self.assertEqual(events[1]["usage"], usage(3, 2))


class Streams(DialectTestCase):
    def usage(self, prompt: Any, *events: bytes) -> tuple[int, int, str]:
        reader = operation_at(PATH).reader
        assert reader is not None
        ask = asked(PATH, {"prompt": prompt, "stream": True}).without_members()
        self.out, self.scanner = read(reader(ask), *events)
        found = self.scanner.reader.usage(10)
        return found.prompt_tokens, found.completion_tokens, found.source

    def test_usage_in_finish_chunks_adds_up(self) -> None:
        """Completion tokens always, prompt tokens where there are several prompts."""
        ends = [choice("", n, "stop", usage=usage(3 + n, 2)) for n in range(2)]
        self.assertEqual(self.usage(["a", "b"], *ends), (7, 4, "backend"))
        self.assertEqual(self.usage("a", *ends), (4, 4, "backend"))
        self.assertEqual(self.usage([1, 2], *ends), (4, 4, "backend"))
        self.assertEqual(self.usage("a", ends[0]), (3, 2, "backend"))

    def test_data_that_is_null_hides_nothing(self) -> None:
        """llama.cpp begins a stream of several prompts so: no token, no end, no failure, and the
        model is that of the chunks after it."""
        null = b"data: null\n\n"
        said = self.usage(["a", "b"], null, choice(model="m"), choice("", 0, "stop"))
        self.assertEqual(said, (10, 1, "counted"))
        self.assertTrue(self.out.startswith(null))
        self.assertEqual((self.scanner.reader.model, self.scanner.complete()), ("m", True))
        self.usage(["a"], null)
        self.assertFalse(self.scanner.complete())

    def test_done_ends_it(self) -> None:
        """As for a chat."""
        self.usage("a", choice(), DONE)
        self.assertTrue(self.scanner.complete())


class Echo(DialectTestCase):
    def test_last_prompt(self) -> None:
        """Of a list its last string, integers as their numbers, in one choice whatever `n`."""
        for prompt, said in (
            ("hi there", "hi there"),
            ("", ""),
            (["a", "b c"], "b c"),
            ([1, -2, 3], "1 -2 3"),
            ([[1, 2], [3, 4]], "3 4"),
            ({"prompt_string": "a", "multimodal_data": []}, "a"),
            ([{"prompt_string": 5}], ""),
        ):
            answer, counts = echoed(
                PATH, {"prompt": prompt, "n": 3} if said else {"prompt": prompt}
            )
            self.assertEqual(len(answer["choices"]), 1)
            if said:
                self.assertEqual(answer["choices"][0]["text"], f"Echo: {said}")
            self.assertEqual(counts.source, "counted")
        answer, counts = echoed(PATH, {"prompt": ["a b", "c"]})
        self.assertEqual(counts.prompt_tokens, 3)
        huge = b'{"prompt":[[1e999]]}'
        assert COMPLETIONS.echo is not None
        self.assertTrue(COMPLETIONS.echo(asked(PATH, huge), STAMP).body)
        answer, _ = echoed(PATH, {"prompt_embeds": "x"})
        self.assertEqual(answer["choices"][0]["text"], "Echo: ")
