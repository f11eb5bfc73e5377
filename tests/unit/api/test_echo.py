"""What the echo says."""

from __future__ import annotations

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.echo import echoed, heard, text_within
from infergate.api.usage import Usage


class Echo(SynchronousTestCase):
    def test_last_text_of_the_user_comes_back(self) -> None:
        """All words that were said count as the prompt's tokens."""
        said = [("system", "be brief"), ("user", "one"), ("user", "two three"), ("assistant", "x")]
        self.assertEqual(heard(said), (6, "two three"))
        self.assertEqual(echoed(6, "two three"), ("Echo: two three", Usage(6, 3, 9, "counted")))

    def test_text_of_parts(self) -> None:
        """A line for each part that has a text; what comes after one that is none is left out."""
        for raw, text in (
            (b'"a b"', "a b"),
            (b'[{"text":"a"},{"image":1},{"text":5},{"text":"b"}]', "a\nb"),
            (b"[1]", ""),
            (b"null", ""),
        ):
            self.assertEqual(text_within(Raw(raw)), text)
