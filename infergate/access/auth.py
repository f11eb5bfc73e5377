"""Who is calling: credentials out of a request's head, and API keys.

A key is kept as its SHA-256 digest and nothing else: keys are long random strings, so a
slow password hash would add nothing but its cost to each request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from infergate.errors import Unauthorized

MAX_TOKEN_BYTES = 8192
"""The longest key or token: room for a JWT with many claims, and a bound on what is hashed."""

# Visible ASCII but for the comma, which joins two fields into one (RFC 9110, 5.3).
_TOKEN = rf"([!-+\--~]{{1,{MAX_TOKEN_BYTES}}})"
_CREDENTIALS = re.compile(rb"(?:bearer|api-key) +" + _TOKEN.encode(), re.IGNORECASE)
# What `Authorization` begins with where it is meant for us: the scheme as a whole word.
_SCHEME = re.compile(rb"(?:bearer|api-key)(?![\w!#$%&'*+.^`|~-])", re.IGNORECASE)
_BARE = re.compile(_TOKEN.encode())
_KEY = re.compile(_TOKEN)
_DIGEST = re.compile("[0-9a-f]{64}", re.IGNORECASE)


class IAuthenticator(Interface):
    """Knows callers by their tokens. `Admission` asks it once for each request that needs a key,
    when the request's head is complete."""

    def authenticate(token: str) -> str | Deferred[str]:
        """Give the caller's name, as a Deferred only where it must be waited for.

        Raises, or fails with, `Unauthorized`: always the same, whatever is wrong.
        """


def credentials(fields: Mapping[bytes, Sequence[bytes]]) -> str:
    """Take the token out of a request's header fields, whose names are in lower case.

    Credentials are ``Authorization: Bearer T`` or ``Authorization: Api-Key T``, the scheme in
    any case and one or more spaces after it (RFC 9110, 11.4; RFC 6750, 2.1); else
    ``x-api-key: T``, as Anthropic's clients send; else ``api-key: T``, as Azure's do. The first
    of these that is there decides. An `Authorization` of another scheme, such as the Basic that
    a proxy in front asked for, is passed over. Raises `Unauthorized` where there are none, or
    where those that decide are malformed or there twice.
    """
    authorization = fields.get(b"authorization", ())
    if any(_SCHEME.match(value) for value in authorization):
        return _token(_CREDENTIALS, authorization)
    for name in (b"x-api-key", b"api-key"):
        values = fields.get(name)
        if values:
            return _token(_BARE, values)
    raise Unauthorized


def _token(form: re.Pattern[bytes], values: Sequence[bytes]) -> str:
    match = form.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        raise Unauthorized
    return match[1].decode("ascii")


@implementer(IAuthenticator)
@attrs.frozen(eq=False)
class KeyRing:
    """API keys: SHA-256 digests, each with the name of its caller. Made by `keys_from_text` and
    `keys_from_file`; its repr shows neither."""

    _names: dict[bytes, str] = attrs.field(repr=False)

    def authenticate(self, token: str) -> str:
        """Look the token up by its digest, which costs the same with one key and with 100,000.

        How long the look-up takes depends on the digest of what was sent. Whoever guesses keys
        cannot choose digests that come near that of a real key, so the time tells nothing.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        caller = self._names.get(digest)
        if caller is None:
            raise Unauthorized
        return caller


@implementer(IAuthenticator)
@attrs.frozen(eq=False)
class AnyOf:
    """Lets in whom one of several lets in. They are asked in order, up to the first that
    knows the caller or has to wait."""

    authenticators: Sequence[IAuthenticator] = attrs.field(validator=attrs.validators.min_len(1))

    def authenticate(self, token: str) -> str | Deferred[str]:
        *others, last = self.authenticators
        for authenticator in others:
            try:
                return authenticator.authenticate(token)
            except Unauthorized:
                continue
        return last.authenticate(token)


def keys_from_text(text: str) -> KeyRing:
    """The keys of `API_KEYS`; raises as `parse_keys` does."""
    return parse_keys(text.split(","))


def keys_from_file(path: str | Path) -> KeyRing:
    """The keys of `API_KEYS_FILE`; raises `OSError`, and `ValueError` as `parse_keys` does."""
    # An editor's byte order mark would become a part of the first key, and an error in
    # the decoding would hold the whole file.
    lines = Path(path).read_text("utf-8-sig", "replace").split("\n")
    return parse_keys(("" if line.lstrip().startswith("#") else line for line in lines), "line")


def parse_keys(items: Iterable[str], what: str = "entry") -> KeyRing:
    """Read ``key``, ``name:key``, ``sha256:<hex>`` and ``name:sha256:<hex>``, skipping blanks.

    One name may have several keys, so that a key can be replaced without a gap. Raises
    `ValueError`, which names `what` is wrong by its position and shows no key, for an entry
    that is none of these, one key under two names, and where there is no key at all.
    """
    names: dict[bytes, str] = {}
    for number, item in enumerate(items, 1):
        if not item.strip():
            continue
        digest, name = _read(item.strip(), f"{what} {number}")
        if names.setdefault(digest, name) != name:
            raise ValueError(f"{what} {number}: the same key has another name further up")
    if not names:
        raise ValueError("there is no key in it")
    return KeyRing(names)


def _read(entry: str, where: str) -> tuple[bytes, str]:
    """The digest and the caller's name of one entry."""
    name, colon, key = entry.partition(":")
    if not colon or name == "sha256":
        name, key = "", entry
    elif not name or not name.isprintable():
        raise ValueError(f"{where}: the name before the colon is empty or not printable")
    if key.startswith("sha256:"):
        written = key.removeprefix("sha256:")
        if not _DIGEST.fullmatch(written):
            raise ValueError(f"{where}: sha256: takes 64 hex digits")
        digest = bytes.fromhex(written)
    elif _KEY.fullmatch(key):
        digest = hashlib.sha256(key.encode()).digest()
    else:
        raise ValueError(
            f"{where}: a key is 1 to {MAX_TOKEN_BYTES} visible ASCII characters but the comma"
        )
    return digest, name or f"key-{digest.hex()[:8]}"
