"""Header fields that are known to be good."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from infergate.reactor.headers import Fields, written

LINES = b"X-A: 1\r\nX-A: 2\r\nAccept: x/y\r\n"
MADE = Headers({b"x-a": [b"1", b"2"], b"accept": [b"x/y"]})


class FieldsAreHeaders(SynchronousTestCase):
    def test_fields_read_as_twisted_reads_them(self) -> None:
        """Whoever takes Twisted's `Headers` finds in them what was put in."""
        fields = Fields(LINES)
        self.assertEqual(fields, MADE)
        self.assertEqual(list(fields.getAllRawHeaders()), list(MADE.getAllRawHeaders()))
        self.assertTrue(fields.hasHeader(b"x-a"))

    def test_written_fields_are_those_of_any_headers(self) -> None:
        """What goes out is written alike from our fields and from Twisted's."""
        self.assertEqual(written(Fields(LINES)), LINES)
        self.assertEqual(written(MADE), LINES)
