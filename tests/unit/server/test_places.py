"""MAX_CONNECTIONS: who has a place, and who makes room."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.server.places import Places


class Guest:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.above_limit = False
        self._log = log

    def make_room(self) -> None:
        self._log.append(self.name)


class PlacesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.closed: list[str] = []
        self.clock = Clock()
        self.places = Places(2, lambda call: self.clock.callLater(0, call))

    def open(self, names: str) -> list[Guest]:
        guests = [Guest(name, self.closed) for name in names]
        for guest in guests:
            self.places.opened(guest)
        return guests

    def read(self) -> None:
        """Let the reactor read what has arrived, and go on."""
        self.clock.advance(0)

    def test_connections_below_the_limit_have_places(self) -> None:
        """Nobody is above the limit, or closed, while there are places."""
        guests = self.open("ab")
        self.assertEqual([g.above_limit for g in guests], [False, False])
        self.assertEqual(self.closed, [])

    def test_longest_idle_makes_room_first(self) -> None:
        """Those that idle after a request make room in the order in which they began to."""
        a, b = self.open("ab")
        self.places.idles(b)
        self.places.idles(a)
        c, d, e = self.open("cde")
        self.assertEqual(self.closed, ["b", "a"])
        self.assertEqual([g.above_limit for g in (c, d, e)], [False, False, True])

    def test_who_asks_again_does_not_idle(self) -> None:
        """A connection on which the next request begins is not closed for another."""
        a, _ = self.open("ab")
        self.places.idles(a)
        self.places.asks(a)
        (c,) = self.open("c")
        self.assertEqual((self.closed, c.above_limit), ([], True))

    def test_silent_longest_makes_room_above_the_limit(self) -> None:
        """Above the limit each sound counts; who was closed does not count any more."""
        _, _, c, d = self.open("abcd")
        self.places.heard(c)
        self.open("e")
        self.read()
        self.assertEqual(self.closed, ["d"])
        self.places.heard(d)
        self.places.asks(d)
        self.places.closed(d)
        self.open("fg")
        self.read()
        self.assertEqual(self.closed, ["d", "c", "e"])

    def test_who_was_accepted_and_not_read_from_yet_is_not_silent(self) -> None:
        """Where many are accepted at once, what they have sent already counts: nobody is closed
        before there was a look at that."""
        _, _, c, _d, e, _f = self.open("abcdef")
        self.assertEqual(self.closed, [])
        self.places.heard(c)
        self.places.heard(e)
        self.read()
        self.assertEqual(self.closed, ["d", "f"])

    def test_who_is_accepted_during_that_look_is_not_silent_either(self) -> None:
        """In a burst nobody is closed whose request waits to be read, however it is cut into event
        loop iterations."""
        soon: list[Callable[[], None]] = []
        self.places = Places(2, soon.append)
        _, _, c, d, e = self.open("abcde")
        soon.pop()()
        self.open("fgh")
        for guest in (c, d, e):
            self.places.heard(guest)
        soon.pop()()
        self.assertEqual(self.closed, ["c", "d", "e"])
        soon.pop()()
        self.assertEqual(self.closed, ["c", "d", "e", "f"])
        self.assertEqual(soon, [])

    def test_who_was_answered_makes_room_before_who_did_not_ask_yet(self) -> None:
        """A probe that is still to come is not closed for those who have their 503 and linger."""
        _, _, c, d, *_ = self.open("abcdef")
        for guest in (c, d):
            self.places.heard(guest)
            self.places.leaves(guest)
        self.read()
        self.assertEqual(self.closed, ["d", "c"])

    def test_place_that_is_free_goes_to_who_asks(self) -> None:
        """Above the limit, asking is rewarded as soon as there is a place; idling is not."""
        a, b, c, d = self.open("abcd")
        self.places.idles(c)
        self.places.asks(c)
        self.assertTrue(c.above_limit)
        self.places.closed(a)
        self.places.asks(c)
        self.assertFalse(c.above_limit)
        self.places.idles(b)
        self.places.asks(d)
        self.assertEqual((d.above_limit, self.closed), (False, ["b"]))
