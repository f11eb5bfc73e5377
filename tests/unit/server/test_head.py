"""A head that comes again on a connection: judged once, and what follows from it known once."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.errors import BadRequest, BodyTooLarge
from infergate.server.head import MAX_KEPT, MAX_LENGTH_DIGITS, Fields, Head
from infergate.server.parser import END, MAX_UNLIKE, Limits, Parser
from tests.unit.server.parser_vectors import chunked, get, old, post


def heads(*requests: bytes, limits: Limits | None = None) -> list[Head]:
    """The heads of requests that come on one connection; their bodies are read and dropped."""
    parser = Parser(limits or Limits())
    found = []
    for raw in requests:
        parser.receive(raw)
        while (event := parser.next()) is not END:
            if isinstance(event, Head):
                found.append(event)
        parser.restart()
    return found


def asked(length: int, *fields: bytes) -> bytes:
    return post(*fields, b"Content-Length: %d" % length) + b"x" * length


class RepeatedTests(SynchronousTestCase):
    def shared(self, *requests: bytes, limits: Limits | None = None) -> bool:
        """Whether what was derived from the first head is known of the last."""
        first, *_, last = heads(*requests, limits=limits)
        return first.derived(id) == last.derived(id)

    def test_repeated_head_is_the_first_one(self) -> None:
        """A head that comes again is not judged again, with a body or without, declared or
        chunked."""
        for raw in (asked(3), get(), chunked(b"1\r\nx\r\n0\r\n\r\n")):
            first, second, third = heads(raw, raw, b"\r\n" + raw)
            self.assertIs(second, first)
            self.assertIs(third, first)

    def test_repeated_head_has_its_own_length(self) -> None:
        """A head that differs in the digits of its length alone has that length, says so in its
        fields too, and changes nothing of the one before it."""
        first, second, third = heads(asked(3, b"X: y"), asked(1000, b"X: y"), asked(0, b"X: y"))
        lengths = [head.length for head in (first, second, third)]
        said = [head.fields[b"content-length"] for head in (first, second, third)]
        self.assertEqual(lengths, [3, 1000, 0])
        self.assertEqual(said, [[b"3"], [b"1000"], [b"0"]])
        self.assertEqual(second.fields[b"x"], [b"y"])
        self.assertTrue(self.shared(asked(3), asked(10)))

    def test_length_of_a_repeated_head_is_judged(self) -> None:
        """A length that no head may have is refused behind one that is good, too."""
        for length, error in ((b"9" * 19, BodyTooLarge), (b"", BadRequest), (b"-1", BadRequest)):
            repeated = asked(3).replace(b" 3\r", b" %b\r" % length)
            self.assertRaises(error, heads, asked(3), repeated)

    def test_other_head_is_judged_by_itself(self) -> None:
        """Nothing is shared with a head of which any other byte differs."""
        for other in (
            asked(3, b"X: z"),
            asked(3, b"X: y "),
            asked(3, b"x: y"),
            asked(3, b"X: y", b"A: b"),
            asked(3),
            post(b"X: y", b"Content-Length: 3 ") + b"xxx",
            get(b"X: y"),
        ):
            self.assertFalse(self.shared(asked(3, b"X: y"), other), other)

    def test_head_that_ends_its_connection_is_not_kept(self) -> None:
        """Nor is one that is long or waits for ``100 Continue``, whose length matters to it."""
        for raw in (
            post(b"Connection: close", b"Content-Length: 1") + b"x",
            old(b"Content-Length: 1") + b"x",
            asked(1, b"Expect: 100-continue"),
            asked(1, b"X: " + b"y" * MAX_KEPT),
        ):
            self.assertFalse(self.shared(raw, raw), raw)

    def test_client_whose_heads_differ_is_not_remembered(self) -> None:
        """Heads are compared until so many in a row were different; one that is the same in
        between begins the count anew."""
        few = [asked(3, b"X: %d" % number) for number in range(MAX_UNLIKE - 1)]
        again = heads(*few, few[-1], *few, few[-1])
        self.assertIs(again[-1], again[-2])
        self.assertIs(again[len(few)], again[len(few) - 1])
        many = heads(*few, asked(3), asked(4, b"X: y"), asked(3), asked(3))
        self.assertIsNot(many[-1], many[-2])

    def test_longer_repetition_has_room(self) -> None:
        """A head is kept only where one with more digits would still be no larger than a head may
        be."""
        room = len(asked(0)) + MAX_LENGTH_DIGITS
        self.assertTrue(self.shared(asked(0), asked(0), limits=Limits(head=room)))
        self.assertFalse(self.shared(asked(0), asked(0), limits=Limits(head=room - 1)))


class VariedTests(SynchronousTestCase):
    """Heads of one connection of which each has an id of its own."""

    def test_variation_has_its_own_values(self) -> None:
        """Of a head that differs in values from the one before it all is as it says, and nothing of
        the one before it changes."""
        requests = [asked(number, b"X-Id:  %d " % number, b"X: y") for number in range(4)]
        for number, head in enumerate(heads(*requests)):
            self.assertEqual(head.length, number)
            self.assertTrue(head.keep_alive)
            self.assertEqual(head.fields[b"content-length"], [b"%d" % number])
            self.assertEqual(head.fields[b"x-id"], [b"%d" % number])
            self.assertEqual(head.fields[b"x"], [b"y"])

    def test_value_of_a_variation_is_judged(self) -> None:
        """A value that no field may have, or a line that is none, is refused behind good ones."""
        good = [asked(1, b"X-Id: %d" % number) for number in range(3)]
        for line in (b"X-Id: \0", b"X-Id: a\rb", b"X-Id: a\nb", b"X-Id", b"X-Id : 4", b" X-Id: 4"):
            self.assertRaises(BadRequest, heads, *good, asked(1, line))
        long = asked(1, b"X-Id: 4").replace(b"Length: 1", b"Length: " + b"1" * 19)
        self.assertRaises(BodyTooLarge, heads, *good, long)

    def test_other_target_or_a_field_there_twice_is_read_anew(self) -> None:
        """Another target is another one, also where what differs in it stands behind a colon; of
        several fields of one name each has its own value."""
        good = [asked(1, b"X: a", b"X-Id: %d" % number, b"X: b") for number in range(3)]
        other = [raw.replace(b"POST /", b"POST /a:b") for raw in good]
        targets = [head.target for head in heads(*other, other[0].replace(b"/a:b", b"/a:c"))]
        self.assertEqual(targets, [b"/a:b"] * 3 + [b"/a:c"])
        last = heads(*good, good[0].replace(b"X: b", b"X: c"))[-1]
        self.assertEqual(last.fields[b"x"], [b"a", b"c"])

    def test_field_that_frames_is_judged_with_all_others(self) -> None:
        """One that says how the request is framed, whose it is, or what becomes of the connection
        is no mere value."""
        good = [asked(1, b"X-Id: %d" % number, b"Connection: a") for number in range(3)]
        last = heads(*good, asked(1, b"X-Id: 4", b"Connection: close"))[-1]
        self.assertFalse(last.keep_alive)
        for line in (b"Host: b,c", b"Host:"):
            self.assertRaises(BadRequest, heads, *good, good[0].replace(b"Host: a", line))


class DerivedTests(SynchronousTestCase):
    def test_function_is_called_once_for_all_repetitions(self) -> None:
        """What follows from a head is computed once on a connection, None too."""
        called = []

        def nothing(head: Head) -> None:
            called.append(head.method)

        for head in heads(asked(3), asked(3), asked(4)):
            head.derived(nothing)
        self.assertEqual(called, [b"POST"])

    def test_what_follows_from_some_fields_is_computed_when_they_change(self) -> None:
        """Another id in each head costs nothing for what follows from the key; another key does,
        and so does one that is missing or there twice."""
        called = []

        def keys(fields: Fields) -> list[bytes] | None:
            called.append(fields)
            return fields.get(b"key")

        def of(*lines: bytes) -> bytes:
            return asked(1, b"X-Id: %d" % len(lines), *lines)

        one, two = b"Key: a", b"Key: b"
        requests = [of(one), of(one, b"A: b"), of(one), of(two), of(one, two), of(), of(one)]
        found = [head.of_fields((b"key",), keys) for head in heads(*requests)]
        self.assertEqual(found, [*[[b"a"]] * 3, [b"b"], [b"a", b"b"], None, [b"a"]])
        self.assertEqual(called, [{b"key": key} if key else {} for key in found[2:]])

    def test_nothing_is_kept_of_a_value_that_is_long(self) -> None:
        """An idle connection holds no more for a head that is like the last one but for a long
        value than for any other that is long."""
        called: list[Fields] = []
        short = [asked(1, b"X-Id: %d" % number) for number in range(3)]
        long = asked(1, b"X-Id: " + b"x" * MAX_KEPT)
        for head in heads(*short, long, long):
            head.of_fields((b"x-key",), called.append)
        self.assertEqual(len(called), 3)

    def test_nothing_of_another_connection_is_known(self) -> None:
        """What was found in one client's fields is asked for anew where another sends the same."""
        called: list[Fields] = []
        for head in (heads(get(b"Key: a"))[0], heads(get(b"Key: a"))[0]):
            head.of_fields((b"key",), called.append)
        self.assertEqual(len(called), 2)

    def test_nothing_is_kept_of_a_function_that_raises(self) -> None:
        """What a function raises is raised, each time."""

        def fails(head: Head) -> None:
            raise ValueError(head.method)

        for head in heads(get(), get()):
            self.assertRaises(ValueError, head.derived, fails)
