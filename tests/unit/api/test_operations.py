"""The table of operations."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from infergate.api.operation import Ask
from infergate.api.operations import NAMES, OPERATIONS, ROUTES
from tests.unit.api.dialects import DialectTestCase


class Table(DialectTestCase):
    def test_names_are_those_of_the_setting(self) -> None:
        """In ROUTES, in logs, and in the options of keys."""
        self.assertEqual(
            NAMES,
            (
                "chat",
                "completions",
                "embeddings",
                "responses",
                "messages",
                "rerank",
                "tokenize",
                "infill",
            ),
        )

    def test_names_in_metrics_are_the_contracts(self) -> None:
        """`chat` for all dialects of a chat, `text_completion`, else the operation's name."""
        self.assertEqual(
            [operation.metric_name for operation in OPERATIONS],
            [
                "chat",
                "text_completion",
                "embeddings",
                "chat",
                "chat",
                "rerank",
                "tokenize",
                "infill",
            ],
        )

    def test_paths(self) -> None:
        """What is asked here, and what of the backend; which of them cost nothing."""
        beside = {"/tokenize", "/detokenize", "/apply-template", "/infill", "/completion"}
        free = {path for path, (_, route) in ROUTES.items() if not route.costs}
        self.assertEqual(
            free,
            {
                "/v1/messages/count_tokens",
                "/v1/responses/input_tokens",
                "/v1/chat/completions/input_tokens",
                "/tokenize",
                "/detokenize",
                "/apply-template",
            },
        )
        for path, (_, route) in ROUTES.items():
            self.assertEqual(route.target.startswith("/v1/"), path not in beside, path)
            if "rerank" not in path:
                self.assertEqual(route.target, path)
        self.assertEqual(len(ROUTES), 16)

    def test_what_each_can_do(self) -> None:
        """Five stream, four echo; two alone have `[DONE]` put at their end."""
        self.assertEqual(
            [operation.name for operation in OPERATIONS if operation.reader],
            ["chat", "completions", "responses", "messages", "infill"],
        )
        self.assertEqual(
            [operation.name for operation in OPERATIONS if operation.echo],
            ["chat", "completions", "responses", "messages"],
        )
        self.assertEqual(
            [operation.name for operation in OPERATIONS if operation.stream_end],
            ["chat", "completions"],
        )


MEMBERS = [
    *("type", "model", "content", "stop", "index", "error", "usage", "choices", "delta", "text"),
    *("id", "message", "response", "output", "timings", "finish_reason", "tool_calls", "code"),
    *("tokens_evaluated", "tokens_predicted", "input_tokens", "output_tokens", "stop_reason"),
    *("sequence_number", "item", "part", "content_block", "partial_json", "arguments"),
]
SCALARS = [
    *(b"null", b"true", b"-1", b"1e999", b"9" * 30, b'"\xff"', b'"\\ud800"', b'"a"', b"", b"\xff"),
    *(b'"response.completed"', b'"message_stop"', b'"message_start"', b'"content_block_delta"'),
]


def written(members: dict[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), v) for name, v in members.items())


VALUES = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda some: b"[%b]" % b",".join(some)),
        st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4).map(written),
    ),
    max_leaves=12,
)


class Readers(DialectTestCase):
    @given(st.data())
    def test_no_reader_fails_at_what_a_backend_says(self, data: st.DataObject) -> None:
        """An event of a stream may hold anything: no text, no JSON, members of any type. What a
        reader makes of it is a verdict, and never an error."""
        members = st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=4)
        rest = dict.fromkeys(MEMBERS, data.draw(st.sampled_from(SCALARS)))
        said = data.draw(st.lists(VALUES, max_size=3))
        said.append(written(rest | data.draw(members) | {"stop": b"true", "error": b"null"}))
        for operation in OPERATIONS:
            if operation.reader is not None:
                reader: Any = operation.reader(Ask(operation.routes[0], "m", True, {}))
                for one in said:
                    reader.hear(one, data.draw(st.sampled_from([b"", b"error", b"\xff"])))
                for name in ("whole", "certain", "usage", "model"):
                    getattr(reader, name, None)
