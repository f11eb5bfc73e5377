"""JSON Web Tokens: who is let in, and above all who is not."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.access.auth import MAX_TOKEN_BYTES, IAuthenticator, Token
from infergate.access.jwks import KeySet, public_key, secret
from infergate.access.jwts import TokenVerifier
from infergate.errors import Unauthorized

NOW = 1_800_000_000
SECRET = "canary-secret-of-more-than-thirty-two-bytes"
PRIMES = (
    "fe5799ea55e65a181d76743d68499a1570e59c1a46793f57fe8a243ea9250326beb51468c5e67bf48ce5bb"
    "f5d4e871a4c30e83e72eb49485bca034057cad58ea74d793b37babfe0e517e2067857979a40dc725d5bad1"
    "c2d971ec7e503cab7ad6e1a935bd46d19d7d0130551bcc56c9bcbff0a6f1bc48957984de1335b2029bf9",
    "f298a7f67bb0b9188889c4c72106e61c6bd2538734315c3fd07422e53b529e48c27bbb1a816d88c55a40d2"
    "d90f9d938fca86b390a6e9aa26eff4533526c7b3b8403fca9e49eef49fa96b89b5ec0633868510e3a2f0be"
    "99cf7b94b2e559a60ae35b2243babb8ad1bd206f19049a67ee8266dc24c10f0b0c8d8931829110e04637",
)
"""Of the RSA key: to find two takes up to a third of a second."""


def rsa_key(p: int, q: int, e: int = 65537) -> rsa.RSAPrivateKey:
    d = rsa.rsa_recover_private_exponent(e, p, q)
    derived = (rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q))
    public = rsa.RSAPublicNumbers(e, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, *derived, public)
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


RSA = rsa_key(*(int(prime, 16) for prime in PRIMES))
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
CLAIMS = {"sub": "alice", "exp": NOW + 60, "iss": "https://idp", "aud": "infergate"}


def pem(key: Any) -> bytes:
    encoded: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def part(value: object) -> str:
    """One part of a token: bytes as they are, anything else as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(
    claims: object = None,
    header: object = None,
    key: Any = SECRET,
    algorithm: str = "HS256",
    **changed: object,
) -> str:
    """A token well signed with `key`, with some claims changed: left out where they are None."""
    if claims is None:
        claims = {n: value for n, value in {**CLAIMS, **changed}.items() if value is not None}
    signed = f"{part({'alg': algorithm} if header is None else header)}.{part(claims)}"
    signer = jwt.PyJWS().get_algorithm_by_name(algorithm)
    key = key.encode() if isinstance(key, str) else key
    return f"{signed}.{part(signer.sign(signed.encode(), key))}"


def raw(claims: str, header: str = '{"alg":"HS256"}') -> str:
    return token(claims.encode(), header.encode())


def verifier(keys: Any = None, *algorithms: str, **options: Any) -> TokenVerifier:
    clock = Clock()
    clock.advance(NOW)
    keys = secret(SECRET) if keys is None else keys
    return TokenVerifier(keys, algorithms or ("HS256",), now=clock.seconds, **options)


GOOD = token()
FIRST, SECOND, THIRD = GOOD.split(".")

ACCEPTED: dict[str, str] = {
    "plain": GOOD,
    "with a type and a key id": token(header={"alg": "HS256", "typ": "JWT", "kid": "k"}),
    "with a thumbprint, which is no key": token(header={"alg": "HS256", "x5t": "abc"}),
    "expired 29 s ago": token(exp=NOW - 29),
    "expiring at a fraction": token(exp=NOW + 0.5),
    "valid in 29 s": token(nbf=NOW + 29),
    "issued in 29 s": token(iat=NOW + 29),
    "audiences in a list": token(aud=["other", "infergate"]),
    "name in any script": token(sub="名前 Zoë"),
    "no issuer, no audience": token(iss=None, aud=None),
    "another issuer and audience": token(iss="other", aud="other"),
    "claims that are unknown here": token(scope=["a", {"b": None}], jti=7),
}

REFUSED: dict[str, str] = {
    "nothing": "",
    "an API key": "sk-0123456789",
    "one part": FIRST,
    "two parts": f"{FIRST}.{SECOND}",
    "four parts": f"{GOOD}.{THIRD}",
    "five parts, as encrypted ones have": f"{GOOD}.{THIRD}.{THIRD}",
    "empty header": f".{SECOND}.{THIRD}",
    "empty claims": f"{FIRST}..{THIRD}",
    "empty signature": f"{FIRST}.{SECOND}.",
    "padding": f"{FIRST}.{SECOND}.{THIRD}=",
    "the other base64 alphabet": f"{FIRST}.{SECOND}.{THIRD[:-4]}+/+/",
    "a space": f"{FIRST}.{SECOND}.{THIRD[:-1]} ",
    "a line feed at the end": GOOD + "\n",
    "not ASCII": f"{FIRST}.{SECOND}.{THIRD[:-1]}é",
    "digits of another script": f"{FIRST}.{SECOND}.{THIRD[:-1]}٣",
    "a lone surrogate": f"{FIRST}.{SECOND}.\ud800",
    "an impossible length": "a.a.a",
    "over 8 KiB": token(scope="x" * MAX_TOKEN_BYTES),
    "changed claims": f"{FIRST}.{part({**CLAIMS, 'sub': 'root'})}.{THIRD}",
    "changed header": f"{part({'alg': 'HS256', 'kid': 'k'})}.{SECOND}.{THIRD}",
    "changed signature": f"{FIRST}.{SECOND}.{'A' if THIRD[0] != 'A' else 'B'}{THIRD[1:]}",
    "short signature": f"{FIRST}.{SECOND}.{THIRD[:-4]}",
    "another secret": token(key=SECRET + "!"),
    "alg none, no signature": f"{part({'alg': 'none'})}.{SECOND}.",
    "alg none, a signature": token(header={"alg": "none"}),
    "alg None": token(header={"alg": "None"}),
    "alg null": token(header={"alg": None}),
    "alg missing": token(header={"typ": "JWT"}),
    "alg a list": token(header={"alg": ["HS256"]}),
    "alg in lower case": token(header={"alg": "hs256"}),
    "alg that is not let in": token(algorithm="HS512"),
    "alg of key pairs": token(key=RSA, algorithm="RS256"),
    "alg given twice": raw(json.dumps(CLAIMS), '{"alg":"HS256","alg":"none"}'),
    "crit": token(header={"alg": "HS256", "crit": ["exp"], "exp": 1}),
    "crit with b64": token(header={"alg": "HS256", "crit": ["b64"], "b64": True}),
    "crit, empty": token(header={"alg": "HS256", "crit": []}),
    "crit, null": token(header={"alg": "HS256", "crit": None}),
    "b64": token(header={"alg": "HS256", "b64": True}),
    "jwk": token(header={"alg": "HS256", "jwk": {"kty": "oct", "k": part(b"x" * 32)}}),
    "jku": token(header={"alg": "HS256", "jku": "https://evil/keys"}),
    "x5c": token(header={"alg": "HS256", "x5c": ["MII"]}),
    "x5u": token(header={"alg": "HS256", "x5u": "https://evil/cert"}),
    "kid a number": token(header={"alg": "HS256", "kid": 1}),
    "header a list": token(header=["alg", "HS256"]),
    "header not JSON": token(header=b"alg"),
    "header not UTF-8": token(header=b'{"alg":"HS256","x":"\xff"}'),
    "header in UTF-16": token(header='{"alg":"HS256"}'.encode("utf-16")),
    "header nested deep": token(header=b'{"alg":"HS256","x":' + b"[" * 5000),
    "claims a list": token(claims=[CLAIMS]),
    "claims null": raw("null"),
    "claims not JSON": raw("sub=alice"),
    "claims not UTF-8": token(claims=b'{"exp":1900000000,"sub":"\xff"}'),
    "claims nested deep": token(claims=b'{"sub":' + b"[" * 5000),
    "claims with a tail": raw(json.dumps(CLAIMS) + "{}"),
    "exp missing": token(exp=None),
    "exp null": raw('{"sub":"alice","exp":null}'),
    "exp text": token(exp=str(NOW + 60)),
    "exp true": token(exp=True),
    "exp NaN": token(exp=math.nan),
    "exp Infinity": token(exp=math.inf),
    "exp 1e999": raw('{"sub":"alice","exp":1e999}'),
    "exp of 5,000 digits": raw('{"sub":"alice","exp":' + "9" * 5000 + "}"),
    "exp 30 s ago": token(exp=NOW - 30),
    "exp long ago": token(exp=1),
    "exp negative": token(exp=-1),
    "nbf in 31 s": token(nbf=NOW + 31),
    "nbf text": token(nbf="0"),
    "nbf null": raw('{"sub":"alice","exp":1900000000,"nbf":null}'),
    "iat in 31 s": token(iat=NOW + 31),
    "iat text": token(iat="yesterday"),
    "iss a number": token(iss=7),
    "aud a number": token(aud=7),
    "aud with a number": token(aud=["infergate", 7]),
    "sub missing": token(sub=None),
    "sub null": raw('{"sub":null,"exp":1900000000}'),
    "sub empty": token(sub=""),
    "sub a number": token(sub=7),
    "sub a list": token(sub=["alice"]),
    "sub with a line feed": token(sub="alice\nroot"),
    "sub with an escape": token(sub="alice\x1b[2J"),
    "sub a lone surrogate": raw('{"sub":"\\ud800","exp":1900000000}'),
}


class TokenTests(SynchronousTestCase):
    """`TokenVerifier` with one key."""

    def assert_refused(self, by: TokenVerifier, sample: str, why: str = "") -> None:
        error = self.assertRaises(Unauthorized, by.authenticate, Token(sample))
        self.assertEqual((error.message, error.__context__), (Unauthorized.message, None), why)

    def test_verifier_stands_wherever_callers_are_authenticated(self) -> None:
        """A verifier can stand wherever callers are authenticated."""
        verifyObject(IAuthenticator, verifier())

    def test_well_signed_token_in_its_time_names_its_caller(self) -> None:
        """A well signed token in its time names its caller, whatever else it carries."""
        checked = verifier()
        for why, sample in ACCEPTED.items():
            name = "名前 Zoë" if "script" in why else "alice"
            self.assertEqual(checked.authenticate(Token(sample)), name, why)

    def test_everything_else_is_refused_without_a_reason(self) -> None:
        """Everything else is a 401 that does not tell what was wrong, and nothing worse."""
        checked = verifier()
        self.assertGreater(len(REFUSED), 40)
        for why, sample in REFUSED.items():
            self.assert_refused(checked, sample, why)

    def test_issuer_and_audience_are_required_when_set(self) -> None:
        """What the settings require of issuer and audience is required of every token."""
        checked = verifier(issuer="https://idp", audience="infergate")
        for good in [GOOD, token(aud=["other", "infergate"])]:
            self.assertEqual(checked.authenticate(Token(good)), "alice")
        wrong: dict[str, list[Any]] = {
            "iss": [None, "", "https://idp/", "HTTPS://IDP", ["https://idp"]],
            "aud": [None, "", [], "infergate2", ["other"], [None], {"infergate": 1}],
        }
        for claim, values in wrong.items():
            for value in values:
                self.assert_refused(checked, token(**{claim: value}), f"{claim} {value}")

    def test_only_algorithms_of_the_settings_are_let_in(self) -> None:
        """Every algorithm that can be set verifies its own tokens, and no other does."""
        pairs: list[tuple[Any, Any, list[str]]] = [
            (SECRET, secret(SECRET), ["HS256", "HS384", "HS512"]),
            (RSA, public_key(pem(RSA)), ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
            (EC, public_key(pem(EC)), ["ES256"]),
            (ED, public_key(pem(ED)), ["EdDSA"]),
        ]
        for curve, name in [
            (ec.SECP384R1(), "ES384"),
            (ec.SECP521R1(), "ES512"),
            (ec.SECP256K1(), "ES256K"),
        ]:
            other = ec.generate_private_key(curve)
            pairs.append((other, public_key(pem(other)), [name]))
        for key, keys, names in pairs:
            for name in names:
                checked = verifier(keys, name)
                sample = token(key=key, algorithm=name)
                self.assertEqual(checked.authenticate(Token(sample)), "alice", name)
                head, claims, signature = sample.split(".")
                self.assert_refused(checked, GOOD[:-1] + "A", name)
                self.assert_refused(checked, f"{head}.{claims}.{signature[8:]}", name)
                self.assert_refused(checked, f"{head}.{claims}.{part(b'0' * 64)}", name)

    def test_public_key_is_never_taken_for_a_secret(self) -> None:
        """A public key is never a secret: not by the token's word, and not by the settings'."""
        forged = [
            token(key=pem(RSA)),
            token(key=pem(RSA), header={"alg": "RS256"}),
            token(key=pem(RSA).strip()),
            token(key=EC, algorithm="ES256", header={"alg": "RS256"}),
        ]
        for sample in forged:
            self.assert_refused(verifier(public_key(pem(RSA)), "RS256"), sample)
        for name in ["RS256", "PS256", "ES256", "EdDSA", "none", "", "HS1", "hs256"]:
            error = self.assertRaises(ValueError, verifier, None, name)
            self.assertIn("JWT_ALGORITHMS", str(error))
            self.assertNotIn("canary", repr(error))
        self.assertRaises(ValueError, verifier, None, "HS256", "RS256")
        self.assertRaises(ValueError, TokenVerifier, secret(SECRET), ())
        for name in ["HS256", "ES256", "ES384", "EdDSA", "none"]:
            error = self.assertRaises(ValueError, verifier, public_key(pem(RSA)), name)
            self.assertIn("JWT_ALGORITHMS", str(error))
        self.assertRaises(ValueError, verifier, public_key(pem(EC)), "ES384")

    def test_short_secret_works_as_any_other(self) -> None:
        """A short secret works, without a warning for each token."""
        checked = verifier(secret("short"))
        self.assertEqual(checked.authenticate(Token(token(key="short"))), "alice")
        self.assertEqual(self.flushWarnings(), [])

    def test_secrets_are_in_no_repr_or_error(self) -> None:
        """Neither the secret nor the token is in a repr or a refusal."""
        checked = verifier()
        error = self.assertRaises(Unauthorized, checked.authenticate, Token(GOOD[:-1] + "A"))
        shown = repr([checked, str(checked), checked.keys, error, error.args, vars(error)])
        for hidden in ["canary", SECOND, THIRD]:
            self.assertNotIn(hidden, shown)

    @given(st.lists(st.binary(max_size=40) | st.just(b'{"alg":"HS256"}'), min_size=2, max_size=3))
    def test_any_token_is_accepted_or_refused_and_nothing_worse(self, parts: list[bytes]) -> None:
        """Whatever a token is made of, signed or not, it is refused and nothing else happens."""
        self.assert_refused(verifier(), ".".join(map(part, parts)))
        self.assert_refused(verifier(), token(claims=parts[0], header=parts[1]))


class PublishedKeyTests(SynchronousTestCase):
    """`TokenVerifier` with keys that are published."""

    def test_token_waits_for_its_key_the_first_time_alone(self) -> None:
        """The first token waits for the keys, refused or let in; the next are answered at once."""
        fetches: list[Deferred[bytes]] = []

        def fetch() -> Deferred[bytes]:
            fetches.append(Deferred())
            return fetches[-1]

        checked = verifier(KeySet(fetch, Clock()), "ES256", "RS256")
        good = token(key=EC, algorithm="ES256", header={"alg": "ES256", "kid": "k"})
        forged = good[:-8] + "AAAAAAAA"
        first, bad = checked.authenticate(Token(good)), checked.authenticate(Token(forged))
        unknown = checked.authenticate(Token(token(key=RSA, algorithm="RS256")))
        assert isinstance(first, Deferred)
        assert isinstance(bad, Deferred)
        assert isinstance(unknown, Deferred)
        jwk = jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key(), as_dict=True)
        fetches[0].callback(json.dumps({"keys": [{**jwk, "kid": "k"}]}).encode())
        self.assertEqual(self.successResultOf(first), "alice")
        self.failureResultOf(bad, Unauthorized)
        self.failureResultOf(unknown, Unauthorized)
        self.assertEqual(checked.authenticate(Token(good)), "alice")
        self.assertRaises(Unauthorized, checked.authenticate, Token(forged))
        self.assertEqual(len(fetches), 1)

    def test_published_key_is_never_a_secret(self) -> None:
        """Published keys are public: no setting can make a secret of them."""
        keys = KeySet(Deferred, Clock())
        self.assertRaises(ValueError, verifier, keys, "RS256", "HS256")
        self.assertRaises(ValueError, verifier, keys, "none")


class KeyTests(SynchronousTestCase):
    """`secret` and `public_key`."""

    def test_secret_that_others_can_read_is_refused(self) -> None:
        """An empty secret stops the start, and so does one that others can read."""
        for text in ["", pem(RSA).decode(), pem(EC).decode()]:
            error = self.assertRaises(ValueError, secret, text)
            self.assertTrue(str(error).startswith("must be a secret"))
            self.assertNotIn("BEGIN", repr(error))

    def test_anything_but_a_public_key_is_refused(self) -> None:
        """Whatever is no public key stops the start: a private one, most of all."""
        private = RSA.private_bytes(
            Encoding.PEM,
            PrivateFormat.PKCS8,
            NoEncryption(),
        )
        unfit = ec.generate_private_key(ec.SECP224R1())
        for text in [b"", b"canary", private, pem(RSA)[:-40], pem(unfit), b"\xff"]:
            error = self.assertRaises(ValueError, public_key, text)
            self.assertTrue(str(error).startswith("must hold a public key"))
            self.assertNotIn("canary", repr(error))
