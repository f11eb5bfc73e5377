"""The texts of settings: what is understood, and what is refused in which words."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.access.auth import Token
from infergate.access.keysfile import keys_from_text
from infergate.config import values
from infergate.server.addresses import parse_networks

# Not all of Unicode: a table of it would be made first, for longer than all the rest takes.
hostile = st.text(
    "az09.:,/[]@?#%-_=*\\ \t\n\r\0\x7f\xa0\u00e9\u0660\u2028\uff11\ud800\U0001f600", max_size=30
)


class Values(SynchronousTestCase):
    def refused(self, parse: Callable[[str], Any], *texts: str) -> None:
        for text in texts:
            with self.assertRaises(ValueError, msg=text) as caught:
                parse(text)
            self.assertRegex(str(caught.exception), r"\Amust [^\n]+\Z")

    def test_whole_numbers_are_ascii_digits_within_bounds(self) -> None:
        """Whole numbers are ASCII digits within bounds that the refusal names."""
        port = values.whole(0, 65535)
        self.assertEqual([port("0"), port("65535"), port("0080")], [0, 65535, 80])
        self.refused(port, "65536", "-1", "+1", "1.0", "1e3", "1_0", "٣", "abc", "9" * 5000)
        with self.assertRaisesRegex(ValueError, "must be a whole number from 0 to 65535"):
            port("x")
        self.assertEqual(values.whole(1)(str(2**53)), 2**53)

    def test_seconds_may_be_fractions_and_are_finite(self) -> None:
        """Seconds may be fractions, and are finite; zero only where it means something."""
        for text, value in (("5", 5.0), ("0.25", 0.25), (".5", 0.5), ("600", 600.0)):
            self.assertEqual(values.seconds(text), value)
            self.assertEqual(values.seconds_or_none(text), value)
        self.assertEqual(values.seconds_or_none("0"), 0)
        self.refused(values.seconds, "0", "0.0")
        for parse in (values.seconds, values.seconds_or_none):
            self.refused(parse, "-1", "nan", "inf", "1e3", "1_0", "5s", ".", "9" * 400)

    def test_line_holds_no_control_characters(self) -> None:
        """Text has no control characters, and nothing that is not Unicode."""
        self.assertEqual(values.line("größe 1"), "größe 1")
        self.refused(values.line, "a\nb", "\x1b[0m", "\udcff")

    def test_host_is_an_address_or_a_name(self) -> None:
        """A host is an address or a name."""
        for text in ("127.0.0.1", "::", "fe80::1%eth0", "localhost", "my_host.example"):
            self.assertEqual(values.host(text), text)
        self.refused(values.host, "[::1]", "a b", "http://a", "a/b", "hö")

    def test_choice_is_one_of_its_words_in_any_case(self) -> None:
        """A choice is one of its words, in any case."""
        self.assertEqual(values.choice("json", "text")("JSON"), "json")
        with self.assertRaisesRegex(ValueError, "must be a, b or c"):
            values.choice("a", "b", "c")("d")

    def test_backend_url(self) -> None:
        """A backend's URL is the base of its API, as SDKs take it: /v1 where it has no path, else
        as it stands; or the path of a socket."""
        for text, value in (
            ("http://localhost:8080", "http://localhost:8080/v1"),
            ("http://localhost:8080/", "http://localhost:8080/v1"),
            ("http://localhost:8080/v1", "http://localhost:8080/v1"),
            ("http://localhost:8080/v1/", "http://localhost:8080/v1"),
            ("HTTPS://Example.COM/Prefix/v1", "https://example.com/Prefix/v1"),
            ("https://host/api/paas/v4", "https://host/api/paas/v4"),
            ("https://host/v1beta/openai/", "https://host/v1beta/openai"),
            ("unix:/run/llama.sock", "unix:/run/llama.sock"),
            ("http://host/prefix", "http://host/prefix"),
            ("http://v1", "http://v1/v1"),
            ("http://v1/v1", "http://v1/v1"),
            ("http://[::1]:9000/v1", "http://[::1]:9000/v1"),
            ("http://10.0.0.1", "http://10.0.0.1/v1"),
            ("http://name_1.svc.", "http://name_1.svc./v1"),
        ):
            self.assertEqual(values.backend_url(text), value)

    def test_path(self) -> None:
        """A path begins with /, and may be empty."""
        for text in ("", "/", "/health", "/a/b?c=d"):
            self.assertEqual(values.path(text), text)
        self.refused(values.path, "health", "/a b", "/h\u00f6")

    def test_what_is_a_url_only_with_good_will_is_refused(self) -> None:
        """What would be a URL only with good will is refused."""
        for parse in (values.backend_url, values.base_url, values.url):
            self.refused(
                parse, "localhost:8080", "ftp://host", "http://", "http:///v1", "http://:80",
                "http://host:0", "http://host:65536", "http://host:x", "http://host:",
                "http://user:pw@host", "http://host#f", "http://ho st", "http://host/a b",
                "http://host\n", "http://h\tost", "http://hö", "http://[::1", "http://[::g]",
                "http://[]", "http://::1", "http://a..b", "http://host//v1", "http://host/\\",
                "http://host/%zz\x7f",
            )  # fmt: skip
        for text in (
            "http://host?a=b", "http://host/v1?", "http://h/v1/chat/completions",
            "unix:run/llama.sock", "unix:", "unix:/a\nb",
        ):  # fmt: skip
            self.refused(values.backend_url, text)

    def test_other_urls(self) -> None:
        """A URL may have a query, one that paths are put behind has not, and no / at its end."""
        keys = "https://host/realms/a/certs?format=jwks&v=1"
        self.assertEqual(values.url(keys), keys)
        self.assertEqual(values.base_url("http://host:4318/v1/"), "http://host:4318/v1")
        self.refused(values.base_url, keys)

    def test_header_token_cannot_end_its_header(self) -> None:
        """A key that goes into a header cannot end the header."""
        self.assertEqual(values.header_token("sk-1~!"), "sk-1~!")
        self.refused(values.header_token, "a b", "a\r\nHost: b", "ö", "\udcff")

    def test_keys_are_read_at_once_and_never_shown(self) -> None:
        """Keys are checked at once, in the text as in a file, and never shown."""
        path = Path(self.mktemp())
        path.write_text("# ours\nname:key-1\n")
        self.assertEqual(keys_from_text("name:key-1").authenticate(Token("key-1")), "name")
        read = values.api_keys_file(str(path))
        self.assertEqual(
            (read.path, read.content.ring.authenticate(Token("key-1"))), (str(path), "name")
        )
        path.write_text("canary with spaces")
        for parse, text in ((keys_from_text, "canary with spaces"), (keys_from_text, ",")):
            with self.assertRaises(ValueError) as caught:
                parse(text)
            self.assertNotIn("canary", str(caught.exception))
        with self.assertRaises(ValueError) as caught:
            values.api_keys_file(str(path))
        self.assertNotIn("canary", str(caught.exception))
        with self.assertRaisesRegex(ValueError, "must be a file that can be read: No such file"):
            values.api_keys_file(self.mktemp())

    def test_algorithms_come_out_of_a_closed_list_without_none(self) -> None:
        """The algorithms of tokens come out of a closed list, without none."""
        self.assertEqual(values.algorithms("RS256, EdDSA"), ("RS256", "EdDSA"))
        self.refused(values.algorithms, "none", "RS256,None", "rs256", "RS256,", "HS1")

    def test_networks_with_bits_past_the_prefix_are_refused(self) -> None:
        """Proxies are addresses and networks; bits past the prefix are a mistake."""
        networks = (ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("::1"))
        self.assertEqual(parse_networks("127.0.0.1, 10.0.0.0/8,::1"), networks)
        self.refused(parse_networks, "10.0.0.1/8", "proxy", "1.2.3.4\n,x", "::1/129")

    @given(hostile.map("http://h".__add__) | hostile)
    def test_hostile_text_is_a_value_or_refused_in_one_line(self, text: str) -> None:
        """Whatever a text holds, a value is given or one printable line says why not."""
        for parse in (
            values.whole(1), values.seconds, values.line, values.host, values.backend_url,
            values.url, values.header_token, keys_from_text, values.algorithms, parse_networks,
        ):  # fmt: skip
            try:
                value = parse(text)
            except ValueError as why:
                self.assertTrue(str(why).isprintable())
            else:
                if parse is values.backend_url:
                    self.assertTrue(re.fullmatch(r"https?://[!-~]*[^/]", value))
