"""The list of models that a caller sees."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.models import visible_models


def visible(*names: str, **members: object) -> dict[str, list[object]]:
    seen: dict[str, list[object]] = json.loads(
        visible_models(json.dumps(members).encode(), lambda name: name in names)
    )
    return seen


class Visible(SynchronousTestCase):
    def test_every_array_holds_no_others(self) -> None:
        """llama.cpp lists its models twice, under other names."""
        seen = visible(
            "qwen",
            object="list",
            data=[{"id": "qwen", "object": "model"}, {"id": "gemma", "object": "model"}],
            models=[{"name": "gemma", "model": "gemma"}, {"name": "qwen", "model": "qwen"}],
        )
        self.assertEqual(
            seen,
            {
                "object": "list",
                "data": [{"id": "qwen", "object": "model"}],
                "models": [{"name": "qwen", "model": "qwen"}],
            },
        )

    def test_entries_are_unchanged(self) -> None:
        """What a caller may see is what the backend says, digit for digit."""
        body = b'{"data":[{"id":"a","size":1.50e3 , "meta":{"n":[1,2]}},{"id":"b"}]}'
        self.assertEqual(
            visible_models(body, lambda name: name == "a"),
            b'{"data":[{"id":"a","size":1.50e3 , "meta":{"n":[1,2]}}]}',
        )

    def test_entries_that_nobody_can_name_are_hidden(self) -> None:
        """A name alone is an entry too; a number is none."""
        self.assertEqual(
            visible("a", data=["a", "b", 7, None, {}, {"id": 3}, ["a"]]), {"data": ["a"]}
        )
