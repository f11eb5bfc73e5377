"""The events of a streamed response: what they say, however they come."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from infergate.api.response_events import ResponseReader, error_event
from infergate.errors import BrokenReply
from tests.unit.api.dialects import DONE, DialectTestCase, event, facts, mixed, read, splits

CREATED = event({"type": "response.created", "response": {"model": "m", "usage": None}})
PING = event({"type": "response.in_progress", "response": {}})
COMPLETED = event({"type": "response.completed", "response": {"status": "completed"}})
FAILED = event({"type": "response.failed", "response": {"error": {"message": "no"}}})
ERROR = event({"type": "error", "code": "x", "message": "no"})


def delta(text: Any, kind: str = "output_text", **members: Any) -> bytes:
    return event({"type": f"response.{kind}.delta", "delta": text, **members})


def ended(kind: str = "completed", **usage: Any) -> bytes:
    return event({"type": f"response.{kind}", "response": {"usage": usage}})


class Ends(DialectTestCase):
    def test_two_events_end_a_stream_well(self) -> None:
        """With one of them it is whole, without it is cut, wherever the body ends."""
        for kind in ("completed", "incomplete"):
            self.assertTrue(read(ResponseReader(), CREATED, ended(kind))[1].complete())
            # And that is certain: the body need not say where it ends.
            scanner = read(ResponseReader(), CREATED, ended(kind))[1]
            self.assertTrue(scanner.complete(framed=False))
        for events in ([], [CREATED], [CREATED, delta("a")], [CREATED, DONE], [COMPLETED[:-1]]):
            self.assertFalse(read(ResponseReader(), *events)[1].complete(), events)

    def test_done_after_a_good_end_passes(self) -> None:
        """vLLM sends one; before the end it is left out, and ends nothing."""
        out, scanner = read(ResponseReader(), COMPLETED, DONE)
        self.assertEqual((out, scanner.complete()), (COMPLETED + DONE, True))
        out, scanner = read(ResponseReader(), CREATED, DONE)
        self.assertEqual((out, scanner.complete()), (CREATED, False))

    def test_failures_of_the_backend(self) -> None:
        """They are passed on once, and nothing after them, `[DONE]` neither."""
        untyped = [
            event({"error": {"message": "no"}}),
            event({"type": None, "error": {"message": "no"}}),
            event({"type": "", "error": "no"}),
            event({"delta": "a"}, "error"),
            b"event: error\ndata: no JSON\n\n",
        ]
        for failure in (FAILED, ERROR, *untyped):
            out, scanner = read(ResponseReader(), CREATED, failure, DONE, COMPLETED)
            self.assertEqual(out, CREATED + failure)
            self.assertIsNotNone(scanner.error)
            self.assertFalse(scanner.complete())

    def test_failure_after_the_end(self) -> None:
        """It is a failure all the same."""
        self.assertFalse(read(ResponseReader(), COMPLETED, ERROR)[1].complete())

    def test_error_that_is_null(self) -> None:
        """It is none."""
        for error in (event({"error": None}), event({"type": "x", "error": {"message": "a"}})):
            self.assertIsNone(read(ResponseReader(), error)[1].error)

    def test_unknown_events_are_no_failure(self) -> None:
        """Nor a token, nor an end."""
        odd = [event({"type": "response.new.thing", "x": 1}), b"data: null\n\n", b"data: [1]\n\n"]
        out, scanner = read(ResponseReader(), *odd, COMPLETED)
        self.assertEqual((out, scanner.reader.tokens), (b"".join(odd) + COMPLETED, 0))
        self.assertTrue(scanner.complete())


class Counts(DialectTestCase):
    def usage(self, *events: bytes) -> tuple[int, int, str]:
        usage = read(ResponseReader(), *events)[1].reader.usage(10)
        return usage.prompt_tokens, usage.completion_tokens, usage.source

    def test_deltas(self) -> None:
        """Those of text, reasoning, refusals and arguments are tokens, where they say something."""
        kinds = """output_text reasoning_text reasoning_summary_text refusal
            function_call_arguments mcp_call_arguments custom_tool_call_input"""
        said = [delta("a", kind) for kind in kinds.split()]
        empty = [delta(""), delta(None), delta(5), event({"type": "response.output_text.done"})]
        scanner = read(ResponseReader(), *said, *empty)[1]
        self.assertEqual(scanner.reader.tokens, 7)

    def test_usage_of_the_last_event(self) -> None:
        """Later events override earlier ones."""
        first = event(
            {
                "type": "response.in_progress",
                "response": {"usage": {"input_tokens": 1, "output_tokens": 1}},
            }
        )
        last = ended(input_tokens=7, output_tokens=0)
        self.assertEqual(self.usage(first, delta("a"), last), (7, 0, "backend"))
        self.assertEqual(self.usage(first, delta("a"), COMPLETED), (1, 1, "backend"))

    def test_counted_where_one_count_is_missing(self) -> None:
        """What the backend did say is believed."""
        self.assertEqual(self.usage(CREATED, delta("a"), delta("b")), (10, 2, "counted"))
        self.assertEqual(self.usage(delta("a"), ended(input_tokens=7)), (7, 1, "counted"))
        self.assertEqual(self.usage(delta("a"), ended(output_tokens=5)), (10, 5, "counted"))
        self.assertEqual(self.usage(delta("a"), ended(input_tokens="7")), (10, 1, "counted"))

    def test_nothing_before_the_first_event(self) -> None:
        """Comments cost nothing."""
        self.assertEqual(self.usage(b": wait\n\n"), (0, 0, "none"))

    def test_cached_tokens(self) -> None:
        """They are a part of the prompt's."""
        last = ended(input_tokens=7, output_tokens=1, input_tokens_details={"cached_tokens": 3})
        self.assertEqual(read(ResponseReader(), last)[1].reader.usage(0).cached_tokens, 3)

    def test_model(self) -> None:
        """The first that is named."""
        self.assertEqual(read(ResponseReader(), PING, CREATED)[1].reader.model, "m")


class ErrorEvents(DialectTestCase):
    def test_number_is_one_more_than_the_last(self) -> None:
        """0 where the stream numbers nothing; and the SDKs' two forms are both there."""
        for events, number in (
            ([], 0),
            ([CREATED], 0),
            ([delta("a", sequence_number=4), delta("a", sequence_number=5)], 6),
            ([delta("a", sequence_number=2**70)], 2**53 + 1),
            ([delta("a", sequence_number="4")], 0),
        ):
            scanner = read(ResponseReader(), *events)[1]
            last = error_event(BrokenReply("It broke."), scanner.reader)
            document = json.loads(last.split(b"data: ")[1])
            inner = document.pop("error")
            self.assertTrue(last.startswith(b"event: error\n"))
            self.assertEqual(
                document,
                {
                    "type": "error",
                    "code": "backend_error",
                    "message": "It broke.",
                    "param": None,
                    "sequence_number": number,
                },
            )
            self.assertEqual(inner["type"], "server_error")
            self.assertEqual(
                (inner["code"], inner["message"], inner["param"]),
                ("backend_error", "It broke.", None),
            )

    def test_numbers_are_read_in_events_that_are_alike(self) -> None:
        """The short cut for deltas that differ in their text alone loses no number."""
        events = [delta(f"word {n}", sequence_number=n) for n in range(20)]
        scanner = read(ResponseReader(), *events)[1]
        last = error_event(BrokenReply("x"), scanner.reader)
        self.assertEqual(json.loads(last.split(b"data: ")[1])["sequence_number"], 20)
        self.assertEqual(scanner.reader.tokens, 20)


TEXTS = ["", "a", " blue", "\u00e9", 'say "hi"', "back\\slash", "\n", "delta", '"delta":"x"']
EVENTS = [
    CREATED,
    COMPLETED,
    ended(input_tokens=7, output_tokens=3),
    *(delta(text) for text in TEXTS),
    *(delta(text, item_id="i", output_index=0) for text in TEXTS),
    *(delta(text, sequence_number=n) for n, text in enumerate(TEXTS)),
    delta("a", "function_call_arguments"),
    *(
        event({"sequence_number": n, "type": "response.output_text.delta", "delta": text})
        for n, text in enumerate(TEXTS, 40)
    ),
    delta("a", x={"sequence_number": 70}),
    delta("a", sequence_number=5, x={"sequence_number": 70}),
    event({"type": "response.output_text.delta", "x": {"delta": "b"}, "delta": ""}),
    event({"type": "response.output_text.done", "delta": "a"}),
    event({"delta": "c"}),
]


class Properties(DialectTestCase):
    @given(st.data(), mixed(EVENTS), st.sampled_from([b"", ERROR, FAILED, DONE, b"data: {"]))
    def test_no_split_changes_anything(
        self, data: st.DataObject, blocks: list[bytes], last: bytes
    ) -> None:
        """Whatever comes, every byte of it that is whole is given out as it came, and what is
        known does not depend on how it was split."""
        stream = b"".join(blocks) + last
        out, whole = read(ResponseReader(), stream)
        self.assertTrue(stream.startswith(out))
        pieces = data.draw(splits(stream))
        again, scanner = read(ResponseReader(), *pieces)
        self.assertEqual((again, facts(scanner)), (out, facts(whole)))

    @given(st.lists(st.sampled_from(EVENTS), max_size=12))
    def test_each_event_is_taken_for_what_it_is(self, events: list[bytes]) -> None:
        """Whichever came before it: the short cut changes nothing."""
        out, scanner = read(ResponseReader(), b": hi\n\n", *events)
        alone = [read(ResponseReader(), b": hi\n\n", one)[1] for one in events]
        self.assertEqual(out, b": hi\n\n" + b"".join(events))
        self.assertEqual(scanner.reader.tokens, sum(one.reader.tokens for one in alone))
        self.assertEqual(scanner.reader.finished, any(one.reader.finished for one in alone))
        numbers = [
            one.reader.next_number for one in alone if isinstance(one.reader, ResponseReader)
        ]
        assert isinstance(scanner.reader, ResponseReader)
        self.assertEqual(scanner.reader.next_number, max([0, *numbers]))
