"""`/v1/responses`: requests, plain replies, the echo, and either as a stream."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from infergate.api.operation import Rules
from tests.unit import LETTERS
from tests.unit.api.dialects import (
    HI,
    RULES,
    STAMP,
    DialectTestCase,
    asked,
    echoed,
    json_values,
    operation_at,
    sent,
    shaped,
    streamed,
)

PATH, COUNT = "/v1/responses", "/v1/responses/input_tokens"
ASKED = {"input": "hi"}
USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens": 2,
    "total_tokens": 9,
}


def reply(*output: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"id": "resp_1", "status": "completed", "model": "m", "output": list(output), **members}


def message(*texts: str) -> dict[str, Any]:
    """An item as llama.cpp writes it."""
    content = [{"type": "output_text", "text": text} for text in texts]
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": content}


class Requests(DialectTestCase):
    def test_members_at_fault_have_their_codes(self) -> None:
        """Each checked member of the wrong type or range is named, with its own code."""
        for member, value, code in (
            ("input", 5, "invalid_input"),
            ("input", {}, "invalid_input"),
            ("input", "", "invalid_input"),
            ("input", [], "invalid_input"),
            ("input", None, "invalid_input"),
            ("max_output_tokens", 0, "invalid_max_tokens"),
            ("max_output_tokens", 1001, "invalid_max_tokens"),
            ("stream", 1, "invalid_stream"),
            ("temperature", -1, "invalid_temperature"),
            ("top_p", "1", "invalid_top_p"),
            ("model", 5, "invalid_model"),
        ):
            self.assert_refused(PATH, {**ASKED, member: value}, code)

    def test_input_may_be_absent_beside_what_holds_it(self) -> None:
        """A prompt, an earlier response or a conversation may stand in for it, even where its
        own value is null."""
        self.assert_refused(PATH, {}, "invalid_input")
        for other in ("prompt", "previous_response_id", "conversation"):
            self.assertNotIn("input", sent(PATH, {other: "x", "input": None}))
            self.assert_refused(PATH, {other: "x", "input": []}, "invalid_input")
            self.assert_refused(PATH, {other: None}, "invalid_input")

    def test_all_else_goes_on_as_it_came(self) -> None:
        """`stream_options` too: it is touched for chat and completions alone."""
        body = {**ASKED, "model": "m", "stream": True, "stream_options": {"x": 1}, "tools": [7]}
        self.assertEqual(sent(PATH, body), body)
        self.assertEqual(sent(PATH, {**ASKED, "stream_options": 5})["stream_options"], 5)

    def test_counting_is_checked_in_the_same_way_but_for_the_limit(self) -> None:
        """The count's `max_output_tokens` is nobody's business, and it never streams."""
        ask = asked(COUNT, {**ASKED, "max_output_tokens": -1, "stream": True})
        self.assertEqual((ask.stream, ask.route.target, ask.route.costs), (False, COUNT, False))
        self.assert_refused(COUNT, {"input": ""}, "invalid_input")
        self.assert_refused(COUNT, {**ASKED, "stream": 1}, "invalid_stream")
        self.assert_refused(COUNT, {**ASKED, "temperature": "1"}, "invalid_temperature")

    def test_model_is_filled_in(self) -> None:
        """As for a chat."""
        self.assertEqual(sent(PATH, ASKED)["model"], "default")
        self.assertNotIn("model", sent(PATH, ASKED, Rules(None, 1000)))
        self.assert_refused(PATH, ASKED, "invalid_model", Rules("", 1000))


class PlainReplies(DialectTestCase):
    def test_bytes_are_the_backends(self) -> None:
        """Its id is a name that a later request refers to: nothing is replaced."""
        body = b'{ "id":"resp_1", "output":[], "n":1.50e3 }'
        self.assertEqual(shaped(PATH, ASKED, body).body, body)

    def test_usage_and_model(self) -> None:
        """Both are recorded; of a usage that makes no sense there is none."""
        shown = shaped(PATH, ASKED, reply(usage=USAGE))
        usage = shown.usage
        self.assertEqual((usage.prompt_tokens, usage.completion_tokens), (7, 2))
        self.assertEqual((usage.source, usage.cached_tokens, shown.model), ("backend", 3, "m"))
        for wrong in (None, {}, 5, {"input_tokens": -1}, {"input_tokens": "7"}):
            self.assertEqual(shaped(PATH, ASKED, reply(usage=wrong)).usage.source, "none")
        zero = shaped(PATH, ASKED, reply(usage={"input_tokens": 0, "output_tokens": 0})).usage
        self.assertEqual(zero.source, "backend")

    def test_what_is_no_response_is_a_backend_error(self) -> None:
        """Nothing without output passes for one, nor what failed."""
        for wrong in (
            {},
            [],
            b"no",
            {"output": {}},
            {"output": None},
            reply(error={"message": "no"}),
            reply(status="failed"),
        ):
            self.assert_broken(PATH, ASKED, wrong)

    def test_incomplete_is_a_success(self) -> None:
        """A response that reached its limit is one."""
        self.assertTrue(shaped(PATH, ASKED, reply(status="incomplete")).body)

    def test_count_has_no_usage(self) -> None:
        """It costs nothing."""
        self.assertEqual(shaped(COUNT, ASKED, {"input_tokens": 3}).usage.source, "none")


class AsStream(DialectTestCase):
    def kinds(self, *output: dict[str, Any], **members: Any) -> list[str]:
        shown = shaped(PATH, ASKED, reply(*output, **members))
        self.events = streamed(PATH, {**ASKED, "stream": True}, shown)
        numbers = [event["sequence_number"] for event in self.events]
        self.assertEqual(numbers, list(range(len(numbers))))
        return [event["type"].removeprefix("response.") for event in self.events]

    def test_text_is_one_delta_with_its_indexes(self) -> None:
        """The SDKs' helpers find by these where a delta belongs."""
        self.assertEqual(
            self.kinds(message("Hello there")),
            [
                "created",
                "in_progress",
                "output_item.added",
                "content_part.added",
                "output_text.delta",
                "output_text.done",
                "content_part.done",
                "output_item.done",
                "completed",
            ],
        )
        delta = self.events[4]
        self.assertEqual(
            (delta["delta"], delta["item_id"], delta["output_index"], delta["content_index"]),
            ("Hello there", "msg_1", 0, 0),
        )
        self.assertEqual(self.events[2]["item"]["content"], [])
        self.assertEqual(self.events[3]["part"]["text"], "")
        self.assertEqual(self.events[0]["response"]["output"], [])
        self.assertEqual(self.events[-1]["response"]["output"], [message("Hello there")])

    def test_several_parts_and_items_are_told_apart(self) -> None:
        """Each has the index that it has in the reply."""
        self.kinds(message("a", "b"), message("c"))
        deltas = [event for event in self.events if event["type"].endswith(".delta")]
        said = [(e["delta"], e["output_index"], e["content_index"]) for e in deltas]
        self.assertEqual(said, [("a", 0, 0), ("b", 0, 1), ("c", 1, 0)])

    def test_call_of_a_tool(self) -> None:
        """Its arguments are one delta."""
        call = {"type": "function_call", "name": "f", "call_id": "c", "arguments": '{"a":1}'}
        kinds = self.kinds(call)
        self.assertEqual(
            kinds[3:5], ["function_call_arguments.delta", "function_call_arguments.done"]
        )
        self.assertEqual(self.events[2]["item"]["arguments"], "")
        self.assertEqual(self.events[3]["delta"], '{"a":1}')

    def test_refusals_and_reasoning(self) -> None:
        """Each kind of text has deltas of its own."""
        parts = [{"type": "refusal", "refusal": "no"}, {"type": "reasoning_text", "text": "so"}]
        kinds = self.kinds({**message(), "content": [*parts, {"type": "new", "x": 1}]})
        self.assertIn("refusal.delta", kinds)
        self.assertIn("reasoning_text.delta", kinds)
        self.assertEqual(kinds.count("content_part.added"), 3)

    def test_incomplete(self) -> None:
        """What reached its limit says so in its last event."""
        self.assertEqual(self.kinds(status="incomplete")[-1], "incomplete")

    @given(
        st.lists(json_values(), max_size=4),
        st.dictionaries(st.text(LETTERS), json_values(), max_size=3),
    )
    def test_any_output_becomes_a_whole_stream(
        self, output: list[Any], more: dict[str, Any]
    ) -> None:
        """Which ends in the response as it was."""
        given = {**more, "output": output, "status": "completed", "error": None}
        self.assertEqual(self.kinds(*output, **given | {"output": output})[-1], "completed")
        self.assertEqual(self.events[-1]["response"]["output"], output)

    def test_output_of_unknown_shape_passes(self) -> None:
        """Nothing in it is understood, and the stream is whole all the same."""
        odd: Any = [5, None, {"content": [7]}, {"type": "message", "content": None}]
        self.assertEqual(self.kinds(*odd)[-1], "completed")
        self.assertEqual(self.events[-1]["response"]["output"], odd)


class Echo(DialectTestCase):
    def test_last_text_of_the_user(self) -> None:
        """All texts are counted, the last of the user's is given back."""
        for asked_for, said, words in (
            ("hi there", "hi there", 2),
            (HI, "hi there", 2),
            ([{"role": "user", "content": [{"type": "input_text", "text": "a b"}]}], "a b", 2),
            ([*HI, {"role": "assistant", "content": "x y z"}], "hi there", 5),
            ([5, {"type": "item_reference"}], "", 0),
        ):
            answer, usage = echoed(PATH, {"input": asked_for})
            text = answer["output"][0]["content"][0]["text"]
            self.assertEqual((text, usage.prompt_tokens), (f"Echo: {said}", words))
            self.assertEqual(usage.source, "counted")

    def test_every_required_member_is_there(self) -> None:
        """Those that the public schema lists as required, null where they may be."""
        answer, usage = echoed(PATH, {**ASKED, "temperature": 0.5, "metadata": {"a": "b"}})
        required = """id object created_at error incomplete_details instructions model output
            parallel_tool_calls metadata tool_choice tools temperature top_p status usage text
            truncation reasoning max_output_tokens previous_response_id background service_tier
            store top_logprobs max_tool_calls"""
        self.assertEqual(set(required.split()) - set(answer), set())
        self.assertEqual((answer["temperature"], answer["metadata"]), (0.5, {"a": "b"}))
        self.assertEqual((answer["status"], answer["model"]), ("completed", "default"))
        details = ("input_tokens_details", "output_tokens_details")
        self.assertEqual([name for name in details if name not in answer["usage"]], [])
        self.assertEqual(answer["usage"]["total_tokens"], usage.total_tokens)

    def test_streamed(self) -> None:
        """The echo is a whole sequence of events too."""
        echo = operation_at(PATH).echo
        assert echo is not None
        body = {**ASKED, "stream": True}
        events = streamed(PATH, body, echo(asked(PATH, body), STAMP))
        self.assertEqual(events[-1]["type"], "response.completed")
        self.assertIsNone(events[0]["response"]["completed_at"])
        self.assertTrue(events[-1]["response"]["completed_at"])
        self.assertEqual([e["delta"] for e in events if "delta" in e], ["Echo: hi"])

    def test_count(self) -> None:
        """Words are counted, in OpenAI's form."""
        answer, usage = echoed(COUNT, {"input": "one two three"})
        self.assertEqual(answer, {"input_tokens": 3, "object": "response.input_tokens"})
        self.assertEqual(usage.source, "none")

    def test_without_a_model(self) -> None:
        """A reply always names one."""
        answer, _ = echoed(PATH, ASKED, Rules(None, RULES.max_tokens_limit))
        self.assertEqual(answer["model"], "default")
