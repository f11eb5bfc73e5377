"""Which web pages may call the gateway (CORS, by the Fetch standard of the WHATWG).

A browser lets a page of another origin read an answer only where the answer names that origin,
and asks with a preflight before it sends JSON or a key. Nothing here keeps anybody out: that is
for keys. Credentials that a browser sends by itself, such as cookies, are never asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import attrs

from infergate.errors import HeaderList

Fields = Mapping[bytes, Sequence[bytes]]
"""A request's header fields, by their names in lower case."""

EXPOSED = b", ".join(
    [
        b"X-Request-ID",
        b"Retry-After",
        b"Server-Timing",
        *(
            b"x-ratelimit-%b-%b" % (what, of)
            for of in (b"requests", b"tokens")
            for what in (b"limit", b"remaining", b"reset")
        ),
    ]
)
"""The header fields of an answer that a page may read, beside those that it always may."""

METHODS = b"GET, HEAD, POST"

PREFLIGHT_AGE = b"600"
"""Seconds for which a browser need not ask again; Chromium caps it at 7,200."""

# scheme://host or scheme://host:port, and what sandboxed and file pages call themselves.
_ORIGIN = re.compile(
    r"null|(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::(?P<port>[0-9]{1,5}))?"
)
_USUAL_PORTS = {"http": "80", "https": "443"}
_FIELD_NAMES = re.compile(rb"[\w!#$%&'*+.^`|~-]+(?:[ \t]*,[ \t]*[\w!#$%&'*+.^`|~-]+)*")


@attrs.frozen
class Origins:
    """The origins that are listed, and what is answered to their pages; `any_origin` stands for all
    there are. The paths in `closed` are for pages of the gateway's own origin alone, whichever
    others are listed. Nothing here raises anything."""

    listed: frozenset[bytes] = frozenset()
    any_origin: bool = False
    closed: frozenset[bytes] = frozenset()

    def answer_fields(self, fields: Fields, path: bytes) -> HeaderList:
        """Return the header fields that every answer to a request with these `fields` for `path`
        carries: none where it comes from no page, or from a page of an origin that is not listed.

        Called when a `Request` is made, and for a refusal of what never became one.
        """
        origin = self._allowed(fields, path)
        if origin is None:
            return []
        return [
            (b"Access-Control-Allow-Origin", origin),
            (b"Access-Control-Expose-Headers", EXPOSED),
            (b"Vary", b"Origin"),
        ]

    def preflight_fields(self, fields: Fields, path: bytes) -> HeaderList | None:
        """Return what the answer to an ``OPTIONS`` request with these `fields` carries beside
        `answer_fields`; None where it is no preflight, or not of a listed origin.

        Called by the gateway for ``OPTIONS``, for which no path has a route. The page may send
        whatever header fields it asks for.
        """
        if b"access-control-request-method" not in fields or self._allowed(fields, path) is None:
            return None
        answer = [
            (b"Access-Control-Allow-Methods", METHODS),
            (b"Access-Control-Max-Age", PREFLIGHT_AGE),
        ]
        asked = b",".join(fields.get(b"access-control-request-headers", ()))
        if _FIELD_NAMES.fullmatch(asked):
            answer.append((b"Access-Control-Allow-Headers", asked))
        return answer

    def _allowed(self, fields: Fields, path: bytes) -> bytes | None:
        """Return what to name as the allowed origin, ``*`` or the request's own; None where its
        page may not read the answer. Called by `answer_fields` and `preflight_fields`."""
        origins = fields.get(b"origin", ())
        if len(origins) != 1 or path in self.closed:
            return None
        if self.any_origin:
            return b"*"
        return origins[0] if origins[0] in self.listed else None


NO_ORIGINS = Origins()
"""No page of another origin may call."""


def parse_origins(text: str) -> Origins:
    """Read ``*``, or comma-separated origins as browsers send them, as in
    ``https://chat.example,http://localhost:3000``.

    Called with the setting `CORS_ORIGINS`. Raises `ValueError` with what is allowed, in words that
    can follow the setting's name.
    """
    items = [item.strip() for item in text.split(",")]
    if items == ["*"]:
        return Origins(any_origin=True)
    return Origins(frozenset(_origin(item) for item in items))


def _origin(text: str) -> bytes:
    """Return one origin as browsers write it, in small letters and without the scheme's own port:
    ``https://Chat.Example:443`` is ``https://chat.example``. Raises `ValueError` for what is none.
    Called by `parse_origins` for each."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        raise ValueError(
            "must be *, or origins without a path, separated by commas, as in "
            "https://chat.example,http://localhost:3000"
        )
    # Browsers leave out the port that is the scheme's own.
    usual = match["port"] is not None and match["port"] == _USUAL_PORTS.get(match["scheme"])
    written = match[0].rpartition(":")[0] if usual else match[0]
    return written.encode("ascii")
