"""Who may see the page without a key: a person at the machine itself, and nobody whom a browser or
a proxy brings along."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from infergate.server.addresses import is_loopback

# A page of another origin, and a DNS name that was turned to 127.0.0.1, reach a loopback listener
# out of its operator's browser. Neither can have the browser send one of these.
_HOSTS = re.compile(rb"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)

_FORWARDING = re.compile(rb"forwarded|via|x-real-ip|x-forwarded-.*")


def at_the_machine(peer: str, fields: Mapping[bytes, Sequence[bytes]]) -> bool:
    """Say whether a request, with its header fields in lower case, comes from the machine itself:
    from a loopback address, under a name of it, and through no proxy.

    `peer` is the address of the other end of the connection, whatever a header field says. Called
    by the gateway for a request for the page that brings no key; such a request may see it.
    """
    hosts = fields.get(b"host", ())
    return (
        is_loopback(peer)
        and len(hosts) == 1
        and _HOSTS.fullmatch(hosts[0]) is not None
        and not any(_FORWARDING.fullmatch(name) for name in fields)
    )


def accepts_html(fields: Mapping[bytes, Sequence[bytes]]) -> bool:
    """Say whether a person's browser asks: its ``Accept`` field names ``text/html``.

    Called by the gateway for ``/``, which leads a browser to the page and is nothing to all others.
    """
    return any(b"text/html" in value.lower() for value in fields.get(b"accept", ()))
