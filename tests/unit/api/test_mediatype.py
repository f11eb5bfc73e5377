"""What a request's header fields declare its body to be."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.mediatype import check_media_type
from infergate.errors import UnsupportedMediaType

JSON = [b"application/json"]


class MediaTypes(SynchronousTestCase):
    def refusal(self, content_type: list[bytes], content_encoding: list[bytes]) -> str:
        error = self.assertRaises(
            UnsupportedMediaType, check_media_type, content_type, content_encoding
        )
        self.assertTrue(error.message.isprintable())
        return str(error.message)

    def test_json_in_utf_8_is_let_through_in_every_spelling(self) -> None:
        """JSON in UTF-8 is let through in every spelling of it, whatever else is said of it."""
        for value in (
            b"application/json",
            b"Application/JSON",
            b"application/json; charset=utf-8",
            b'application/json ;CHARSET="UTF-8"',
            b"application/json;charset=utf8",
            b'application/json; charset="utf8"',
            b"application/json;",
            b"application/json ; ; charset=utf-8 ;",
            b'application/json; boundary=a; profile="https://a;charset=latin-1"',
            b'application/json; q="a\\"b"; charset=utf-8',
        ):
            check_media_type([value], [])

    def test_anything_else_is_refused_with_the_option_of_curl_that_helps(self) -> None:
        """No type, two, another, another charset: the message says what to send."""
        for values in (
            [],
            [b""],
            [b"application/json", b"application/json"],
            [b"application/json, application/json"],
            [b"text/plain"],
            [b"application/x-www-form-urlencoded"],
            [b"application/jsonp"],
            [b"application/json-seq"],
            [b"application/json; charset=latin-1"],
            [b"application/json; charset=utf-8; charset=utf-16"],
            [b"application/json; charset = utf-8"],
            [b"application/json; charset='utf-8'"],
            [b"application/json; charset"],
            [b"application/json\n"],
            [b"application/json" + b" ;" * 5000 + b"x"],
            [b"application/json" + b"; a=b" * 3000 + b"; x"],
        ):
            self.assertIn("-H 'Content-Type: application/json'", self.refusal(values, []))

    def test_identity_is_no_content_coding(self) -> None:
        """To say that a body is not compressed is to say nothing."""
        for codings in ([], [b""], [b"identity"], [b"Identity, identity"], [b"identity", b" "]):
            check_media_type(JSON, codings)

    def test_content_coding_is_named_and_the_body_asked_for_uncompressed(self) -> None:
        """A compressed body is refused by the name of its coding; what is no name is not shown."""
        for codings in ([b"gzip"], [b"identity", b"gzip"], [b"identity,gzip"]):
            message = self.refusal(JSON, codings)
            self.assertIn("gzip", message)
            self.assertIn("uncompressed", message)
        for coding in (b"<b>", b"x" * 500, b"\x1b[2J", b"canary"):
            message = self.refusal(JSON, [coding])
            self.assertIn("uncompressed", message)
            self.assertNotIn(coding.decode(), message)
