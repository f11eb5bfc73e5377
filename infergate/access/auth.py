"""Who is calling: credentials out of a request's head, and API keys.

An authenticator (`IAuthenticator`) turns a token, that is any credential that a client sends, into
the name of a caller. There are three: `KeyRing` here for API keys, `jwts.TokenVerifier` for JSON
Web Tokens, and `AnyOf` here, which asks several in turn.

A key is kept as its SHA-256 digest and nothing else: keys are long random strings, so a slow
password hash would add nothing but its cost to each request.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from infergate.errors import KeyExpired, Unauthorized

MAX_TOKEN_BYTES = 8192
"""The longest key or token: room for a JWT with many claims, and a bound on what is hashed."""

CREDENTIALS = (b"authorization", b"x-api-key", b"api-key")
"""The header fields in which they may stand, in the order in which they decide."""

# Visible ASCII but for the comma, which joins two fields into one (RFC 9110, 5.3).
TOKEN = rf"([!-+\--~]{{1,{MAX_TOKEN_BYTES}}})"
_CREDENTIALS = re.compile(rb"(?:bearer|api-key) +" + TOKEN.encode(), re.IGNORECASE)
# What `Authorization` begins with where it is meant for us: the scheme as a whole word.
_SCHEME = re.compile(rb"(?:bearer|api-key)(?![\w!#$%&'*+.^`|~-])", re.IGNORECASE)
_BASIC = re.compile(rb"basic +([A-Za-z0-9+/=]{1,16384})", re.IGNORECASE)
_BARE = re.compile(TOKEN.encode())


@attrs.frozen(eq=False)
class Token:
    """A token, and the SHA-256 digest that a key is looked up by; its repr shows neither. Made once
    for the heads of a connection that bear it, by `token_of`."""

    text: str = attrs.field(repr=False)

    @cached_property
    def digest(self) -> bytes:
        """The digest, made for who first asks: for `KeyRing`."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).digest()


class IAuthenticator(Interface):
    """Knows callers by their tokens. `Admission` asks it once for each request that needs a key,
    when the request's head is complete."""

    def authenticate(token: Token) -> str | Deferred[str]:
        """Return the name of the caller that `token` belongs to, as a Deferred only where it must
        be waited for, as for a public key that is fetched first.

        Raises, or has the Deferred fail with, `KeyExpired` for a key that was right until its last
        day, else `Unauthorized`: always the same, whatever is wrong.
        """


def credentials(fields: Mapping[bytes, Sequence[bytes]], *, basic: bool = False) -> str:
    """Return the token among a request's header fields, whose names are in lower case.

    Called by `token_of` and `token_or_password`. Credentials are ``Authorization:
    Bearer T`` or ``Authorization: Api-Key T``, the scheme in any case and one or more spaces after
    it (RFC 9110, 11.4; RFC 6750, 2.1); else ``x-api-key: T``, as Anthropic's clients send; else
    ``api-key: T``, as Azure's do. The first of these that is there decides. An `Authorization` of
    another scheme, such as the Basic that a proxy in front asked for, is passed over. Raises
    `Unauthorized` where there are none, or where those that decide are malformed or there twice.

    With `basic` the password of ``Authorization: Basic`` is a token too, whatever the user's name
    (RFC 7617): a browser can put no other credentials on a page that it opens.
    """
    authorization = fields.get(b"authorization", ())
    if basic and len(authorization) == 1 and (match := _BASIC.fullmatch(authorization[0])):
        return _token(_BARE, [_password(match[1])])
    for value in authorization:
        if _SCHEME.match(value):
            return _token(_CREDENTIALS, authorization)
    for name in CREDENTIALS[1:]:
        values = fields.get(name)
        if values:
            return _token(_BARE, values)
    raise Unauthorized


def token_of(fields: Mapping[bytes, Sequence[bytes]]) -> Token:
    """Return the token in `CREDENTIALS`; `credentials` says which, and what it raises. `Admission`
    asks for it by ``head.of_fields``: a client that sends its key again is not read again."""
    return Token(credentials(fields))


def token_or_password(fields: Mapping[bytes, Sequence[bytes]]) -> Token:
    """Return the token in `CREDENTIALS`, or the password with which a browser opens a page, as
    `credentials` says of ``basic``. Raises what that does."""
    return Token(credentials(fields, basic=True))


def _password(encoded: bytes) -> bytes:
    """Return the password out of the base64 of ``user:password`` (RFC 7617, 2), empty where there
    is no colon; raises `Unauthorized` for what is not base64. Called by `credentials` with `basic`
    alone."""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except ValueError:
        raise Unauthorized from None


def _token(form: re.Pattern[bytes], values: Sequence[bytes]) -> str:
    """Check that there is one value and that it has the `form`, and return the token in it; raises
    `Unauthorized` otherwise. A header field that came twice says two things, and neither is
    believed. Called by `credentials` with the values of the header field that decides."""
    match = form.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        raise Unauthorized
    return match[1].decode("ascii")


@implementer(IAuthenticator)
@attrs.frozen(eq=False)
class KeyRing:
    """API keys: SHA-256 digests, each with the name of its caller. Made in `keysfile`; its repr
    shows no digest. `Admission` asks `authenticate` for each request, directly or through `AnyOf`;
    the other methods are for the wiring, the reload and the warnings at the start.

    `expires` has the first second, of those since 1970, in which a key does not work any more, for
    those keys that expire. `short` are the names of keys that are easy to guess; `plain`: keys
    stand readable where these came from. `now` is the wall clock.
    """

    _names: dict[bytes, str] = attrs.field(repr=False)
    _expires: dict[bytes, float] = attrs.field(factory=dict, repr=False)
    short: tuple[str, ...] = ()
    plain: bool = False
    now: Callable[[], float] = attrs.field(default=time.time, repr=False)

    def __len__(self) -> int:
        """Return the number of keys: a name may have several."""
        return len(self._names)

    @property
    def names(self) -> list[str]:
        """The names of the callers, each once, in the order in which they were written. Read by the
        wiring, for the roster."""
        return list(dict.fromkeys(self._names.values()))

    def keys_by_name(self) -> dict[str, set[tuple[bytes, float | None]]]:
        """Return the digests of each name's keys, each with the second at which it expires or None.
        Called by `process.reload`, which tells from two of these what a reload has added, changed
        and removed."""
        keys: dict[str, set[tuple[bytes, float | None]]] = {}
        for digest, name in self._names.items():
            keys.setdefault(name, set()).add((digest, self._expires.get(digest)))
        return keys

    def authenticate(self, token: Token) -> str:
        """Return the name of the caller whose key `token` is; raises `Unauthorized` for one that is
        not known, `KeyExpired` for one past its last day. Never waits. The token is looked up by
        its digest, which costs the same with one key and with 100,000.

        How long the look-up takes depends on the digest of what was sent. Who guesses keys cannot
        choose digests that come near that of a real key, so the time tells nothing.
        """
        digest = token.digest
        caller = self._names.get(digest)
        if caller is None:
            raise Unauthorized
        if digest in self._expires and self.now() >= self._expires[digest]:
            raise KeyExpired(caller)
        return caller


@implementer(IAuthenticator)
@attrs.frozen(eq=False)
class AnyOf:
    """Lets in whom one of several lets in: API keys, and tokens last. They are asked in order, up
    to the first that knows the caller or has to wait. Made by `wiring.callers` where the settings
    name more than one kind of credentials; `Admission` asks it as it would ask a `KeyRing`."""

    authenticators: Sequence[IAuthenticator] = attrs.field(validator=attrs.validators.min_len(1))

    def authenticate(self, token: Token) -> str | Deferred[str]:
        """Return the name that the first authenticator that knows `token` gives it, or the last
        one's answer, which may be a Deferred. Raises `KeyExpired` at once, since a key that has
        expired is known and no other is asked about it, and `Unauthorized` where none knows it."""
        *others, last = self.authenticators
        for authenticator in others:
            try:
                return authenticator.authenticate(token)
            except KeyExpired:
                raise
            except Unauthorized:
                continue
        return last.authenticate(token)
