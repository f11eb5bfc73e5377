"""Header fields that are known to be good."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from infergate.reactor.headers import Fields


class FieldsAreHeaders(SynchronousTestCase):
    def test_fields_read_as_twisted_reads_them(self) -> None:
        """Whoever takes Twisted's `Headers` finds in them what was put in."""
        fields = Fields({b"X-A": [b"1", b"2"], b"Accept": [b"x/y"]})
        made = Headers({b"x-a": [b"1", b"2"], b"accept": [b"x/y"]})
        self.assertEqual(fields, made)
        self.assertEqual(list(fields.getAllRawHeaders()), list(made.getAllRawHeaders()))
        self.assertTrue(fields.hasHeader(b"x-a"))

    def test_copy_is_changed_alone(self) -> None:
        """What is added to a copy, or taken from it, stays with the copy."""
        fields = Fields({b"X-A": [b"1"]})
        copied = fields.copy()
        copied.addRawHeader(b"Accept-Encoding", b"gzip")
        copied.removeHeader(b"X-A")
        self.assertEqual(list(fields.getAllRawHeaders()), [(b"X-A", [b"1"])])
        self.assertEqual(list(copied.getAllRawHeaders()), [(b"Accept-Encoding", [b"gzip"])])
