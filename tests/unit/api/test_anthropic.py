"""`/v1/messages`: requests, plain replies, the echo, and either as a stream."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.api.dialects import (
    HI,
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

PATH, COUNT = "/v1/messages", "/v1/messages/count_tokens"
ASKED = {"messages": HI, "max_tokens": 9}


def reply(*content: Any, **members: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": list(content),
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 30},
        **members,
    }


class Requests(DialectTestCase):
    def test_members_at_fault_have_their_codes(self) -> None:
        """Each checked member of the wrong type or range is named, with its own code."""
        for member, value, code in (
            ("messages", [], "invalid_messages"),
            ("messages", [{"role": "user"}], "invalid_messages"),
            ("messages", None, "invalid_messages"),
            ("system", 5, "invalid_system"),
            ("system", {}, "invalid_system"),
            ("max_tokens", None, "invalid_max_tokens"),
            ("max_tokens", -1, "invalid_max_tokens"),
            ("max_tokens", 1001, "invalid_max_tokens"),
            ("max_tokens", 1.5, "invalid_max_tokens"),
            ("stream", "yes", "invalid_stream"),
            ("temperature", "1", "invalid_temperature"),
            ("top_p", -1, "invalid_top_p"),
            ("model", [], "invalid_model"),
        ):
            self.assert_refused(PATH, {**ASKED, member: value}, code)

    def test_limit_of_tokens_is_required(self) -> None:
        """0 is one: it fills a cache. To count, none is needed, and none is looked at."""
        self.assert_refused(PATH, {"messages": HI}, "invalid_max_tokens")
        self.assertEqual(sent(PATH, {**ASKED, "max_tokens": 0})["max_tokens"], 0)
        ask = asked(COUNT, {"messages": HI, "max_tokens": "many", "stream": True})
        self.assertEqual((ask.stream, ask.route.target, ask.route.costs), (False, COUNT, False))
        for wrong, code in (
            ({"messages": []}, "messages"),
            ({"messages": HI, "system": 5}, "system"),
        ):
            self.assert_refused(COUNT, wrong, f"invalid_{code}")

    def test_all_else_goes_on_as_it_came(self) -> None:
        """`stream_options` too: it is touched for chat and completions alone."""
        for system in ("", "be kind", [], [{"type": "text", "text": "be kind"}]):
            body = {**ASKED, "model": "m", "system": system, "stream": True, "stream_options": 5}
            self.assertEqual(sent(PATH, body), body)

    def test_version_and_beta_go_on(self) -> None:
        """The two header fields that say how a request is to be read."""
        forwarded = operation_at(PATH).forwarded
        self.assertEqual(forwarded, (b"anthropic-version", b"anthropic-beta"))


class PlainReplies(DialectTestCase):
    def test_bytes_are_the_backends(self) -> None:
        """Its id too."""
        body = b'{ "id":"msg_1", "content":[], "n":1.50e3 }'
        self.assertEqual(shaped(PATH, ASKED, body).body, body)

    def test_prompt_tokens_stand_in_three_places(self) -> None:
        """Those read anew, those out of a cache and those put into one add up."""
        for usage, said in (
            ({"input_tokens": 1, "output_tokens": 2}, (1, 2, "backend")),
            (
                {
                    "input_tokens": 1,
                    "cache_read_input_tokens": 30,
                    "cache_creation_input_tokens": 400,
                    "output_tokens": 2,
                },
                (431, 2, "backend"),
            ),
            (
                {"input_tokens": 1, "cache_read_input_tokens": None, "output_tokens": 0},
                (1, 0, "backend"),
            ),
            ({}, (0, 0, "none")),
            (None, (0, 0, "none")),
            ({"input_tokens": -1}, (0, 0, "none")),
        ):
            found = shaped(PATH, ASKED, reply(usage=usage)).usage
            self.assertEqual((found.prompt_tokens, found.completion_tokens, found.source), said)
        self.assertEqual(shaped(PATH, ASKED, reply()).usage.cached_tokens, 30)
        self.assertEqual(shaped(PATH, ASKED, reply()).model, "m")

    def test_what_is_no_message_is_a_backend_error(self) -> None:
        """Nothing without content passes for one."""
        for wrong in (
            {},
            [],
            b"",
            {"content": "a"},
            {"content": None},
            {"type": "error", "error": {}},
        ):
            self.assert_broken(PATH, ASKED, wrong)

    def test_count_has_no_usage(self) -> None:
        """It costs nothing."""
        self.assertEqual(shaped(COUNT, ASKED, {"input_tokens": 3}).usage.source, "none")


class AsStream(DialectTestCase):
    def events(self, *content: Any, **members: Any) -> list[Any]:
        return streamed(
            PATH, {**ASKED, "stream": True}, shaped(PATH, ASKED, reply(*content, **members))
        )

    def test_text_is_one_delta_with_its_index(self) -> None:
        """The whole sequence, and the usage where clients look for it: the prompt's at the
        beginning, the completion's at the end."""
        events = self.events({"type": "text", "text": "Hello there"})
        self.assertEqual(
            [event["type"] for event in events],
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ],
        )
        start, block, delta, stop, last, _ = events
        self.assertEqual((start["message"]["content"], start["message"]["stop_reason"]), ([], None))
        self.assertEqual(start["message"]["usage"]["cache_read_input_tokens"], 30)
        self.assertEqual(block["content_block"], {"type": "text", "text": ""})
        self.assertEqual((block["index"], delta["index"], stop["index"]), (0, 0, 0))
        self.assertEqual(delta["delta"], {"type": "text_delta", "text": "Hello there"})
        self.assertEqual(last["delta"]["stop_reason"], "end_turn")
        self.assertEqual(last["usage"]["output_tokens"], 2)

    def test_thinking_and_tools(self) -> None:
        """Each kind of block has deltas of its own, and its place in the reply as index."""
        events = self.events(
            {"type": "thinking", "thinking": "so", "signature": "s"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "t", "name": "g"},
            {"type": "new", "x": 1},
        )
        deltas = [(e["index"], e["delta"]) for e in events if e["type"] == "content_block_delta"]
        self.assertEqual(
            deltas,
            [
                (0, {"type": "thinking_delta", "thinking": "so"}),
                (0, {"type": "signature_delta", "signature": "s"}),
                (1, {"type": "input_json_delta", "partial_json": '{"a":1}'}),
                (2, {"type": "input_json_delta", "partial_json": "{}"}),
            ],
        )
        starts = [e["content_block"] for e in events if e["type"] == "content_block_start"]
        self.assertEqual(starts[1], {"type": "tool_use", "id": "t", "name": "f", "input": {}})

    @given(st.lists(json_values(), max_size=4), json_values())
    def test_any_content_becomes_a_whole_stream(self, content: list[Any], usage: Any) -> None:
        """Whatever its blocks and its usage are."""
        events = self.events(*content, usage=usage)
        self.assertEqual((events[0]["type"], events[-1]["type"]), ("message_start", "message_stop"))

    def test_content_of_unknown_shape_passes(self) -> None:
        """The stream is whole all the same, without a usage too."""
        events = self.events(5, None, {"type": "text"}, usage=None)
        self.assertEqual(events[-1]["type"], "message_stop")
        self.assertEqual(events[-2]["usage"]["output_tokens"], 0)


class Echo(DialectTestCase):
    def test_last_text_of_the_user(self) -> None:
        """All texts are counted, those of `system` too; the last of the user's is given back."""
        for system, words in (
            (None, 2),
            ("be kind", 4),
            ([{"type": "text", "text": "be very kind"}], 5),
            ([5, {"type": "image"}], 2),
        ):
            answer, usage = echoed(PATH, {**ASKED, "system": system})
            self.assertEqual(answer["content"][0]["text"], "Echo: hi there")
            self.assertEqual((usage.prompt_tokens, usage.source), (words, "counted"))

    def test_every_required_member_is_there(self) -> None:
        """Those that the public schema lists as required, null where they may be."""
        answer, usage = echoed(PATH, ASKED)
        required = "id type role content model stop_reason stop_sequence usage container"
        self.assertEqual(set(required.split()) - set(answer), set())
        self.assertIn("citations", answer["content"][0])
        required = """input_tokens output_tokens cache_creation_input_tokens
            cache_read_input_tokens cache_creation server_tool_use service_tier"""
        self.assertEqual(set(required.split()) - set(answer["usage"]), set())
        self.assertEqual(answer["usage"]["output_tokens"], usage.completion_tokens)
        self.assertEqual((answer["stop_reason"], answer["model"]), ("end_turn", "default"))

    def test_streamed(self) -> None:
        """The echo is a whole sequence of events too."""
        body = {**ASKED, "stream": True}
        echo = operation_at(PATH).echo
        assert echo is not None
        events = streamed(PATH, body, echo(asked(PATH, body), STAMP))
        said = [e["delta"]["text"] for e in events if e["type"] == "content_block_delta"]
        self.assertEqual(said, ["Echo: hi there"])

    def test_count(self) -> None:
        """Words are counted, and nothing is charged."""
        answer, usage = echoed(COUNT, {"messages": HI, "system": "be kind"})
        self.assertEqual((answer, usage.source), ({"input_tokens": 4}, "none"))
