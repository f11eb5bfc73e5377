"""The events of a streamed message: what they say, however they come."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from infergate.api.anthropic_events import MessageReader, error_event
from infergate.errors import BrokenReply, GatewayTimeout, ShuttingDown
from tests.unit.api.dialects import DONE, DialectTestCase, event, facts, mixed, read, splits

STOP = event({"type": "message_stop"})
ERROR = event({"type": "error", "error": {"type": "overloaded_error", "message": "no"}})
BLOCK = event({"type": "content_block_start", "index": 0, "content_block": {"type": "text"}})


def start(**usage: Any) -> bytes:
    return event({"type": "message_start", "message": {"model": "m", "usage": usage}})


def delta(**members: Any) -> bytes:
    return event({"type": "content_block_delta", "index": 0, "delta": members})


def counts(**usage: Any) -> bytes:
    return event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage})


class Ends(DialectTestCase):
    def test_one_event_ends_a_stream_well(self) -> None:
        """With it it is whole, without it is cut, wherever the body ends."""
        scanner = read(MessageReader(), start(), STOP)[1]
        self.assertTrue(scanner.complete())
        self.assertTrue(scanner.complete(framed=False))
        for events in ([], [start()], [start(), counts(output_tokens=1)], [DONE], [STOP[:-1]]):
            self.assertFalse(read(MessageReader(), *events)[1].complete(), events)

    def test_done_after_a_good_end_passes(self) -> None:
        """vLLM sends one; before the end it is left out, and ends nothing."""
        out, scanner = read(MessageReader(), STOP, DONE)
        self.assertEqual((out, scanner.complete()), (STOP + DONE, True))
        out, scanner = read(MessageReader(), start(), DONE)
        self.assertEqual((out, scanner.complete()), (start(), False))

    def test_errors_of_the_backend(self) -> None:
        """They are passed on once, and nothing after them, `[DONE]` neither."""
        for failure in (
            ERROR,
            event({"error": {"message": "no"}}),
            event({"type": None, "error": "no"}),
            event({"type": "ping"}, "error"),
            b"event: error\ndata: no JSON\n\n",
        ):
            out, scanner = read(MessageReader(), start(), failure, DONE, STOP)
            self.assertEqual(out, start() + failure)
            self.assertFalse(scanner.complete())

    def test_unknown_events_are_no_failure(self) -> None:
        """Nor a token, nor an end."""
        odd = [event({"type": "ping"}), event({"type": "new", "x": 1}), b"data: null\n\n"]
        out, scanner = read(MessageReader(), *odd, STOP)
        self.assertEqual((out, scanner.reader.tokens), (b"".join(odd) + STOP, 0))
        self.assertTrue(scanner.complete())


class Counts(DialectTestCase):
    def usage(self, *events: bytes) -> tuple[int, int, str]:
        usage = read(MessageReader(), *events)[1].reader.usage(10)
        return usage.prompt_tokens, usage.completion_tokens, usage.source

    def test_deltas(self) -> None:
        """Those of text, thinking and a tool's input are tokens, where they say something."""
        said = [
            delta(type="text_delta", text="a"),
            delta(type="thinking_delta", thinking="a"),
            delta(type="input_json_delta", partial_json="{"),
        ]
        silent = [
            delta(type="text_delta", text=""),
            delta(type="signature_delta", signature="s"),
            delta(type="text_delta", text=5),
            event({"type": "content_block_delta"}),
            BLOCK,
        ]
        self.assertEqual(read(MessageReader(), *said, *silent)[1].reader.tokens, 3)

    def test_prompt_out_of_the_start_and_completion_out_of_the_last_delta(self) -> None:
        """The `output_tokens` of the start are a placeholder."""
        begun = start(input_tokens=1, cache_read_input_tokens=30, output_tokens=99)
        text = delta(type="text_delta", text="a")
        self.assertEqual(self.usage(begun, text, counts(output_tokens=5)), (31, 5, "backend"))
        self.assertEqual(
            self.usage(begun, counts(output_tokens=5), counts(output_tokens=6)), (31, 6, "backend")
        )
        self.assertEqual(self.usage(begun, text, text), (31, 2, "counted"))

    def test_later_delta_overrides_the_prompt(self) -> None:
        """Where it has those counts."""
        begun = start(input_tokens=1, cache_read_input_tokens=30)
        later = counts(
            input_tokens=5,
            cache_read_input_tokens=0,
            cache_creation_input_tokens=2,
            output_tokens=0,
        )
        self.assertEqual(self.usage(begun, later), (7, 0, "backend"))
        self.assertEqual(self.usage(later), (7, 0, "backend"))

    def test_counted_where_one_count_is_missing(self) -> None:
        """What the backend did say is believed."""
        text = delta(type="text_delta", text="a")
        self.assertEqual(self.usage(start(), text, STOP), (10, 1, "counted"))
        self.assertEqual(self.usage(start(), text, counts(output_tokens=5)), (10, 5, "counted"))
        self.assertEqual(self.usage(start(input_tokens="7"), text), (10, 1, "counted"))

    def test_nothing_before_the_first_event(self) -> None:
        """Comments cost nothing."""
        self.assertEqual(self.usage(b": wait\n\n"), (0, 0, "none"))

    def test_model_and_cached_tokens(self) -> None:
        """Both out of the start."""
        begun = start(input_tokens=1, cache_read_input_tokens=30)
        reader = read(MessageReader(), begun, counts(output_tokens=1))[1].reader
        self.assertEqual((reader.model, reader.usage(0).cached_tokens), ("m", 30))


class ErrorEvents(DialectTestCase):
    def test_form_is_anthropics(self) -> None:
        """Its type by the status, and our code."""
        for error, kind, code in (
            (BrokenReply("It broke."), "api_error", "backend_error"),
            (GatewayTimeout(), "timeout_error", "gateway_timeout"),
            (ShuttingDown(), "overloaded_error", "shutting_down"),
        ):
            last = error_event(error, None)
            self.assertTrue(last.startswith(b"event: error\ndata: "))
            document = json.loads(last.split(b"data: ")[1])
            self.assertEqual(
                document,
                {
                    "type": "error",
                    "error": {"type": kind, "message": error.message, "code": code},
                },
            )


TEXTS = ["", "a", " blue", "\u00e9", 'say "hi"', "back\\slash", "\n", "text", '"text":"x"']
EVENTS = [
    start(input_tokens=7),
    BLOCK,
    counts(output_tokens=3),
    counts(input_tokens=8, output_tokens=4),
    STOP,
    *(delta(type="text_delta", text=text) for text in TEXTS),
    *(delta(type="thinking_delta", thinking=text) for text in TEXTS),
    *(delta(type="input_json_delta", partial_json=text) for text in TEXTS),
    delta(type="text_delta", text="", x={"text": "a"}),
    event({"type": "content_block_stop", "index": 0}),
]


class Properties(DialectTestCase):
    @given(st.data(), mixed(EVENTS), st.sampled_from([b"", ERROR, DONE, b"data: {"]))
    def test_no_split_changes_anything(
        self, data: st.DataObject, blocks: list[bytes], last: bytes
    ) -> None:
        """Whatever comes, every byte of it that is whole is given out as it came, and what is
        known does not depend on how it was split."""
        stream = b"".join(blocks) + last
        out, whole = read(MessageReader(), stream)
        self.assertTrue(stream.startswith(out))
        again, scanner = read(MessageReader(), *data.draw(splits(stream)))
        self.assertEqual((again, facts(scanner)), (out, facts(whole)))

    @given(st.lists(st.sampled_from(EVENTS), max_size=12))
    def test_each_event_is_taken_for_what_it_is(self, events: list[bytes]) -> None:
        """Whichever came before it: the short cut changes nothing."""
        out, scanner = read(MessageReader(), b": hi\n\n", *events)
        alone = [read(MessageReader(), b": hi\n\n", one)[1] for one in events]
        self.assertEqual(out, b": hi\n\n" + b"".join(events))
        self.assertEqual(scanner.reader.tokens, sum(one.reader.tokens for one in alone))
        self.assertEqual(scanner.reader.finished, any(one.reader.finished for one in alone))
