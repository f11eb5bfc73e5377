"""The keys that tokens are verified with: a secret, a public key, or a set that is published.

PyJWT's own client fetches a set with blocking calls, so the fetching is done here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, implementer

from infergate.access.algorithms import CURVES, EDDSA, HMAC, PUBLIC, RSA

REFETCH_INTERVAL = 30.0
"""Seconds between two fetches of a key set, however many unknown keys are asked for."""

MAX_AGE = 600.0
"""Seconds after which a key set is fetched again though every key asked for is known: how
long a key that its issuer has withdrawn is still believed."""

Key = bytes | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

_log = Logger()


class IKeySource(Interface):
    """The keys of one issuer. `TokenVerifier` asks one for a key with each token."""

    algorithms: tuple[str, ...] = Attribute("those that such keys can be for")

    def find(algorithm: str, kid: str | None) -> Key | Deferred[Key | None] | None:
        """Return the key for a token that names this algorithm and key id (`kid`, None where the
        token names none), or None where there is no such key.

        A Deferred only where the key has to be fetched first. Never raises, and the Deferred never
        fails but by its own cancelling.
        """


@implementer(IKeySource)
@attrs.frozen(eq=False)
class OneKey:
    """One key for every token, whatever key id the token names; made by `secret` and
    `public_key`. Its repr shows no key."""

    _key: Key = attrs.field(repr=False)
    algorithms: tuple[str, ...]

    def find(self, algorithm: str, kid: str | None) -> Key:
        """Return the one key. Its algorithm has been checked by `TokenVerifier` against
        `algorithms`. Called by `TokenVerifier`, and by the reload, to tell whether the key is
        another one; raises nothing."""
        return self._key


def secret(text: str) -> OneKey:
    """Return the key of `JWT_SECRET`, for the HMAC algorithms. Called by `config.values` when the
    setting is read; raises `ValueError` for a text that is empty or a public key, which everybody
    may know."""
    try:
        key = jwt.PyJWS().get_algorithm_by_name("HS256").prepare_key(text)
    except jwt.InvalidKeyError:
        raise ValueError("must be a secret, neither empty nor a public key") from None
    return OneKey(key, HMAC)


def public_key(pem: bytes) -> OneKey:
    """Return the key of `JWT_PUBLIC_KEY_FILE` with the algorithms that it can be for. Called by
    `config.values` with the content of the file, at the start and at each reload; raises
    `ValueError` for anything but an RSA, EC or EdDSA public key in PEM form, a private key among
    it."""
    try:
        key: Any = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    algorithms = _algorithms_of(key)
    if not algorithms:
        raise ValueError("must hold a public key (RSA, EC or EdDSA) in PEM form")
    return OneKey(key, algorithms)


@attrs.frozen
class PublishedKey:
    """One usable entry of a published set, and the algorithms that it may verify."""

    kid: str | None
    algorithms: tuple[str, ...]
    key: Key


class _Document(msgspec.Struct):
    """A JWK set (RFC 7517, 5): what its entries are is judged one by one."""

    keys: list[Any]


@implementer(IKeySource)
@attrs.define(eq=False, repr=False)
class KeySet:
    """The public keys that an issuer publishes (RFC 7517, 5), fetched when they are needed:

        {"keys": [{"kty": "RSA", "kid": "2026-11", "alg": "RS256", "n": ..., "e": "AQAB"}, ...]}

    `fetch` gives the document, under a deadline of its own, and is called at most once in
    `REFETCH_INTERVAL`, so that tokens with made-up key ids cannot flood the issuer; all who wait
    share one call. Where it fails, the keys stay as they were.

    Nothing is fetched before the first token. A key that is known is given at once, and where the
    set is older than `MAX_AGE` it is fetched again in the background. A key that is not known, as
    after the issuer has changed keys, is waited for, if it is time for a fetch.
    """

    algorithms = PUBLIC

    _fetch: Callable[[], Deferred[bytes]]
    _clock: IReactorTime
    # By algorithm and key id, and by algorithm and None for tokens that name no key id.
    # None in place of a key: several keys fit, and a token gets no second try at a key.
    _keys: dict[tuple[str, str | None], Key | None] = attrs.field(factory=dict, init=False)
    _tried: float = attrs.field(default=-math.inf, init=False)
    _fetched: float = attrs.field(default=-math.inf, init=False)
    _waiting: list[Deferred[None]] | None = attrs.field(default=None, init=False)

    def find(self, algorithm: str, kid: str | None) -> Key | Deferred[Key | None] | None:
        """Return the key as `IKeySource` says: at once where it is known, else after the fetch that
        is under way or that it is time for; None where it is too early for another fetch, or where
        the fetch did not bring the key. Of a token that names no key id there is a key where only
        one of those that are published can be for its algorithm. Called by `TokenVerifier` for each
        token; fails with nothing but its own cancelling."""
        key = self._known(algorithm, kid)
        if key is not None:
            if self._clock.seconds() - self._fetched >= MAX_AGE:
                self.refresh()
            return key
        self.refresh()
        if self._waiting is None:
            return self._known(algorithm, kid)
        # One for each who waits: a client that leaves cancels its own and not the fetch.
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        return waiter.addCallback(lambda _: self._known(algorithm, kid))

    def refresh(self) -> None:
        """Begin to fetch the keys, unless a fetch is under way or the last one began less than
        `REFETCH_INTERVAL` ago. Returns at once and raises nothing: a fetch that fails is logged,
        and leaves the keys as they were. Called by `find`."""
        now = self._clock.seconds()
        if self._waiting is not None or now - self._tried < REFETCH_INTERVAL:
            return
        self._tried = now
        self._waiting = []
        fetched = maybeDeferred(self._fetch).addCallback(self._learn)
        fetched.addErrback(self._failed).addCallback(self._wake)

    def _known(self, algorithm: str, kid: str | None) -> Key | None:
        """Return the one key that fits, None where none does. Where several fit there is none:
        which of them is meant could only be found by trying each. Called by `find`, and again for
        each who has waited."""
        return self._keys.get((algorithm, kid))

    def _learn(self, document: bytes) -> None:
        """Put the keys of a fetched document in place of those that were known, and begin their age
        anew. Raises what `read_keys` does; then those that were known stay. Called with what
        `fetch` gave."""
        keys: dict[tuple[str, str | None], Key | None] = {}
        for published in read_keys(document):
            for algorithm in published.algorithms:
                for kid in {None, published.kid}:
                    known = (algorithm, kid) in keys
                    keys[algorithm, kid] = None if known else published.key
        self._keys = keys
        self._fetched = self._clock.seconds()

    def _failed(self, failure: Failure) -> None:
        """Log that a fetch failed, or brought what is no key set. Called by `refresh`, after which
        all who waited look again."""
        # The class alone: the text may hold the URL, and the URL a password.
        reason = type(failure.value).__name__
        _log.warn("the JWT key set could not be fetched: {reason}", reason=reason)

    def _wake(self, _: None) -> None:
        """Let all who wait for the fetch look their keys up again, whatever became of it. Those who
        come from now on begin another fetch."""
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            waiter.callback(None)


def read_keys(document: bytes) -> list[PublishedKey]:
    """Return the usable keys of a published set (RFC 7517, 5), leaving out what cannot be used
    here. Called by `KeySet` for each document that it fetches, and by ``infergate check``, which
    counts them. Raises `ValueError`, or `RecursionError` for one that is nested too deep, where the
    document is no JWK set at all."""
    jwks = msgspec.json.decode(document, type=_Document).keys
    return [key for key in map(_published, jwks) if key is not None]


def _published(jwk: Any) -> PublishedKey | None:
    """Convert one entry of a set into a key that tokens may be verified with; None for one that is
    for something else, of a kind that is not known here, or broken (RFC 7517, 4). Raises nothing:
    an entry is whatever an issuer has written, and a bad one must not spoil the others. Called by
    `read_keys`."""
    try:
        if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
            return None
        key = jwt.PyJWK(jwk).key
        algorithms = [name for name in _algorithms_of(key) if jwk.get("alg", name) == name]
    except (
        jwt.PyJWTError,
        UnsupportedAlgorithm,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ):
        return None
    kid = jwk.get("kid")
    kid = kid if isinstance(kid, str) else None
    return PublishedKey(kid, tuple(algorithms), key) if algorithms else None


def _algorithms_of(key: object) -> tuple[str, ...]:
    """Return the algorithms that a public key can be for: none for a key of any other kind, such as
    a private key, an X25519 key or a curve without an algorithm of its own. Called for the key of a
    file and for each one of a set; raises nothing."""
    if isinstance(key, RSAPublicKey):
        return RSA
    if isinstance(key, EllipticCurvePublicKey):
        return (CURVES[key.curve.name],) if key.curve.name in CURVES else ()
    return (EDDSA,) if isinstance(key, Ed25519PublicKey | Ed448PublicKey) else ()
