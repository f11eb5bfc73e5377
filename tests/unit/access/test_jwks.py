"""Keys that an issuer publishes: fetched late, seldom, and once for all who wait."""

from __future__ import annotations

import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.access import jwks
from infergate.access.jwks import IKeySource, KeySet

EC = ec.generate_private_key(ec.SECP256R1()).public_key()
OTHER = ec.generate_private_key(ec.SECP256R1()).public_key()
ED = ed25519.Ed25519PrivateKey.generate().public_key()
# Of a published RSA key only the form is looked at here, so any large odd number will do.
RSA_JWK = {"kty": "RSA", "n": "w" * 342, "e": "AQAB"}


def jwk(key: Any, **members: object) -> dict[str, object]:
    algorithm = ECAlgorithm if isinstance(key, ec.EllipticCurvePublicKey) else OKPAlgorithm
    return {**algorithm.to_jwk(key, as_dict=True), **members}


def document(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


class KeySetTests(SynchronousTestCase):
    """`KeySet`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.fetches: list[Deferred[bytes]] = []
        self.keys = KeySet(self.fetch, self.clock)

    def fetch(self) -> Deferred[bytes]:
        self.fetches.append(Deferred())
        return self.fetches[-1]

    def publish(self, *keys: object) -> None:
        """Let the keys be fetched, and the interval pass until they may be again."""
        self.keys.refresh()
        self.fetches[-1].callback(document(*keys))
        self.clock.advance(jwks.REFETCH_INTERVAL)

    def waiting(self, kid: str | None, algorithm: str = "ES256") -> Deferred[Any]:
        found = self.keys.find(algorithm, kid)
        assert isinstance(found, Deferred)
        return found

    def test_key_set_and_single_key_stand_wherever_keys_are_found(self) -> None:
        """A key set can stand wherever keys are found, and so can a single key."""
        verifyObject(IKeySource, self.keys)
        verifyObject(IKeySource, jwks.secret("secret"))

    def test_nothing_is_fetched_before_the_first_token_and_one_fetch_serves_all(self) -> None:
        """Nothing is fetched before the first token, and one fetch serves all who wait."""
        self.assertEqual(len(self.fetches), 0)
        first, second, unknown = (self.waiting(kid) for kid in ["a", "b", "c"])
        self.assertEqual(len(self.fetches), 1)
        self.fetches[0].callback(document(jwk(EC, kid="a"), jwk(OTHER, kid="b")))
        self.assertEqual(self.successResultOf(first), EC)
        self.assertEqual(self.successResultOf(second), OTHER)
        self.assertIsNone(self.successResultOf(unknown))
        self.assertEqual(self.keys.find("ES256", "a"), EC)

    def test_fetch_that_is_over_at_once_makes_nobody_wait(self) -> None:
        """A fetch that is over at once makes nobody wait."""
        keys = KeySet(lambda: succeed(document(jwk(EC))), self.clock)
        self.assertEqual(keys.find("ES256", None), EC)

    def test_unknown_key_is_fetched_for_only_so_often(self) -> None:
        """An unknown key id is asked for once in the interval, however often it comes."""
        self.publish(jwk(EC, kid="a"))
        found = self.waiting("b")
        self.fetches[1].callback(document(jwk(EC, kid="a"), jwk(OTHER, kid="b")))
        self.assertEqual(self.successResultOf(found), OTHER)
        for _ in range(100):
            self.assertIsNone(self.keys.find("ES256", "c"))
            self.clock.advance(0.29)
        self.assertEqual(len(self.fetches), 2)
        self.clock.advance(1.1)
        self.waiting("c")
        self.assertEqual(len(self.fetches), 3)

    def test_failed_fetch_leaves_the_keys_as_they_were(self) -> None:
        """While the issuer cannot be reached, the keys stay, and new ones are refused."""
        self.publish(jwk(EC, kid="a"))
        for answer in [None, b"", b"<html>", b"[]", b'{"keys":1}', b"{}", b"\xff"]:
            found = self.waiting("b")
            if answer is None:
                self.fetches[-1].errback(OSError())
            else:
                self.fetches[-1].callback(answer)
            self.assertIsNone(self.successResultOf(found))
            self.assertEqual(self.keys.find("ES256", "a"), EC)
            self.clock.advance(jwks.REFETCH_INTERVAL)

    def test_keys_that_never_came_let_nobody_in(self) -> None:
        """Without any key every token is refused, and the fetch tried again after the interval."""

        def broken() -> Deferred[bytes]:
            self.fetches.append(Deferred())
            raise RuntimeError("no such host")

        keys = KeySet(broken, self.clock)
        for expected in [1, 1, 2]:
            self.assertIsNone(keys.find("ES256", "a"))
            self.assertEqual(len(self.fetches), expected)
            self.clock.advance(jwks.REFETCH_INTERVAL / 2)

    def test_failure_is_logged_without_its_text(self) -> None:
        """The log says that and how a fetch failed, and nothing of the address."""
        events: list[Any] = []
        self.patch(jwks._log, "observer", events.append)
        self.keys.refresh()
        self.fetches[0].errback(OSError("https://user:canary@idp"))
        self.assertEqual([event["reason"] for event in events], ["OSError"])
        self.assertNotIn("canary", repr(events))

    def test_old_set_is_fetched_again_while_its_keys_are_used(self) -> None:
        """Old keys are fetched anew while they go on working, so that a withdrawn one ends."""
        self.publish(jwk(EC, kid="a"))
        self.clock.advance(jwks.MAX_AGE - jwks.REFETCH_INTERVAL - 1)
        self.assertEqual(self.keys.find("ES256", "a"), EC)
        self.assertEqual(len(self.fetches), 1)
        self.clock.advance(1)
        for _ in range(3):
            self.assertEqual(self.keys.find("ES256", "a"), EC)
        self.assertEqual(len(self.fetches), 2)
        self.fetches[1].callback(document())
        self.assertIsNone(self.keys.find("ES256", "a"))

    def test_slow_fetch_has_no_second_one_beside_it(self) -> None:
        """However long a fetch takes, there is no second one beside it."""
        first = self.waiting("a")
        self.clock.advance(2 * jwks.REFETCH_INTERVAL)
        second = self.waiting("a")
        self.assertEqual(len(self.fetches), 1)
        self.fetches[0].callback(document(jwk(EC, kid="a")))
        self.assertEqual([self.successResultOf(found) for found in [first, second]], [EC, EC])

    def test_client_that_leaves_stops_waiting_for_itself_alone(self) -> None:
        """Who stops waiting stops for itself alone."""
        leaves, stays = self.waiting("a"), self.waiting("a")
        leaves.cancel()
        self.failureResultOf(leaves, CancelledError)
        self.fetches[0].callback(document(jwk(EC, kid="a")))
        self.assertEqual(self.successResultOf(stays), EC)

    def test_token_without_a_key_id_gets_the_only_key_that_fits(self) -> None:
        """A token without a key id gets a key only where exactly one fits."""
        self.publish(jwk(EC, kid="a"), jwk(ED, kid="b"))
        self.assertEqual(self.keys.find("ES256", None), EC)
        self.assertEqual(self.keys.find("EdDSA", None), ED)
        self.publish(jwk(EC, kid="a"), jwk(OTHER, kid="b"))
        found = self.waiting(None)
        self.fetches[-1].errback(OSError())
        self.assertIsNone(self.successResultOf(found))

    def test_two_keys_of_one_id_are_no_key(self) -> None:
        """Of two published keys with one key id neither is used, and a key id that is no text
        counts as none."""
        self.publish(jwk(EC, kid="a"), jwk(OTHER, kid="a"), jwk(ED, kid=["a"]))
        found = self.waiting("a")
        self.fetches[-1].errback(OSError())
        self.assertIsNone(self.successResultOf(found))
        self.assertEqual(self.keys.find("EdDSA", None), ED)

    def test_key_is_used_for_what_its_issuer_says_it_is_for(self) -> None:
        """A key is used for what its issuer says it is for, and for its own kind of algorithm."""
        for key, algorithm, fits in [
            (jwk(EC), "ES256", True),
            (jwk(EC, alg="ES256", use="sig", key_ops=["verify"]), "ES256", True),
            (jwk(EC), "ES384", False),
            (jwk(EC), "RS256", False),
            (jwk(EC, use="enc"), "ES256", False),
            (jwk(EC, key_ops=["deriveKey"]), "ES256", False),
            (jwk(EC, alg="ES384"), "ES256", False),
            (RSA_JWK, "RS256", True),
            (RSA_JWK, "PS512", True),
            ({**RSA_JWK, "alg": "PS256"}, "PS256", True),
            ({**RSA_JWK, "alg": "PS256"}, "RS256", False),
            ({**RSA_JWK, "alg": "RSA-OAEP"}, "RS256", False),
            ({"kty": "oct", "k": "c2VjcmV0"}, "HS256", False),
        ]:
            keys = KeySet(lambda key=key: succeed(document(key)), self.clock)  # type: ignore[misc]
            self.assertEqual(keys.find(algorithm, None) is not None, fits, (key, algorithm))

    def test_broken_keys_do_not_spoil_the_others(self) -> None:
        """A key that is broken or of an unknown kind does not spoil the others."""
        odd: list[object] = [
            None,
            7,
            "key",
            [],
            {},
            {"kty": "PQC", "x": "abc"},
            {"kty": ["EC"]},
            {"kty": "EC", "crv": "P-256", "x": "abc", "y": "abc"},
            {"kty": "EC", "crv": "P-256", "x": 1, "y": 2},
            {"kty": "RSA", "n": "A"},
            {"kty": "RSA", "n": "A", "e": "A"},
            {"kty": "OKP", "crv": "X25519", "x": "abc"},
            {"kty": "oct"},
            jwk(OTHER, key_ops=7),
            jwk(OTHER, key_ops=None),
            jwk(OTHER, alg=["ES256"]),
            jwk(OTHER, alg={}),
        ]
        self.publish(*odd, jwk(EC))
        self.assertEqual(self.keys.find("ES256", None), EC)
