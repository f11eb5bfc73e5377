"""How the mock is told to answer."""

from __future__ import annotations

from typing import get_type_hints

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from infergate.mock.script import Script


class Told(SynchronousTestCase):
    def test_request_goes_over_the_options_member_by_member(self) -> None:
        """What a request does not say stays as the mock was started."""
        told = Script(status=503, retry_after=9).told({"status": 429, "fail": "reset"})
        self.assertEqual(told, Script(status=429, retry_after=9, fail="reset"))

    def test_what_is_no_object_says_nothing(self) -> None:
        """A member `mock` of another kind is some other server's business."""
        script = Script(chunks=3)
        for mock in (None, 5, "fail", ["fail"]):
            self.assertIs(script.told(mock), script)

    def test_wrong_member_is_refused_by_its_name(self) -> None:
        """No misspelt test passes because nothing was told."""
        for mock, name in (
            ({"fail": "never"}, "fail"),
            ({"fial": "reset"}, "fial"),
            ({"delay": -1}, "delay"),
            ({"chunks": 1.5}, "chunks"),
            ({"status": 1000}, "status"),
        ):
            with self.assertRaisesRegex(msgspec.ValidationError, name):
                Script().told(mock)

    def test_each_member_is_described(self) -> None:
        """The help of every option says what it does."""
        for name, kind in get_type_hints(Script, include_extras=True).items():
            about = [one.description for one in getattr(kind, "__metadata__", ())]
            self.assertTrue(any(about), name)
