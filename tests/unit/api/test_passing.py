"""Header fields that an operator lets through."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.passing import forwarded, parse_forwarded, parse_returned, returned


class Names(SynchronousTestCase):
    def test_names_are_taken_in_any_case(self) -> None:
        """A list of names, each once, whatever its case and the spaces around it."""
        for parse in (parse_forwarded, parse_returned):
            self.assertEqual(parse("X-A, x-b,x-a"), (b"x-a", b"x-b"))

    def test_what_never_passes_is_refused(self) -> None:
        """Credentials, cookies, and what belongs to one connection pass in neither direction, and
        what the gateway says itself is not said twice."""
        for name in (
            "Authorization", "Proxy-Authorization", "X-API-Key", "Api-Key", "Cookie", "Set-Cookie",
            "Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Host",
            "Content-Length", "Content-Encoding", "Accept-Encoding", "Expect", "Content-Type",
            "X-Request-ID", "x-a,Cookie",
        ):  # fmt: skip
            for parse in (parse_forwarded, parse_returned):
                self.assertRaises(ValueError, parse, name)
        for name in ("Date", "Retry-After", "x-should-retry", "Access-Control-Allow-Origin"):
            self.assertRaises(ValueError, parse_returned, name)
            self.assertEqual(parse_forwarded(name), (name.lower().encode(),))

    def test_what_is_no_name_is_refused(self) -> None:
        """An empty name, and one that no header field can have."""
        for text in ("", "a,,b", "a b", "a:b", "h\u00f6"):
            self.assertRaises(ValueError, parse_forwarded, text)


class Passing(SynchronousTestCase):
    def test_named_fields_pass_with_all_their_values(self) -> None:
        """What was named passes, and nothing else."""
        fields = {b"x-a": [b"1", b"2"], b"x-b": [b"3"]}
        self.assertEqual(forwarded(fields, (b"x-a", b"x-c")), b"X-A: 1\r\nX-A: 2\r\n")
        self.assertEqual(forwarded(fields, (b"x-b", b"x-b")), b"X-B: 3\r\n")
        expected = [(b"X-A", b"1"), (b"X-A", b"2")]
        self.assertEqual(returned(fields, (b"x-a", b"x-c"), ()), expected)

    def test_what_each_request_says_of_itself_is_not_forwarded(self) -> None:
        """What the gateway says to the backend itself is said once, whatever the settings name."""
        fields = {b"accept": [b"x/y"], b"traceparent": [b"1"], b"x-b": [b"2"]}
        self.assertEqual(forwarded(fields, tuple(fields)), b"X-B: 2\r\n")

    def test_what_the_gateway_said_is_not_said_again(self) -> None:
        """A field that the gateway's answer has already is the gateway's."""
        fields = {b"x-ratelimit-limit-requests": [b"1"], b"x-b": [b"2"]}
        names = (b"x-ratelimit-limit-requests", b"x-b")
        said = returned(fields, names, (b"X-RateLimit-Limit-Requests",))
        self.assertEqual(said, [(b"X-B", b"2")])


class Values(SynchronousTestCase):
    def test_value_that_no_field_may_have_is_left_out(self) -> None:
        """A backend cannot put a control character into an answer."""
        fields = {b"x-a": [b"good", b"\0", b"a\x1bb", b""], b"x-b": [b"\xe4 \t."]}
        self.assertEqual(
            returned(fields, (b"x-a", b"x-b"), ()), [(b"X-A", b"good"), (b"X-B", b"\xe4 \t.")]
        )
