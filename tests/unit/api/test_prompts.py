"""A prompt in each of its forms."""

from __future__ import annotations

import json

import msgspec
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.batches import BATCH
from infergate.api.prompts import check_items, several, words_and_last
from infergate.api.steps import at_once


def raw(value: object) -> Raw:
    return Raw(json.dumps(value).encode())


class Items(SynchronousTestCase):
    def test_strings_integers_arrays_and_objects(self) -> None:
        """All of them, mixed too, and in any number."""
        for items in ([], ["a"], [1, -2], [[1], {}], ["a", 1, [None], {"a": 1.5}]):
            self.assertEqual(at_once(check_items(raw(items))), len(items))
        self.assertEqual(at_once(check_items(Raw(b"[ 1 ,\n2 ]"))), 2)

    def test_what_is_no_prompt_is_named_by_its_place(self) -> None:
        """In an array of any length."""
        for wrong in (b"null", b"true", b"false", b"1.5", b"1e300"):
            for before in (1, BATCH):
                items = Raw(b"[%b%b]" % (b"5," * before, wrong))
                error = self.assertRaises(msgspec.ValidationError, at_once, check_items(items))
                self.assertIn(f"[{before}]", str(error))


class Several(SynchronousTestCase):
    def test_lists_of_prompts_are_told_from_lists_of_tokens(self) -> None:
        """By what they begin with."""
        for prompt in (["a"], [[1]], [{}]):
            self.assertTrue(several(raw(prompt)))
        self.assertTrue(several(Raw(b'[ \r\n\t"a"]')))
        for prompt in ("a", {}, [1, 2], []):  # type: ignore[assignment]
            self.assertFalse(several(raw(prompt)))
        self.assertFalse(several(None))


class Texts(SynchronousTestCase):
    def test_words_of_all_prompts_and_text_of_the_last(self) -> None:
        """Tokens count as words and are shown as their numbers, and of an object there is its
        text."""
        for prompt, words, last in (
            ("a b", 2, "a b"),
            (["a", "b c"], 3, "b c"),
            ([1, 22], 2, "1 22"),
            ([[1, 2], [3, -4]], 4, "3 -4"),
            (["a b", [1, 2], {"prompt_string": "c"}], 5, "c"),
            ({"prompt_string": "a"}, 1, "a"),
            ([{"prompt_string": "a b"}, {}], 2, ""),
            ([{"prompt_string": "a"}, {"prompt_string": 5}], 1, ""),
            ([{"prompt_string": 5}], 0, ""),
        ):
            self.assertEqual(words_and_last(raw(prompt)), (words, last), prompt)
        self.assertEqual(words_and_last(None), (0, ""))
        self.assertEqual(words_and_last(Raw(b"[ 1 ,\n2 ]")), (2, "1 2"))
        self.assertEqual(words_and_last(Raw(b'{"a":1e999}')), (0, ""))

    def test_large_arrays_are_counted_to_the_end(self) -> None:
        """Cut into batches they have the same words."""
        for item, words in (("a b", 2), ([1, 2, 3], 3), ({"prompt_string": "a"}, 1)):
            prompt = [item] * 20_000
            self.assertEqual(words_and_last(raw(prompt))[0], 20_000 * words)
