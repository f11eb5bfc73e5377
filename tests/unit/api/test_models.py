"""The list of models that a caller sees."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.models import MAX_ENTRIES, entry, names, visible_models
from infergate.api.steps import at_once
from infergate.errors import BackendError


def visible(*names: str, **members: object) -> dict[str, list[object]]:
    seen: dict[str, list[object]] = json.loads(
        at_once(visible_models(json.dumps(members).encode(), lambda name: name in names))
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
            at_once(visible_models(body, lambda name: name == "a")),
            b'{"data":[{"id":"a","size":1.50e3 , "meta":{"n":[1,2]}}]}',
        )

    def test_entries_that_nobody_can_name_are_hidden(self) -> None:
        """A name alone is an entry too; a number is none."""
        self.assertEqual(
            visible("a", data=["a", "b", 7, None, {}, {"id": 3}, ["a"]]), {"data": ["a"]}
        )


class OneEntry(SynchronousTestCase):
    def test_as_it_stands_in_openais_array(self) -> None:
        """Digit for digit, also where another array comes first, as in llama.cpp's list."""
        body = (
            b'{"models":[{"name":"m","model":"m"}],"object":"list","data":[{"id":"m", "n":1.50}]}'
        )
        self.assertEqual(at_once(entry(body, "m")), b'{"id":"m", "n":1.50}')
        self.assertEqual(at_once(entry(b'{"models":[{"name":"m"}]}', "m")), b'{"name":"m"}')

    def test_no_such_entry(self) -> None:
        """Nothing, whatever the list holds."""
        for body in (b"{}", b'{"data":[]}', b'{"data":null}', b'{"data":[5,{"id":null}]}'):
            self.assertIsNone(at_once(entry(body, "m")))

    def test_list_that_is_too_long_or_none(self) -> None:
        """Is the backend's fault."""
        many = b'{"data":[%b]}' % b",".join([b'"x"'] * (MAX_ENTRIES + 1))
        for body in (b"no", b"[]", many):
            self.assertRaises(BackendError, at_once, entry(body, "m"))


class Names(SynchronousTestCase):
    def test_each_model_once_in_the_order_of_openai(self) -> None:
        """Whatever other arrays say; an entry without a name is none."""
        body = b'{"models":[{"name":"b"}],"data":[{"id":"a"},{"id":"b"},{"id":""}]}'
        self.assertEqual(at_once(names(body)), ["a", "b"])
        self.assertEqual(at_once(names(b'{"data":null}')), [])

    def test_what_is_no_list(self) -> None:
        """Is the backend's fault."""
        self.assertRaises(BackendError, at_once, names(b"<html>"))
