"""A large array, decoded a part at a time."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from infergate.api import batches
from infergate.api.batches import OBJECT_END, SCALAR_END, in_batches

texts = st.text('a{}[],:"\\ é', max_size=8)
flat = st.dictionaries(texts, texts, max_size=3)
objects = st.dictionaries(texts, texts | st.lists(flat, max_size=3), max_size=3)
_objects = msgspec.json.Decoder(list[dict[str, Any]])
_strings = msgspec.json.Decoder(list[str])


class InBatchesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(batches, "BATCH", 16)

    def decoded(self, array: bytes, decoder: Any, end: Any) -> list[Any]:
        items = []
        for text, batch in in_batches(Raw(array), decoder.decode, end):
            self.assertEqual(json.loads(text), batch)
            items += batch
        return items

    @given(st.lists(objects, max_size=8), st.sampled_from([None, 1]))
    def test_objects_are_those_of_the_whole(self, items: list[Any], indent: int | None) -> None:
        """All batches together hold what the array holds, wherever it was cut."""
        array = json.dumps(items, indent=indent).encode()
        self.assertEqual(self.decoded(array, _objects, OBJECT_END), items)

    @given(st.lists(texts, max_size=12))
    def test_strings_are_those_of_the_whole(self, items: list[str]) -> None:
        """The same for strings, which may hold what looks like an end."""
        self.assertEqual(self.decoded(json.dumps(items).encode(), _strings, SCALAR_END), items)

    @given(st.integers(0, 20))
    def test_fault_has_its_place_in_the_whole(self, place: int) -> None:
        """An item of the wrong type is named by its number in the array, and what leads to it
        within the item."""
        items: list[object] = [["a"]] * 20
        items.insert(place, ["a", 5])
        lists = msgspec.json.Decoder(list[list[str]])
        error = self.assertRaises(
            msgspec.ValidationError, self.decoded, json.dumps(items).encode(), lists, SCALAR_END
        )
        self.assertEqual(str(error), f"Expected `str`, got `int` - at `$[{place}][1]`")

    def test_batches_are_small(self) -> None:
        """A batch is no larger than it has to be, whatever stood before it."""
        array = json.dumps([{"a": "},{" * 50}] + [{"b": ""}] * 50).encode()
        batched = in_batches(Raw(array), _objects.decode, OBJECT_END)
        sizes = [len(text) for text, batch in batched if batch]
        self.assertGreater(len(sizes), 20)
        self.assertLess(max(sizes[1:]), 64)

    def test_long_string_within_an_item_is_read_twice_at_most(self) -> None:
        """An image in a content part, or a long answer, costs no more reading than its length."""
        item = b'{"message":{"content":"%b"},"index":0}' % (b"a" * 100 * batches.BATCH)
        tried: list[int] = []

        def decode(batch: bytes | memoryview) -> list[Raw]:
            tried.append(len(batch))
            return msgspec.json.decode(batch, type=list[Raw])

        items = [
            one for _, many in in_batches(Raw(b"[%b]" % item), decode, OBJECT_END) for one in many
        ]
        self.assertEqual(items, [Raw(item)])
        self.assertLessEqual(len(tried), 2)
