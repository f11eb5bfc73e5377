"""Operations under way at once."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.access.places import Places


class Counting(SynchronousTestCase):
    def test_of_each_and_of_all(self) -> None:
        """Who left is not remembered."""
        places = Places()
        for who in ("alice", "alice", "bob"):
            places.enter(who)
        self.assertEqual((places.taken("alice"), places.all_taken), (2, 3))
        for who in ("alice", "bob", "alice"):
            places.leave(who)
        self.assertEqual((places.taken("alice"), places.all_taken), (0, 0))
        self.assertEqual(places._taken, {})
