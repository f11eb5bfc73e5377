"""The client's address behind proxies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.server.addresses import (
    MAX_HOPS,
    client_address,
    is_loopback,
    limit_key,
    parse_networks,
)

TRUSTED = parse_networks("10.0.0.0/8, 192.0.2.1, 2001:db8:1::/48")

# peer, X-Forwarded-For values, the client
CASES: list[tuple[str, list[bytes] | None, str]] = [
    ("203.0.113.9", None, "203.0.113.9"),
    ("203.0.113.9", [b"198.51.100.7"], "203.0.113.9"),
    ("192.0.2.2", [b"198.51.100.7"], "192.0.2.2"),
    ("10.1.1.1", None, "10.1.1.1"),
    ("10.1.1.1", [], "10.1.1.1"),
    ("10.1.1.1", [b""], "10.1.1.1"),
    ("10.1.1.1", [b"198.51.100.7"], "198.51.100.7"),
    ("10.1.1.1", [b"6.6.6.6, 198.51.100.7"], "198.51.100.7"),
    ("10.1.1.1", [b"6.6.6.6", b"198.51.100.7"], "198.51.100.7"),
    ("10.1.1.1", [b"6.6.6.6,198.51.100.7 ,\t192.0.2.1"], "198.51.100.7"),
    ("10.1.1.1", [b"6.6.6.6, 198.51.100.7", b"10.9.9.9"], "198.51.100.7"),
    ("10.1.1.1", [b"10.2.2.2, 10.3.3.3"], "10.2.2.2"),
    ("10.1.1.1", [b"6.6.6.6, unknown, 10.3.3.3"], "10.3.3.3"),
    ("10.1.1.1", [b"6.6.6.6, _hidden"], "10.1.1.1"),
    ("10.1.1.1", [b"6.6.6.6,"], "10.1.1.1"),
    ("10.1.1.1", [b"6.6.6.6, , 10.3.3.3"], "10.3.3.3"),
    ("10.1.1.1", [b"999.1.1.1"], "10.1.1.1"),
    ("10.1.1.1", [b"010.1.1.1"], "10.1.1.1"),
    ("10.1.1.1", [b"6.6.6.6 7.7.7.7"], "10.1.1.1"),
    ("10.1.1.1", [b"\xff\xfe"], "10.1.1.1"),
    ("10.1.1.1", ["٣.٣.٣.٣".encode()], "10.1.1.1"),
    ("10.1.1.1", [b"198.51.100.7:4711"], "198.51.100.7"),
    ("10.1.1.1", [b"198.51.100.7:"], "10.1.1.1"),
    ("10.1.1.1", [b"2001:DB8::0:7"], "2001:db8::7"),
    ("10.1.1.1", [b"[2001:db8::7]"], "2001:db8::7"),
    ("10.1.1.1", [b"[2001:db8::7]:443"], "2001:db8::7"),
    ("10.1.1.1", [b"[2001:db8::7"], "10.1.1.1"),
    ("10.1.1.1", [b"fe80::1%eth0"], "10.1.1.1"),
    ("10.1.1.1", [b"::ffff:198.51.100.7"], "198.51.100.7"),
    ("10.1.1.1", [b"6.6.6.6, ::ffff:10.3.3.3"], "6.6.6.6"),
    ("::ffff:10.1.1.1", [b"198.51.100.7"], "198.51.100.7"),
    ("::ffff:203.0.113.9", [b"198.51.100.7"], "203.0.113.9"),
    ("2001:db8:1::1", [b"198.51.100.7"], "198.51.100.7"),
    ("2001:db8:2::1", [b"198.51.100.7"], "2001:db8:2::1"),
    ("", [b"198.51.100.7"], ""),
    ("fe80::1%eth0", [b"198.51.100.7"], "fe80::1%eth0"),
]


class ClientAddressTests(SynchronousTestCase):
    """`client_address`."""

    def test_address_is_that_of_the_last_hop_not_trusted(self) -> None:
        """Only what trusted proxies have written is believed, up to the first that is not one."""
        for peer, values, client in CASES:
            self.assertEqual(client_address(peer, values, TRUSTED), client, (peer, values))

    def test_field_changes_nothing_where_nobody_is_trusted(self) -> None:
        """Without trusted proxies the field changes nothing."""
        self.assertEqual(client_address("10.1.1.1", [b"6.6.6.6"], ()), "10.1.1.1")

    def test_unix_peer_is_believed_where_unix_is_trusted(self) -> None:
        """Whoever comes by a Unix socket is believed where `unix` is trusted, and nobody else is;
        what that peer says of other hops is judged as ever."""
        unix = parse_networks("Unix, 10.0.0.0/8")
        for peer, values, trusted, client in (
            ("unix", [b"198.51.100.7"], unix, "198.51.100.7"),
            ("unix", [b"6.6.6.6, 198.51.100.7, 10.1.1.1"], unix, "198.51.100.7"),
            ("unix", [b"6.6.6.6, unix"], unix, "unix"),
            ("unix", None, unix, "unix"),
            ("unix", [b"198.51.100.7"], TRUSTED, "unix"),
            ("203.0.113.9", [b"198.51.100.7"], parse_networks("unix"), "203.0.113.9"),
            ("10.1.1.1", [b"6.6.6.6, unix"], unix, "10.1.1.1"),
        ):
            self.assertEqual(client_address(peer, values, trusted), client, (peer, values))

    @given(st.lists(st.text(alphabet="0123456789abcdef.:[], %", max_size=20), max_size=3))
    def test_what_a_client_claims_changes_nothing(self, forged: list[str]) -> None:
        """Nothing that a client sends ahead of what its proxy adds changes its address."""
        values = [*(item.encode() for item in forged), b"198.51.100.7"]
        self.assertEqual(client_address("10.1.1.1", values, TRUSTED), "198.51.100.7")

    @given(st.text(alphabet="0123456789abcdef.:[], %", max_size=30), st.binary(max_size=30))
    def test_any_field_gives_an_address(self, likely: str, other: bytes) -> None:
        """Whatever is in the field, the answer is an address that a network can be made of."""
        for value in [likely.encode(), other]:
            self.assertEqual(len(parse_networks(client_address("10.1.1.1", [value], TRUSTED))), 1)

    def test_list_is_read_no_further_than_needed(self) -> None:
        """A long list is read no further than the first hop that is not trusted."""
        values = [b"x," * 5000 + b"198.51.100.7"]
        self.assertEqual(client_address("10.1.1.1", values, TRUSTED), "198.51.100.7")

    def test_only_so_many_hops_are_looked_at(self) -> None:
        """A list of more trusted hops than any real one has costs no more than the bound."""
        hops = [b"10.0.%d.%d" % divmod(number, 250) for number in range(1500)]
        for values in ([b", ".join(hops)], hops):
            looked_at = hops[-MAX_HOPS].decode()
            self.assertEqual(client_address("10.1.1.1", values, TRUSTED), looked_at)
        within = [b"198.51.100.7", *hops[1 - MAX_HOPS :]]
        self.assertEqual(client_address("10.1.1.1", within, TRUSTED), "198.51.100.7")


class LimitKeyTests(SynchronousTestCase):
    """`limit_key`."""

    def test_ipv6_is_limited_by_its_network(self) -> None:
        """An IPv4 address is limited alone, an IPv6 one together with its whole /64."""
        for address, key in [
            ("198.51.100.7", "198.51.100.7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::", "2001:db8:1:3::/64"),
            ("::1", "::/64"),
            ("", ""),
            ("unix", "unix"),
        ]:
            self.assertEqual(limit_key(address), key)


class NetworksTests(SynchronousTestCase):
    """`parse_networks`."""

    def test_networks_of_both_families_are_read(self) -> None:
        """Addresses and networks of both families are read, blanks between them skipped."""
        text = " 10.0.0.0/8,192.0.2.1 ,, 2001:db8::/32"
        read = [str(network) for network in parse_networks(text)]
        self.assertEqual(read, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"])
        self.assertEqual(parse_networks(""), ())

    def test_what_is_no_network_is_refused(self) -> None:
        """Names, ranges and networks with bits beyond their prefix are told apart from nothing."""
        for text in ["localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0-10.0.0.9", "*", "1 2"]:
            self.assertRaises(ValueError, parse_networks, text)


class Loopback(SynchronousTestCase):
    def test_only_loopback_addresses_are_loopback(self) -> None:
        """An address that other machines may reach is never taken for one they may not."""
        for address in ("127.0.0.1", "127.8.8.8", "::1", "::1%lo", "::ffff:127.0.0.1"):
            self.assertTrue(is_loopback(address), address)
        for address in ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "localhost", ""):
            self.assertFalse(is_loopback(address), address)
