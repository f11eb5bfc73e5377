"""The table of operations."""

from __future__ import annotations

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
