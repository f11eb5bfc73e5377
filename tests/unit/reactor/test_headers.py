"""Header fields that are known to be good."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from infergate.reactor.headers import Fields, raw_fields


class FieldsAreHeaders(SynchronousTestCase):
    def test_fields_read_as_twisted_reads_them(self) -> None:
        """Whoever takes Twisted's `Headers` finds in them what was put in."""
        fields = Fields({b"X-A": [b"1", b"2"], b"Accept": [b"x/y"]})
        made = Headers({b"x-a": [b"1", b"2"], b"accept": [b"x/y"]})
        self.assertEqual(fields, made)
        self.assertEqual(list(fields.getAllRawHeaders()), list(made.getAllRawHeaders()))
        self.assertTrue(fields.hasHeader(b"x-a"))

    def test_raw_fields_are_those_of_any_headers(self) -> None:
        """What is written to the wire is read alike from our fields and from Twisted's."""
        raw = {b"X-A": [b"1", b"2"], b"Accept": [b"x/y"]}
        self.assertEqual(raw_fields(Fields(raw)), raw)
        self.assertEqual(raw_fields(Headers({b"x-a": [b"1", b"2"], b"accept": [b"x/y"]})), raw)
