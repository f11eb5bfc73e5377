"""The chat request: what is let through, what is refused, and what the backend reads."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.chat import CHAT
from infergate.api.messages import texts as texts_of
from infergate.api.operation import Ask, Rules, request_members
from infergate.errors import ClientError, InvalidJSON, InvalidRequest

RULES = Rules(default_model="default", max_tokens_limit=1000)
RULED = [
    "model",
    "messages",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "n",
    "stream_options",
]
HI = b'[{"role":"user","content":"hi"}]'


def parse(body: bytes | dict[str, Any], rules: Rules = RULES) -> Ask:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return CHAT.check(request_members(text), CHAT.routes[0], rules)


def with_member(name: str, text: bytes) -> bytes:
    """A good request with one more member, written as it is to be read."""
    return b'{"messages":%b,"%b":%b}' % (HI, name.encode(), text)


NO_MODEL = with_member("model", b'""')


def of_messages(*messages: str) -> bytes:
    return b'{"messages":[%b]}' % ",".join(messages).encode()


class RefusalTests(SynchronousTestCase):
    def assert_refused(self, body: bytes, code: str, param: str | None) -> None:
        error = self.assertRaises(InvalidRequest, parse, body)
        self.assertEqual((error.status, error.code, error.param), (400, code, param), body)
        if param is not None:
            self.assertIn(f"`{param}`", error.message)

    def test_members(self) -> None:
        """A checked member of the wrong type or range has its own code, and is named."""
        for name, code, texts in (
            ("model", "invalid_model", "5 true [] {}"),
            ("messages", "invalid_messages", '[] {} "a" 5 true'),
            ("stream", "invalid_stream", '1 0 1.0 "true" [] {}'),
            ("max_tokens", "invalid_max_tokens", '0 -1 1001 1.0 1e2 "5" true [] {} ' + "9" * 400),
            ("max_completion_tokens", "invalid_max_tokens", '0 1001 5.0 "5" false'),
            ("temperature", "invalid_temperature", '-0.1 1e999 "1" true [] {} ' + "9" * 400),
            ("top_p", "invalid_top_p", '-1 1e999 -1e999 "1" false []'),
            ("stop", "invalid_stop", "5 true {}"),
            ("n", "invalid_n", '0 -1 1.0 "1" true [] 9223372036854775808'),
            ("stream_options", "invalid_stream_options", '[] "a" 5 true'),
        ):
            for text in texts.split():
                self.assert_refused(with_member(name, text.encode()), code, name)

    def test_param_leads_into_a_member(self) -> None:
        """The param leads into a member that is an array or an object."""
        self.assert_refused(with_member("stop", b'["a",5]'), "invalid_stop", "stop[1]")
        for text in (b"1", b'"true"', b"{}"):
            self.assert_refused(
                with_member("stream_options", b'{"include_usage":%b}' % text),
                "invalid_stream_options",
                "stream_options.include_usage",
            )

    def test_messages(self) -> None:
        """Each message has a role and a content, and the param says which one has not."""
        good = '{"role":"user","content":"a"}'
        for message, path in (
            ("5", ""),
            ("null", ""),
            ("[]", ""),
            ("{}", ".role"),
            ('{"content":"a"}', ".role"),
            ('{"role":5,"content":"a"}', ".role"),
            ('{"role":null,"content":"a"}', ".role"),
            ('{"role":"user"}', ".content"),
            ('{"role":"user","content":null}', ".content"),
            ('{"role":"user","content":5}', ".content"),
            ('{"role":"user","content":{}}', ".content"),
            ('{"role":"user","content":["a"]}', ".content[0]"),
            ('{"role":"user","content":[{"type":"text","text":"a"},{}]}', ".content[1].type"),
            ('{"role":"user","content":[{"type":5}]}', ".content[0].type"),
            ('{"role":"user","content":[{"type":"text","text":5}]}', ".content[0].text"),
            ('{"role":"user","tool_calls":[{"id":"a"}]}', ".content"),
            ('{"role":"assistant"}', ".content"),
            ('{"role":"assistant","tool_calls":null}', ".content"),
            ('{"role":"assistant","tool_calls":[ ]}', ".content"),
            ('{"role":"assistant","refusal":""}', ".content"),
            ('{"role":"assistant","audio":{ }}', ".content"),
            ('{"role":"assistant","name":"a"}', ".content"),
            ('{"role":"user","refusal":"no"}', ".content"),
            ('{"role":"tool","tool_call_id":"a"}', ".content"),
            ('{"role":"system","content":null}', ".content"),
            ('{"role":"developer","content":null}', ".content"),
        ):
            self.assert_refused(
                of_messages(good, message), "invalid_messages", f"messages[1]{path}"
            )

    def test_required_members_are_missed(self) -> None:
        """Messages are required, and so is a model where there is no default; null is absent."""
        for body in (b"{}", b'{"messages":null}'):
            self.assert_refused(body, "invalid_messages", "messages")
        strict = Rules(default_model="", max_tokens_limit=1)
        for body in (with_member("x", b"1"), with_member("model", b"null"), NO_MODEL):
            error = self.assertRaises(InvalidRequest, parse, body, strict)
            self.assertEqual((error.code, error.param), ("invalid_model", "model"))

    def test_messages_say_what_to_do(self) -> None:
        """A message about a limit names its setting, one about a null says null, one about too
        small a number names the smallest, and one about 4.0 says what an integer is."""
        for name, text, said in (
            ("max_tokens", b"1001", "the largest is 1000, which MAX_TOKENS_LIMIT sets"),
            ("max_completion_tokens", b"1001", "MAX_TOKENS_LIMIT"),
            ("max_tokens", b"0", "the smallest is 1; without it there is no limit"),
            ("max_tokens", b"-1", "the smallest is 1; without it there is no limit"),
            ("n", b"0", "the smallest is 1"),
            ("max_tokens", b"4.0", "an integer without a fraction"),
            ("n", b"4e0", "an integer without a fraction"),
            ("stop", b"[null]", "got `null`"),
        ):
            error = self.assertRaises(InvalidRequest, parse, with_member(name, text))
            self.assertIn(said, error.message)
        for body in (
            b'{"messages":null}',
            of_messages('{"role":null,"content":"a"}'),
            of_messages('{"role":"user","content":null}'),
        ):
            self.assertIn("null", self.assertRaises(InvalidRequest, parse, body).message)

    def test_json_that_is_no_object_is_an_invalid_request(self) -> None:
        """JSON that is no object is an invalid request, and no member is to blame."""
        for body in (b"[]", b'"a"', b"1", b"null", HI):
            self.assert_refused(body, "invalid_request", None)

    def test_bad_syntax_is_that_before_anything_else(self) -> None:
        """What is not JSON is that before anything else, and wherever the fault stands."""
        for body in (
            b"",
            b"\xef\xbb\xbf{}",
            b"[1",
            b'{"model":5,"messages":[],"x":nul}',
            b'{"model":5} x',
            b'{"stream":1,"x":"\xff"}',
            b'{"messages":5,"x":' + b"[" * 200 + b"]" * 200 + b"}",
            b'{"messages":5,"x":' + b"1" * 401 + b"}",
            b"[" * 100_000,
        ):
            error = self.assertRaises(InvalidJSON, parse, body)
            self.assertEqual((error.code, error.status), ("invalid_json", 400))

    def test_first_member_at_fault_is_named_in_the_order_of_the_contract(self) -> None:
        """Of several faults the first in the order of the contract is named, not of the body."""
        body = b'{"n":0,"stream_options":5,"top_p":"a","stream":1,"messages":5,"model":5}'
        for name in ("model", "messages", "stream", "top_p", "n", "stream_options"):
            error = self.assertRaises(InvalidRequest, parse, body)
            self.assertEqual(error.param, name)
            good = json.loads(body) | {name: json.loads(HI) if name == "messages" else None}
            body = json.dumps(good).encode()
        parse(body)

    def test_message_with_a_judged_name_twice_is_refused(self) -> None:
        """A message that two parsers may read in two ways is refused, however it is spelled."""
        for message, path in (
            ('{"role":"user","content":"a","content":"b"}', ".content"),
            ('{"role":"user","content":"a","role":"system"}', ".role"),
            ('{"role":"user","content":"a","r\\u006fle":"system"}', ".role"),
            ('{"role":"user","content":"\\u0022\\u0022\\u0022\\u0022","role":"user"}', ".role"),
            ('{"role":"user","content":[],"content":"b"}', ".content"),
            ('{"role":"assistant","tool_calls":[1],"tool_calls":[2]}', ".tool_calls"),
            ('{"role":"assistant","content":"a","tool_calls":[1],"tool_calls":0}', ".tool_calls"),
            (
                '{"role":"user","content":[{"type":"text","text":"a","text":"b"}]}',
                ".content[0].text",
            ),
            ('{"role":"user","content":[{"type":"text","type":"file"}]}', ".content[0].type"),
        ):
            self.assert_refused(
                of_messages('{"role":"user","content":"a"}', message),
                "invalid_messages",
                f"messages[1]{path}",
            )


class AcceptTests(SynchronousTestCase):
    def test_one_message_is_enough(self) -> None:
        """One message is enough; the model is the default, and nothing streams."""
        request = parse({"messages": [{"role": "user", "content": "hi"}]})
        self.assertEqual((request.model, request.stream), ("default", False))

    def test_members(self) -> None:
        """A checked member may take any value of its range, up to the edges."""
        for name, texts in (
            ("model", '"m" "\\u00e9"'),
            ("stream", "true false null"),
            ("max_tokens", "1 1000 null"),
            ("max_completion_tokens", "1 1000 null"),
            ("temperature", "0 0.0 -0.0 1 2.5 1e3 1e-999 null " + "9" * 300),
            ("top_p", "0 1 0.95 null"),
            ("stop", '"a" "" [] ["a","b"] null'),
            ("n", "1 9223372036854775807 null"),
            ("stream_options", '{} {"include_usage":null} {"include_usage":true,"x":1} null'),
        ):
            for text in texts.split():
                parse(with_member(name, text.encode()))

    def test_messages(self) -> None:
        """Text, content parts of any kind, and tool calls without a text are messages."""
        for message in (
            '{"role":"user","content":""}',
            '{"role":"anything","content":"a"}',
            '{"role":"user","content":[]}',
            '{"role":"user","content":[{"type":"image_url","image_url":{"url":"a"},"text":null}]}',
            '{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"a"}}]}',
            '{"role":"assistant","content":null,"tool_calls": [ {} ]}',
            '{"role":"assistant","content":null}',
            '{"role":"assistant","content":null,"tool_calls":[]}',
            '{"role":"tool","tool_call_id":"a","content":null}',
            '{"role":"function","name":"a","content":null}',
            '{"role":"assistant","function_call":{"name":"a"}}',
            '{"role":"assistant","refusal":"no"}',
            '{"role":"assistant","audio":{"id":"a"}}',
            '{"role":"assistant","reasoning_content":"so"}',
            '{"role":"assistant","reasoning":"so"}',
            '{"role":"assistant","content":"a","tool_calls":null}',
            '{"role":"tool","tool_call_id":"a","content":"a","name":"b"}',
        ):
            parse(of_messages(message))

    def test_name_twice_elsewhere_does_no_harm(self) -> None:
        """A name that stands twice, but not as a judged member of one message, does no harm."""
        for message in (
            '{"role":"user","content":"\\"role\\": \\"content\\", \\"role\\""}',
            '{"role":"role","content":"content"}',
            '{"role":"user","content":"\\u0022\\u0072ole\\u0022"}',
            '{"role":"user","content":"a","x":{"role":1,"role":2},"name":"b"}',
            '{"role":"user","content":"a","name":"b","name":"c"}',
            '{"role":"assistant","content":"a","tool_calls":[{"type":"a","content":{"role":[]}}]}',
            '{"role":"user","content":[{"type":"text","text":"type"},{"type":"text","text":"a",'
            '"cache_control":{"type":"text"}}]}',
            '{"role":"user","content":[{"type":"a","b":{"type":1,"type":2}}]}',
        ):
            parse(of_messages(message, message))

    def test_role_and_text_of_each_message_can_be_had(self) -> None:
        """The role and the text of every message can be had, text parts in lines, and "" where
        there is none."""
        request = parse(
            of_messages(
                '{"role":"system","content":"s"}',
                '{"role":"assistant","tool_calls":[1]}',
                '{"role":"user","content":"\\u00e9\\n\\ud83d\\ude00"}',
                '{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url",'
                '"text":"b"},{"type":"text"},{"type":"text","text":"c"}]}',
                '{"role":"user","content":[]}',
            )
        )
        said = [("system", "s"), ("assistant", ""), ("user", "é\n\U0001f600"), ("user", "a\nc")]
        self.assertEqual(list(texts_of(request.members["messages"])), [*said, ("user", "")])

    def test_usage_chunk_is_for_who_asked(self) -> None:
        """Only a client that says true asked for the usage of its stream."""
        for text, wanted in ((b"true", True), (b"false", False), (b"null", False)):
            options = b',"stream_options":{"include_usage":%b}' % text
            request = parse(b'{"messages":%b,"stream":true%b}' % (HI, options))
            self.assertIs(request.wants_usage, wanted)
        self.assertFalse(parse(with_member("stream", b"true")).wants_usage)

    def test_nothing_is_injected_where_it_would_take_timings_along(self) -> None:
        """A client that asked for timings gets its stream as it comes, and so does everybody where
        the settings say so."""
        for name in ("timings_per_token", "return_progress"):
            body = b'{"messages":%b,"stream":true,"%b":true}' % (HI, name.encode())
            self.assertNotIn(b"stream_options", parse(body).body())
            self.assertTrue(parse(body).wants_usage)
        off = Rules("default", 1000, inject_usage=False)
        for options in (b"", b',"stream_options":{ "a":1.0,"a":2 }'):
            body = b'{"messages":%b,"stream":true%b,"model":"m"}' % (HI, options)
            self.assertEqual(parse(body, off).body(), body)
            self.assertTrue(parse(body, off).wants_usage)


class BackendBodyTests(SynchronousTestCase):
    def test_members_reach_the_backend_byte_for_byte(self) -> None:
        """Every member reaches the backend in the bytes it came in, in the same order."""
        texts = {
            "tools": b'[ {"b" : 1.0, "a":1E400,\n"b":2} ]',
            "model": b'"\\u006d"',
            "messages": b'[ {"content":"a\\/b" ,"role": "user","x":[1e5 , {}]} ]',
            "temperature": b"1.50",
            "seed": b"123456789012345678901234567890",
            "grammar": b"null",
            "stream": b"false",
            "\u00e9": b'"\xc3\xa9"',
        }
        body = b" {%b } " % b" ,\n".join(b'"%b" : %b' % (n.encode(), t) for n, t in texts.items())
        expected = b",".join(b'"%b":%b' % (n.encode(), t) for n, t in texts.items())
        self.assertEqual(parse(body).body(), b"{%b}" % expected)

    def test_default_model_is_filled_in(self) -> None:
        """The backend is told the default model where the client named none."""
        for body in (with_member("x", b"1"), with_member("model", b"null"), NO_MODEL):
            self.assertEqual(json.loads(parse(body).body())["model"], "default")

    def test_no_model_is_sent_where_there_is_none(self) -> None:
        """Without a default model the backend chooses: it gets none, and no null either."""
        for body in (with_member("x", b"1"), with_member("model", b"null"), NO_MODEL):
            request = parse(body, Rules(None, 1000))
            self.assertNotIn("model", json.loads(request.body()))
            self.assertIsNone(request.model)

    def test_null_of_a_checked_member_is_left_out(self) -> None:
        """A null among the checked members is left out; any other is passed on."""
        nulls = ("stream", "max_tokens", "temperature", "top_p", "stop", "n", "stream_options")
        document = {"messages": json.loads(HI), "seed": None, **dict.fromkeys(nulls)}
        self.assertEqual(
            json.loads(parse(document).body()),
            {"messages": json.loads(HI), "seed": None, "model": "default"},
        )

    def test_last_of_a_member_given_twice_is_judged_and_sent(self) -> None:
        """Of a member given twice the last is judged, and the backend never sees the other."""
        body = b'{"n":"a","messages":5,"x":1,"n":2,"x":3,"m\\u0065ssages":%b}' % HI
        self.assertEqual(parse(body).body(), b'{"n":2,"messages":%b,"x":3,"model":"default"}' % HI)
        self.assertRaises(InvalidRequest, parse, b'{"messages":%b,"n":2,"n":"a"}' % HI)

    def test_stream_is_asked_for_its_usage(self) -> None:
        """A stream is asked for its usage, whatever the client said, and the client's other
        stream options stay as they were."""
        for given_text, read in (
            (None, b'{"include_usage":true}'),
            (b"null", b'{"include_usage":true}'),
            (b'{"include_usage":false}', b'{"include_usage":true}'),
            (b'{ "a":1.0,"include_usage":null }', b'{"a":1.0,"include_usage":true}'),
            (b'{"include_usage":true,"include_usage":true}', b'{"include_usage":true}'),
        ):
            options = b"" if given_text is None else b',"stream_options":' + given_text
            request = parse(b'{"messages":%b,"stream":true%b}' % (HI, options))
            members = request.body()
            self.assertTrue(request.stream)
            self.assertIn(b'"stream_options":' + read, members)

    def test_options_without_a_stream_are_made_unambiguous(self) -> None:
        """Without a stream nothing is asked for, and no option can be read in two ways."""
        body = with_member("stream_options", b'{"include_usage":false,"include_usage":true}')
        self.assertIn(b'"stream_options":{"include_usage":true}', parse(body).body())
        self.assertNotIn(b"stream_options", parse(with_member("x", b"1")).body())


texts = st.text('a {["\\\n\0é\u2028\U0001f600', max_size=4)
names = st.sampled_from(
    [*RULED, "include_usage", "role", "content", "tool_calls", "type", "text", "user", "assistant"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | texts, inner, max_size=5),
    max_leaves=12,
)


class AnyBodyTests(SynchronousTestCase):
    @given(st.dictionaries(names, anything, max_size=5), anything)
    def test_any_document_is_a_request_or_a_400(
        self, members: dict[str, Any], messages: Any
    ) -> None:
        """Whatever comes in, there is a request or the client is told what is wrong."""
        for document in (members, members | {"messages": messages}, messages):
            try:
                request = parse(json.dumps(document).encode())
            except ClientError as error:
                self.assertEqual(error.status, 400)
                self.assertTrue(error.message)
            else:
                json.loads(request.body())
                list(texts_of(request.members["messages"]))

    @given(st.dictionaries(texts.map("x{}".format), anything, max_size=4), st.booleans())
    def test_any_unchecked_member_is_passed_on_byte_for_byte(
        self, members: dict[str, Any], spaced: bool
    ) -> None:
        """Whatever a member holds that is not checked, the backend gets it byte for byte."""
        indent = 1 if spaced else None
        written = {
            name: json.dumps(value, indent=indent).replace("NaN", "0").replace("Infinity", "1e999")
            for name, value in members.items()
        }
        written["messages"] = HI.decode()
        pairs = ",".join(f"{json.dumps(name)}:{text}" for name, text in written.items())
        request = parse(b"{%b}" % pairs.encode())
        for name, text in written.items():
            self.assertEqual(bytes(request.members[name]), text.encode())
            self.assertIn(b":" + text.encode(), request.body())

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["role", "content", "x", "name"]),
                st.text('a":,é', max_size=6),
            ),
            max_size=5,
        ),
        st.booleans(),
        st.sampled_from(['\\"', "\\u0022"]),
    )
    def test_message_let_through_has_one_reading(
        self, pairs: list[tuple[str, str]], spaced: bool, quote: str
    ) -> None:
        """A message that is let through reads the same to a parser that takes the first of two
        members and to one that takes the last."""
        separators = (", ", ": ") if spaced else (",", ":")
        written = [
            json.dumps({n: t}, separators=separators).replace('\\"', quote) for n, t in pairs
        ]
        body = of_messages("{" + separators[0].join(text[1:-1] for text in written) + "}")
        try:
            request = parse(body)
        except InvalidRequest:
            counts = [sum(name == n for n, _ in pairs) for name in ("role", "content")]
            self.assertNotEqual(counts, [1, 1])
        else:
            judged = [(n, t) for n, t in pairs if n in ("role", "content")]
            self.assertEqual(dict(judged), dict(reversed(judged)))
            self.assertEqual(len(judged), 2)
            self.assertEqual(
                [text for _, text in texts_of(request.members["messages"])],
                [dict(judged)["content"]],
            )
