"""`/infill` and `/completion`: llama.cpp's own requests, replies and streams."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from infergate.api.infill import MAX_INDEXES, InfillReader
from infergate.errors import BrokenReply
from tests.unit.api.dialects import (
    DONE,
    DialectTestCase,
    asked,
    event,
    facts,
    mixed,
    operation_at,
    read,
    sent,
    shaped,
    splits,
    streamed,
)

PATH = "/completion"
ASKED: dict[str, Any] = {"prompt": "hi"}
SEVERAL: dict[str, Any] = {"prompt": ["hi", "ho"]}


def reply(content: Any = "a", **members: Any) -> dict[str, Any]:
    return {"content": content, "tokens_evaluated": 3, "tokens_predicted": 2, **members}


def piece(
    content: Any = "a", index: int | None = 0, *, stop: bool = False, **members: Any
) -> bytes:
    place = {} if index is None else {"index": index}
    return event({**place, "content": content, "stop": stop, **members})


END = piece("", stop=True, tokens_evaluated=3, tokens_predicted=2, model="m")
ERROR = event({"error": {"message": "no", "code": 500}})


class Requests(DialectTestCase):
    def test_any_object_goes_on(self) -> None:
        """`stream` alone is judged; `model` is neither judged nor filled in."""
        for path in ("/infill", PATH):
            for body in ({}, {"model": 5}, {"prompt": None, "n_predict": -1, "stream_options": 5}):
                self.assertEqual(sent(path, body), body)
                self.assertEqual(asked(path, body).route.target, path)
            self.assert_refused(path, {"stream": 1}, "invalid_stream")
        self.assertEqual(asked(PATH, {"model": "m"}).model, "m")
        self.assertTrue(asked(PATH, {"stream": True}).stream)


class PlainReplies(DialectTestCase):
    def usage(self, said: Any, body: dict[str, Any] = ASKED) -> tuple[int, int, str]:
        usage = shaped(PATH, body, said).usage
        return usage.prompt_tokens, usage.completion_tokens, usage.source

    def test_bytes_are_the_backends(self) -> None:
        """Nothing is filled in."""
        body = b'{ "content":"a", "n":1.50e3 }'
        self.assertEqual(shaped(PATH, ASKED, body).body, body)

    def test_usage_is_that_of_llama_cpp(self) -> None:
        """A 0 is a 0, and what says nothing has none."""
        self.assertEqual(self.usage(reply()), (3, 2, "backend"))
        self.assertEqual(self.usage(reply(tokens_evaluated=0)), (0, 2, "backend"))
        self.assertEqual(self.usage({"content": "a"}), (0, 0, "none"))
        self.assertEqual(self.usage(reply(tokens_evaluated="3")), (0, 0, "none"))

    def test_usage_of_several_prompts_adds_up(self) -> None:
        """The reply to a list of prompts may be an array."""
        self.assertEqual(self.usage([reply(), reply()], SEVERAL), (6, 4, "backend"))
        self.assertEqual(self.usage(reply(), SEVERAL), (3, 2, "backend"))
        self.assertEqual(shaped(PATH, SEVERAL, [reply(model="m")]).model, "m")

    def test_what_is_no_reply_is_a_backend_error(self) -> None:
        """Nor is an array, but for a list of prompts."""
        for wrong in ({}, b"no", 5, {"content": None}, {"error": "no"}, [reply()], [], [5]):
            self.assert_broken(PATH, ASKED, wrong)
        for wrong in ([], [5], ["a"], [reply()] * (MAX_INDEXES + 1)):
            self.assert_broken(PATH, SEVERAL, wrong)

    def test_as_stream(self) -> None:
        """One event for each reply, which says that it is the last of its prompt."""
        events = streamed(PATH, {**ASKED, "stream": True}, shaped(PATH, ASKED, reply()))
        self.assertEqual(events, [{"index": 0, **reply(), "stop": True}])
        body = {**SEVERAL, "stream": True}
        several = [reply("a", index=1), reply("b", index=0, stop=False)]
        events = streamed(PATH, body, shaped(PATH, SEVERAL, several))
        self.assertEqual([(e["index"], e["stop"]) for e in events], [(1, True), (0, True)])

    def test_the_echo_cannot_do_it(self) -> None:
        """There is nothing to fill in."""
        self.assertIsNone(operation_at(PATH).echo)


class Ends(DialectTestCase):
    def test_stop_ends_a_stream_well(self) -> None:
        """With it it is whole, without it is cut, wherever the body ends."""
        scanner = read(InfillReader(), piece(), END)[1]
        self.assertTrue(scanner.complete())
        self.assertTrue(scanner.complete(framed=False))
        for events in ([], [piece()], [piece(stop=None)], [piece(), DONE], [END[:-1]]):  # type: ignore[arg-type]
            self.assertFalse(read(InfillReader(), *events)[1].complete(), events)

    def test_each_prompt_that_was_begun_must_stop(self) -> None:
        """However they are interleaved; another may begin, so that only a proper end is one."""
        reader = InfillReader(several_prompts=True)
        first, second = piece("", 0, stop=True), piece("", 1, stop=True)
        scanner = read(reader, piece(index=0), piece(index=1), second)[1]
        self.assertFalse(scanner.complete())
        scanner.feed(first)
        self.assertTrue(scanner.complete())
        self.assertFalse(scanner.complete(framed=False))

    def test_index_that_is_left_out_is_the_first(self) -> None:
        """Where some events of a stream have it and others do not."""
        self.assertTrue(read(InfillReader(), piece(index=None), END)[1].complete())
        self.assertTrue(read(InfillReader(), piece(), piece("", None, stop=True))[1].complete())

    def test_stream_with_more_indexes_than_are_told_apart_is_never_whole(self) -> None:
        """It takes no more memory either."""
        events = [piece(index=n, stop=True) for n in range(MAX_INDEXES + 2)]
        self.assertFalse(read(InfillReader(several_prompts=True), *events)[1].complete())
        long = event({"index": "x" * 1000, "stop": True})
        self.assertFalse(read(InfillReader(), long)[1].complete())

    def test_errors_of_the_backend(self) -> None:
        """They are passed on once, and nothing after them."""
        for failure in (ERROR, event({"x": 1}, "error"), b"event: error\ndata: no\n\n"):
            out, scanner = read(InfillReader(), piece(), failure, END, DONE)
            self.assertEqual((out, scanner.complete()), (piece() + failure, False))

    def test_done_after_a_good_end_passes(self) -> None:
        """And before it is left out."""
        self.assertEqual(read(InfillReader(), END, DONE)[0], END + DONE)
        self.assertEqual(read(InfillReader(), piece(), DONE)[0], piece())

    def test_error_event_is_an_object(self) -> None:
        """As llama.cpp writes it."""
        last = operation_at(PATH).error_event(BrokenReply("It broke."), None)
        self.assertEqual(json.loads(last[6:])["error"]["code"], "backend_error")


class Counts(DialectTestCase):
    def usage(self, *events: bytes) -> tuple[int, int, str]:
        usage = read(InfillReader(several_prompts=True), *events)[1].reader.usage(10)
        return usage.prompt_tokens, usage.completion_tokens, usage.source

    def test_of_the_last_event_of_each_prompt(self) -> None:
        """Later counts override earlier ones, and those of several prompts add up."""
        first = piece(tokens_evaluated=3, tokens_predicted=1)
        self.assertEqual(self.usage(first), (3, 1, "backend"))
        self.assertEqual(self.usage(first, END), (3, 2, "backend"))
        other = piece("", 1, stop=True, tokens_evaluated=5, tokens_predicted=4)
        self.assertEqual(self.usage(first, END, other), (8, 6, "backend"))

    def test_counted_where_one_count_is_missing(self) -> None:
        """What the backend did say is believed; a 0 is a 0."""
        self.assertEqual(self.usage(piece(), piece("")), (10, 1, "counted"))
        self.assertEqual(self.usage(piece(), piece(tokens_predicted=5)), (10, 5, "counted"))
        self.assertEqual(
            self.usage(piece(tokens_evaluated=0, tokens_predicted=0)), (0, 0, "backend")
        )

    def test_nothing_before_the_first_event(self) -> None:
        """Comments, and what is no object, cost nothing."""
        self.assertEqual(self.usage(b": wait\n\n"), (0, 0, "none"))

    def test_model(self) -> None:
        """The one that the last event names."""
        self.assertEqual(read(InfillReader(), piece(), END)[1].reader.model, "m")


TEXTS = ["", "a", " blue", "\u00e9", 'say "hi"', "\n"]
EVENTS = [
    END,
    *(piece(text) for text in TEXTS),
    *(piece(text, 1, tokens_evaluated=3, tokens_predicted=n) for n, text in enumerate(TEXTS)),
    piece("", 1, stop=True),
    piece(5, None),
]


class Properties(DialectTestCase):
    @given(st.data(), mixed(EVENTS), st.sampled_from([b"", ERROR, DONE, b"data: {"]), st.booleans())
    def test_no_split_changes_anything(
        self, data: st.DataObject, blocks: list[bytes], last: bytes, several: bool
    ) -> None:
        """Whatever comes, every byte of it that is whole is given out as it came, and what is
        known does not depend on how it was split."""
        stream = b"".join(blocks) + last
        out, whole = read(InfillReader(several_prompts=several), stream)
        self.assertTrue(stream.startswith(out))
        pieces = data.draw(splits(stream))
        again, scanner = read(InfillReader(several_prompts=several), *pieces)
        self.assertEqual((again, facts(scanner)), (out, facts(whole)))
