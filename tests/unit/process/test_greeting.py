"""The line that says at start what runs."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from infergate import __version__
from infergate.config.loading import load
from infergate.config.settings import Settings
from infergate.process.greeting import start_line, url

HERE = IPv4Address("TCP", "127.0.0.1", 8080)


class StartLine(SynchronousTestCase):
    def test_says_all_that_an_operator_asks_first(self) -> None:
        """It holds the version, the URL to open, the backend, the operations, whether a key is
        needed and the limits that are on."""
        given = {"BACKEND_URL": "http://b:9/v1", "API_KEYS": "a:canary", "RATE_LIMIT": "5/hour"}
        settings = load({}, {**given, "ROUTES": "embeddings,Chat"}, {})
        self.assertEqual(
            start_line(settings, HERE),
            f"infergate {__version__} at http://127.0.0.1:8080; backend: http://b:9/v1; "
            "operations: chat, embeddings; keys needed; limits: RATE_LIMIT=5/hour",
        )

    def test_says_whether_keys_have_limits_of_their_own(self) -> None:
        """Limits in the keys file are said to be on where there are any."""
        path = Path(self.mktemp())
        for lines, limits in (
            ("a:0123456789abcdef models=m\n", "limits: MAX_CONCURRENT_REQUESTS=4"),
            ("a:0123456789abcdef rate=1/hour\n", "=4, those of API_KEYS_FILE"),
            ("a:0123456789abcdef\n* tokens=5/day\n", "=4, those of API_KEYS_FILE"),
        ):
            path.write_text(lines)
            environ = {"API_KEYS_FILE": str(path), "MAX_CONCURRENT_REQUESTS": "4"}
            line = start_line(load({}, environ, {}), HERE)
            self.assertTrue(line.endswith(limits), line)

    def test_says_what_there_is_not(self) -> None:
        """Without a backend it is an echo; without keys and limits it says so."""
        line = start_line(Settings(), HERE)
        for words in ("backend: echo;", "no key needed;", "limits: none"):
            self.assertIn(words, line)


class Url(SynchronousTestCase):
    def test_is_what_to_open(self) -> None:
        """Of a port it is its URL, of a Unix socket its path."""
        there = IPv6Address("TCP", "::1", 443)
        for address, endpoint, expected in (
            (HERE, None, "http://127.0.0.1:8080"),
            (HERE, "haproxy:tcp:8080", "http://127.0.0.1:8080"),
            (there, "tls:/certificates", "https://[::1]:443"),
            (there, "haproxy:ssl:443", "https://[::1]:443"),
            (UNIXAddress(b"/run/gate"), "unix:/run/gate", "unix:/run/gate"),
        ):
            self.assertEqual(url(address, endpoint), expected)
