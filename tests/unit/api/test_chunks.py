"""The chunks of a streamed completion, as their reader hears them."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.chunks import ChunkReader
from infergate.api.events import DELTA, DROP, FAIL, PASS
from infergate.api.usage import MAX_COUNT, Usage

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def delta(**members: object) -> dict[str, object]:
    """A chunk whose only choice has this delta."""
    return {"choices": [{"index": 0, "delta": members, "finish_reason": None}]}


def heard(*documents: object, several_prompts: bool = False) -> ChunkReader:
    """A reader that heard these chunks."""
    reader = ChunkReader(False, several_prompts)
    for document in documents:
        reader.hear(json.dumps(document).encode(), b"")
    return reader


class Readers(SynchronousTestCase):
    def test_chunk_is_told_by_what_it_brings(self) -> None:
        """One token is a delta, an error fails the stream, and a chunk of usage alone is taken out
        where the client did not ask for it."""
        extra = {"choices": [], "usage": USAGE}
        for strip, document, verdict in (
            (True, delta(content="x"), DELTA),
            (True, delta(role="assistant"), PASS),
            (True, {**delta(content="x"), "usage": USAGE}, PASS),
            (True, extra, DROP),
            (False, extra, PASS),
            (True, {**extra, "error": {}}, FAIL),
            (True, 17, PASS),
        ):
            reader = ChunkReader(strip)
            self.assertIs(reader.hear(json.dumps(document).encode(), b""), verdict, document)
        self.assertIs(ChunkReader(True).hear(b"{}", b"error"), FAIL)

    def test_model_is_the_first_that_is_named(self) -> None:
        """A stream's model is known once a chunk names it, and no later one changes it."""
        named = [{"model": None}, {"model": "a", **delta(content="x")}, {"model": "b"}]
        self.assertEqual(heard(*named).model, "a")
        for none in (b"{}", b'{"model":""}', b'{"model":5}', b'"model"', b"{", b""):
            reader = ChunkReader(strip_usage=True)
            reader.hear(none, b"")
            self.assertIsNone(reader.model, none)

    def test_deltas_that_say_something_are_tokens(self) -> None:
        """Content, reasoning, refusals and tool calls count; roles and empty members do not."""
        for member in ("content", "reasoning", "reasoning_content", "refusal"):
            self.assertEqual(heard(delta(**{member: "x"})).tokens, 1)
            self.assertEqual(heard(delta(**{member: ""})).tokens, 0)
        self.assertEqual(heard(delta(tool_calls=[{"index": 0}])).tokens, 1)
        self.assertEqual(heard(delta(function_call={"name": "f"})).tokens, 1)
        self.assertEqual(heard(delta(content=[{"type": "thinking"}])).tokens, 1)
        self.assertEqual(heard(delta(content=None, tool_calls=[], role="x")).tokens, 0)
        self.assertEqual(heard(delta(content=True)).tokens, 0)

    def test_usage_of_each_choice_adds_up(self) -> None:
        """Of several usage chunks the completion tokens add up, and the prompt counts once."""
        reader = heard(delta(content="x"), *[{"choices": [], "usage": USAGE}] * 2)
        self.assertEqual(reader.usage(0), Usage(7, 6, 13, "backend"))

    def test_usage_beside_several_choices_adds_up(self) -> None:
        """The same where it stands beside the end of each choice; the prompts add up where each
        choice has its own."""
        ends: list[object] = [
            {"choices": [{"index": i, "text": "", "finish_reason": "stop"}], "usage": USAGE}
            for i in range(3)
        ]
        for several, prompt in ((False, 7), (True, 21)):
            reader = heard(*ends, several_prompts=several)
            self.assertEqual(reader.usage(0), Usage(prompt, 9, prompt + 9, "backend"))

    def test_sum_of_counts_is_one_that_makes_sense(self) -> None:
        """However many counts a stream gives, what it has used fits into any database."""
        most = USAGE | {"completion_tokens": MAX_COUNT, "prompt_tokens": MAX_COUNT}
        ends: list[object] = [
            {"choices": [{"index": i, "text": "", "finish_reason": "stop"}], "usage": most}
            for i in range(3)
        ]
        for reader in (
            heard(*[{"choices": [], "usage": most}] * 3),
            heard(*ends, several_prompts=True),
            heard(
                {
                    "choices": [],
                    "timings": {"prompt_n": 1, "cache_n": MAX_COUNT, "predicted_n": MAX_COUNT},
                }
            ),
        ):
            usage = reader.usage(0)
            self.assertEqual((usage.prompt_tokens, usage.completion_tokens), (MAX_COUNT, MAX_COUNT))

    def test_usage_out_of_timings(self) -> None:
        """Where there is no usage the last of llama.cpp's timings tells it."""
        timings = {"prompt_n": 3, "cache_n": 4, "predicted_n": 5, "predicted_ms": 1.5}
        first = {**delta(content="x"), "timings": {**timings, "predicted_n": 1}}
        last = {**delta(), "timings": timings}
        self.assertEqual(heard(first, last).usage(9), Usage(7, 5, 12, "backend", 4))
        nonsense = {**delta(content="x"), "timings": {"prompt_n": "3"}}
        self.assertEqual(heard(nonsense).usage(9).source, "counted")
