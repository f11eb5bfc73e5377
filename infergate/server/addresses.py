"""Whose address a request came from, and how much of it counts as one client."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

UNIX: Literal["unix"] = "unix"
"""The peer of a Unix socket, which has no address; among networks, whoever comes by one."""

Networks = tuple[IPv4Network | IPv6Network | Literal["unix"], ...]

IPV6_CLIENT_PREFIX = 64
"""Bits of an IPv6 address that one host cannot choose: it owns all the rest (RFC 4291, 2.5.4)."""

MAX_HOPS = 32
"""Entries of ``X-Forwarded-For`` that are looked at, from its end. No real chain of trusted proxies
is longer, and each entry costs some 10 us to parse."""

_IPV6_HOST_BITS = 128 - IPV6_CLIENT_PREFIX

_HOP = re.compile(
    r"\[(?P<bracketed>[0-9a-f:.]+)\](?::[0-9]{1,5})?"
    r"|(?P<four>[0-9.]+)(?::[0-9]{1,5})?"
    r"|(?P<six>[0-9a-f:.]+)",
    re.IGNORECASE | re.ASCII,
)


def parse_networks(text: str) -> Networks:
    """Read comma-separated addresses, networks and `UNIX`, as in ``127.0.0.1,10.0.0.0/8,unix``, and
    return them in that order.

    Called with the setting `TRUSTED_PROXIES` and with a key's option `from=`. Raises `ValueError`
    with what is allowed, in words that can follow a setting's name.
    """
    items = [item.strip() for item in text.split(",")]
    try:
        return tuple(
            UNIX if item.lower() == UNIX else ipaddress.ip_network(item) for item in items if item
        )
    except ValueError:
        raise ValueError(
            "must be addresses, networks without a bit set past the prefix, or unix, separated by "
            "commas, as in 127.0.0.1,10.0.0.0/8"
        ) from None


def client_address(peer: str, forwarded_for: Sequence[bytes] | None, trusted: Networks) -> str:
    """Return the address of the client behind `peer`, given all ``X-Forwarded-For`` values, None
    where there are none.

    Each proxy appends the address it was called from, so the list is read from its end and no
    further than the first hop that is not trusted: what stands before it is hearsay. An entry that
    is no address ends the reading too, and so does the `MAX_HOPS`-th: a client behind more proxies
    than that has the address of the last of these that was looked at.

    An IPv4 address in IPv6 form (RFC 4291, 2.5.5.2) is given in its own; a peer without an address
    as it is. Of these only `UNIX` can be trusted.

    Called once for each request, when its `Request` is made. Raises nothing, whatever a client
    sends.
    """
    if not trusted or not forwarded_for:
        forwarded_for = ()
        if ":" not in peer:
            return peer  # as nearly always: not worth the parsing
    address = _parse(peer)
    if address is None and peer != UNIX:
        return peer
    entries = b",".join(forwarded_for).decode("latin-1").rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    while entries and _is_trusted(address, trusted):
        hop = _parse_hop(entries.pop().strip(" \t"))
        if hop is None:
            break
        address = hop
    return str(address or peer)


def _is_trusted(address: IPv4Address | IPv6Address | None, trusted: Networks) -> bool:
    """Return whether `trusted` holds an address; None is the peer of a Unix socket. Called by
    `client_address` for each hop. Raises nothing."""
    if address is None:
        return UNIX in trusted
    return any(network != UNIX and address in network for network in trusted)


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches `address`, which may carry an IPv6 zone
    (``fe80::1%eth0``).

    Asked of the address that the gateway listens on, for a warning, and of a client that would see
    the status page without a key. What is no address is not: returns False, and raises nothing.
    """
    parsed = _parse(address.partition("%")[0])
    return parsed is not None and parsed.is_loopback


def limit_key(address: str) -> str:
    """Return what of `address` to limit by: an IPv4 address as it is, of IPv6 the /64 network, as
    in ``2001:db8::/64``. What is no address is returned as it is.

    Called by `Roster.stranger` with the client's address of a request.
    """
    parsed = _parse(address) if ":" in address else None
    if isinstance(parsed, IPv6Address):
        network = int(parsed) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS
        return f"{IPv6Address(network)}/{IPV6_CLIENT_PREFIX}"
    return str(parsed or address)


def _parse_hop(entry: str) -> IPv4Address | IPv6Address | None:
    """Return the address in one entry of ``X-Forwarded-For``, or None where it is no address. It
    may carry a port, and brackets around an IPv6 address (RFC 7239, 6): ``192.0.2.7:443``,
    ``[2001:db8::1]:443``."""
    match = _HOP.fullmatch(entry)
    return match and _parse(match["bracketed"] or match["four"] or match["six"])


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address that `text` is, an IPv4 address in IPv6 form as IPv4; None for any other
    text. Called wherever an address is read; raises nothing."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
