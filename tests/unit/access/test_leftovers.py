"""Quotes and `${NAME}` that another program was to take away or to fill in."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.access.leftovers import check_meant


class Meant(SynchronousTestCase):
    def test_quotes_are_refused(self) -> None:
        """A value that still has its quotes is refused, and a key among others that has."""
        for text in (
            '"http://127.0.0.1:9000"',
            "'qwen'",
            '"alice:canary","bob:canary"',
            'alice:"canary",bob:c',
            "alice:c,bob:'canary'",
            ' "canary" ',
            "''",
        ):
            with self.assertRaisesRegex(ValueError, "^still has its quotes"):
                check_meant(text)

    def test_quotes_inside_are_a_part_of_it(self) -> None:
        """A quote that nothing answers, or that stands within a word, is a part of the value."""
        for text in ("it's", '"', "a'b'c", 'say "x" twice', "'a", "", "a:'b'@c"):
            check_meant(text)

    def test_unexpanded_names_are_refused(self) -> None:
        """A `${NAME}` that nobody has filled in is refused, and not shown."""
        for text in ("${KEY}", "http://${HOST}:9000", "a:${KEY:-canary}", "x${_a1}y"):
            with self.assertRaisesRegex(ValueError, r"^holds a \$\{NAME\} that") as caught:
                check_meant(text)
            self.assertNotIn("canary", str(caught.exception))

    def test_dollars_alone_are_a_part_of_it(self) -> None:
        """A dollar sign or braces alone are a part of the value."""
        for text in ("$KEY", "a$", "${}", "{KEY}", "$ {KEY}", "${KEY"):
            check_meant(text)
