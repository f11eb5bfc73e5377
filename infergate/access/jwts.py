"""Who is calling: JSON Web Tokens (RFC 7519), under the rules of RFC 8725.

The signature is PyJWT's to verify. The header is read here before it, because PyJWT lets
pass what is refused here, and the claims after it, by strict types and the clock given.

A token is three parts in base64url with dots between, a header, claims and a signature:

    {"alg":"RS256","kid":"2026-11"} . {"sub":"alice","exp":1790000000,"aud":"infergate"} . ...

It is judged in the order in which that costs least: its form and length, its header, whether there
is a key for it, its signature, its claims. Whatever is wrong, the answer is the same 401, so that
who guesses does not learn how near it came.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from typing import Any

import attrs
import jwt
import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from infergate.access.auth import MAX_TOKEN_BYTES, IAuthenticator, Token
from infergate.access.jwks import IKeySource, Key
from infergate.errors import Unauthorized

LEEWAY = 30.0
"""Seconds by which the issuer's clock and ours may differ."""

# Keys that a token brings along, extensions that must be understood (RFC 7515, 4.1), and
# a payload that is not base64url (RFC 7797).
_REFUSED_HEADERS = frozenset({"crit", "jwk", "jku", "x5c", "x5u", "b64"})

# What a token that was made to hurt may raise on its way through the libraries.
_HOSTILE = (jwt.PyJWTError, msgspec.MsgspecError, RecursionError, TypeError, ValueError)

_PARTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_signatures = jwt.PyJWS()


class _Claims(msgspec.Struct, frozen=True):
    """What is read of a token's payload (RFC 7519, 4.1). A claim of another type than these makes
    the token worthless; claims that are not named here are ignored."""

    sub: str
    exp: float
    nbf: float = 0
    iat: float = 0
    iss: str | None = None
    aud: str | list[str] | None = None


@implementer(IAuthenticator)
@attrs.frozen(eq=False)
class TokenVerifier:
    """Lets in a token signed with one of `keys`; the caller is its ``sub``. Made by
    `wiring.callers` at the start and at each reload; `Admission` asks it for each request, through
    `AnyOf` where there are API keys too.

    `algorithms` are those of the settings: a token only says which of them it uses. ``exp`` and
    ``sub`` are required, ``iss`` and ``aud`` where `issuer` and `audience` are set. `now` is the
    wall clock, in seconds since 1970, which ``exp``, ``nbf`` and ``iat`` are measured by. Raises
    `ValueError` when it is made with an algorithm that the keys cannot be for, so that a public key
    is never taken for a secret.
    """

    keys: IKeySource
    algorithms: tuple[str, ...] = attrs.field()
    issuer: str | None = None
    audience: str | None = None
    now: Callable[[], float] = time.time

    @algorithms.validator
    def _fit(self, _: object, algorithms: tuple[str, ...]) -> None:
        """Raise `ValueError`, which lists what the key can be for, where `algorithms` is empty or
        holds one that the keys are not for. Called by attrs when the verifier is made."""
        if not algorithms or not set(algorithms).issubset(self.keys.algorithms):
            raise ValueError(
                f"JWT_ALGORITHMS is {','.join(algorithms)!r}; "
                f"the key can be for {', '.join(self.keys.algorithms)}"
            )

    def authenticate(self, token: Token) -> str | Deferred[str]:
        """Return the ``sub`` of a good token, as a Deferred where the key has to be fetched first.
        Raises `Unauthorized`, or has the Deferred fail with it, for any other token; never anything
        else, whatever the token holds."""
        text = token.text
        header = self._header(text)
        if header is None:
            raise Unauthorized
        algorithm, kid = header
        key = self.keys.find(algorithm, kid)
        if isinstance(key, Deferred):
            return key.addCallback(lambda found: self._caller(text, algorithm, found))
        return self._caller(text, algorithm, key)

    def _header(self, token: str) -> tuple[str, str | None] | None:
        """Return the algorithm and the key id (None where it names none) of a token that is worth
        finding a key for; None for any other token. An algorithm that the settings do not list is
        refused here, ``none`` among these, so that no token chooses how it is verified (RFC 8725,
        3.1). Called by `authenticate` first; raises nothing."""
        parts = _PARTS.fullmatch(token) if len(token) <= MAX_TOKEN_BYTES else None
        if parts is None:
            return None
        try:
            header = msgspec.json.decode(_decode(parts[1]), type=dict[str, Any])
        except _HOSTILE:
            return None
        algorithm, kid = header.get("alg"), header.get("kid")
        if (
            _REFUSED_HEADERS.isdisjoint(header)
            and isinstance(kid, str | None)
            and isinstance(algorithm, str)
            and algorithm in self.algorithms
        ):
            return algorithm, kid
        return None

    def _caller(self, token: str, algorithm: str, key: Key | None) -> str:
        """Return the ``sub`` of a token that `key` signed and whose claims hold now; raises
        `Unauthorized` for any other, and where `key` is None because none was found. Called by
        `authenticate`, once the key is there."""
        claims = None if key is None else _verified(token, algorithm, key)
        if claims is None or not self._holds(claims):
            raise Unauthorized
        return claims.sub

    def _holds(self, claims: _Claims) -> bool:
        """Return whether the claims of a token, whose signature is good, let its bearer in now: it
        is not too early or too late by more than `LEEWAY`, issuer and audience are ours, and
        ``sub`` can be a name. Called by `_caller`."""
        now = self.now()
        audiences = claims.aud if isinstance(claims.aud, list) else [claims.aud]
        return (
            claims.nbf - LEEWAY <= now < claims.exp + LEEWAY
            and claims.iat - LEEWAY <= now
            and self.issuer in (None, claims.iss)
            and (self.audience is None or self.audience in audiences)
            # A name goes into logs, where a control character could begin another line.
            and claims.sub != ""
            and claims.sub.isprintable()
        )


def _verified(token: str, algorithm: str, key: Key) -> _Claims | None:
    """Verify the signature of `token` with the key, and return its claims; None where the signature
    is wrong or the claims cannot be read. Raises nothing: what the libraries raise for a token that
    was made to hurt counts as a bad token. Called by `TokenVerifier._caller`."""
    signed, _, signature = token.rpartition(".")
    try:
        verify = _signatures.get_algorithm_by_name(algorithm).verify
        if not verify(signed.encode("ascii"), key, _decode(signature)):
            return None
        return msgspec.json.decode(_decode(signed.partition(".")[2]), type=_Claims)
    except _HOSTILE:
        return None


def _decode(part: str) -> bytes:
    """Return the bytes of one part of a token; raises `ValueError` (`binascii.Error`) for a length
    that no base64 has. Called for the header, the claims and the signature, within a ``try`` that
    takes this for a bad token."""
    # Base64url in a token has no padding (RFC 7515, 2); Python ignores more than is needed.
    return base64.urlsafe_b64decode(part + "==")
