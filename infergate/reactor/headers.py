"""Header fields for a request of the gateway's own, made and read without a look at each.

Twisted's `Headers` encodes, checks and capitalizes every name and value whenever it is made, and
once more when it is read: with six fields that is 10 us in place of 1.
"""

from __future__ import annotations

from twisted.web.http_headers import Headers

TWISTED_INTERNALS = {Headers: ("_rawHeaders",)}
"""Private names that are used here; a test checks each."""


class Fields(Headers):
    """Fields whose names are capitalized as Twisted has them (`X-Request-Id`) and whose values hold
    no line feed; the maker, `Backend.send`, answers for both. `fields` belongs to this object from
    then on."""

    __slots__ = ()

    def __init__(self, fields: dict[bytes, list[bytes]]) -> None:
        self._rawHeaders = fields


def raw_fields(headers: Headers) -> dict[bytes, list[bytes]]:
    """Return all fields as they stand, names capitalized; to be read, not changed. The backend's
    connection calls it to write the head of a request."""
    return headers._rawHeaders
