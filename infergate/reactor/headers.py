"""Header fields for a request of the gateway's own, in the bytes in which they go out.

Twisted's `Headers` encodes, checks and capitalizes every name and value whenever it is made, and
once more when it is read: with six fields that is 10 us, where to write them is less than 1.
"""

from __future__ import annotations

from twisted.web.http_headers import Headers

TWISTED_INTERNALS = {Headers: ("_rawHeaders",)}
"""Private names that are used here; a test checks each."""


class Fields(Headers):
    """Fields in `lines`, each of which ends in CRLF, with capitalized names (`X-Request-Id`) and
    good values: the maker, `Backend.send`, answers for both. Whoever asks for them as `Headers`
    gets them taken apart."""

    __slots__ = ("lines",)

    def __init__(self, lines: bytes) -> None:
        self.lines = lines

    @property
    def _rawHeaders(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        """Where Twisted's methods look for the fields."""
        fields: dict[bytes, list[bytes]] = {}
        for line in self.lines.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            fields.setdefault(name, []).append(value)
        return fields


def written(headers: Headers) -> bytes:
    """Return the lines of any header fields, as they go out. The backend's connection calls it to
    write the head of a request."""
    if isinstance(headers, Fields):
        return headers.lines
    fields = headers.getAllRawHeaders()
    return b"".join(b"%b: %b\r\n" % (name, value) for name, values in fields for value in values)
