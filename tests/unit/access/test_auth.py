"""API keys and the credentials they come in."""

from __future__ import annotations

import hashlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from infergate.access import auth
from infergate.access.auth import Token
from infergate.access.keysfile import keys_from_text
from infergate.errors import KeyExpired, Unauthorized

SECRET = "sk-canary-0123456789"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
UNNAMED = f"key-{DIGEST[:8]}"

GOOD_HEADERS = [
    (b"Bearer " + SECRET.encode(), SECRET),
    (b"bearer " + SECRET.encode(), SECRET),
    (b"BEARER " + SECRET.encode(), SECRET),
    (b"Api-Key " + SECRET.encode(), SECRET),
    (b"aPI-kEY " + SECRET.encode(), SECRET),
    (b"Bearer    abc", "abc"),
    (b"Bearer !\"#$%&'()*+-./:;<=>?@[]^_`{|}~", "!\"#$%&'()*+-./:;<=>?@[]^_`{|}~"),
    (b"Bearer Bearer", "Bearer"),
    (b"Bearer " + b"x" * auth.MAX_TOKEN_BYTES, "x" * auth.MAX_TOKEN_BYTES),
]

BAD_HEADERS: list[list[bytes]] = [
    [],
    [b""],
    [b"Bearer abc", b"Bearer abc"],
    [b"Bearer abc", b""],
    [b"Bearer abc, Bearer abc"],
    [b"Bearer abc,"],
    [b"Bearer abc,def"],
    [b"Bearer"],
    [b"Bearer "],
    [b"Bearer   "],
    [b"Api-Key"],
    [b"Bearer\tabc"],
    [b"Bearer \tabc"],
    [b"Bearer abc def"],
    [b"Bearer abc "],
    [b" Bearer abc"],
    [b"Bearerabc"],
    [b"Bearer:abc"],
    [b"abc"],
    [b"Basic YWxhZGRpbjpvcGVuc2VzYW1l"],
    [b"ApiKey abc"],
    [b"Bearer abc\x00"],
    [b"Bearer abc\n"],
    [b"Bearer abc\x7f"],
    [b"Bearer abc\x80"],
    [b"Bearer \xff\xfe"],
    ["Bearer schlüssel".encode()],
    [b"Bearer " + b"x" * (auth.MAX_TOKEN_BYTES + 1)],
]


@implementer(auth.IAuthenticator)
class Waiting:
    """Knows everybody, later."""

    def authenticate(self, token: Token) -> Deferred[str]:
        return succeed("later")


class CredentialsTests(SynchronousTestCase):
    """`credentials`."""

    def test_both_schemes_of_authorization_are_understood(self) -> None:
        """Both schemes are understood in any case, with any number of spaces after them."""
        for value, token in GOOD_HEADERS:
            self.assertEqual(auth.credentials({b"authorization": [value]}), token)

    def test_x_api_key_and_api_key_are_understood(self) -> None:
        """The fields of Anthropic's and of Azure's clients hold a key, bare."""
        for name in (b"x-api-key", b"api-key"):
            self.assertEqual(auth.credentials({name: [SECRET.encode()]}), SECRET)
            for values in ([b""], [b"two words"], [b"a,b"], [b"a", b"a"], ["ö".encode()]):
                self.refused({name: values})

    def test_first_credentials_in_order_decide(self) -> None:
        """Where several are sent, the first in order decides, though a later one be right."""
        everything = {b"authorization": [b"Bearer a"], b"x-api-key": [b"b"], b"api-key": [b"c"]}
        self.assertEqual(auth.credentials(everything), "a")
        del everything[b"authorization"]
        self.assertEqual(auth.credentials(everything), "b")
        for broken in ([b"Bearer"], [b"Bearer a b"], [b"Bearer a", b"Bearer a"]):
            self.refused({b"authorization": broken, b"x-api-key": [b"b"]})
        self.refused({b"x-api-key": [b""], b"api-key": [b"c"]})

    def test_authorization_of_another_scheme_is_passed_over(self) -> None:
        """What a proxy in front asked for is no key, and hides none."""
        for other in (b"Basic YTpi", b"Digest a=b", b"Bearerish a", b"Api-Key2 a", b"", b"basic"):
            fields = {b"authorization": [other], b"api-key": [b"c"]}
            self.assertEqual(auth.credentials(fields), "c", other)
            self.refused({b"authorization": [other]})

    def test_everything_else_is_refused_alike(self) -> None:
        """Anything but one field with one scheme and one token is a 401, always the same."""
        self.refused({})
        for values in BAD_HEADERS:
            self.refused({b"authorization": values})

    def refused(self, fields: dict[bytes, list[bytes]]) -> None:
        error = self.assertRaises(Unauthorized, auth.credentials, fields)
        self.assertEqual(error.message, Unauthorized.message, fields)
        self.assertEqual(error.headers, [(b"WWW-Authenticate", b"Bearer")])

    @given(
        st.sampled_from([b"authorization", b"x-api-key", b"api-key"]),
        st.lists(st.binary(max_size=20), max_size=2),
    )
    def test_any_bytes_are_a_token_in_plain_ascii_or_refused(
        self, name: bytes, values: list[bytes]
    ) -> None:
        """Whatever bytes come in, there is a token in plain ASCII or a 401."""
        for prefix in (b"", b"Bearer "):
            try:
                token = auth.credentials({name: [prefix + value for value in values]})
            except Unauthorized:
                continue
            self.assertTrue(token.isascii() and token.isprintable() and " " not in token)


class KeyRingTests(SynchronousTestCase):
    """`KeyRing` and what it is read from."""

    def test_key_ring_stands_wherever_callers_are_authenticated(self) -> None:
        """A key ring can stand wherever callers are authenticated."""
        verifyObject(auth.IAuthenticator, keys_from_text(SECRET))

    def test_digest_name_or_prefix_of_a_key_is_no_key(self) -> None:
        """A digest is no key, and neither is a name, a prefix, another case or nothing."""
        ring = keys_from_text(f"alice:{SECRET}")
        for token in [DIGEST, f"sha256:{DIGEST}", "alice", f"alice:{SECRET}", SECRET[:-1]]:
            self.assertRaises(Unauthorized, ring.authenticate, Token(token))
        for token in [SECRET.upper(), "", "\ud800", "é"]:
            self.assertRaises(Unauthorized, ring.authenticate, Token(token))

    def test_expired_key_is_refused_by_name_and_not_as_a_wrong_one(self) -> None:
        """A key works to the end of its last day; after it the refusal says so, and whose it is."""
        digest = hashlib.sha256(b"old").digest()
        now = [99.0]
        ring = auth.KeyRing({digest: "alice"}, expires={digest: 100.0}, now=lambda: now[0])
        either = auth.AnyOf([ring, keys_from_text("other")])
        for one in (ring, either):
            now[0] = 99.9
            self.assertEqual(one.authenticate(Token("old")), "alice")
            now[0] = 100.0
            error = self.assertRaises(KeyExpired, one.authenticate, Token("old"))
            self.assertEqual(error.caller, "alice")
            self.assertIn("expired", error.message)

    def test_many_keys_cost_what_one_does(self) -> None:
        """A key is found, and a wrong one refused, without a look at any other key."""

        class Unscanned(dict[bytes, str]):
            """A dict that is only looked up in."""

            def __iter__(self) -> Any:
                raise AssertionError("every key was looked at")

            items = keys = values = __iter__  # type: ignore[assignment]

        ring = auth.KeyRing(Unscanned({hashlib.sha256(b"1").digest(): "a"}))
        self.assertEqual(ring.authenticate(Token("1")), "a")
        self.assertRaises(Unauthorized, ring.authenticate, Token("2"))

    def test_keys_and_digests_are_in_no_repr_or_error(self) -> None:
        """Neither a key nor its digest is in a ring's repr, attributes or refusals."""
        ring = keys_from_text(f"alice:{SECRET}")
        error = self.assertRaises(Unauthorized, ring.authenticate, Token(SECRET + "x"))
        shown = repr([ring, str(ring), auth.AnyOf([ring]), error, error.args, vars(error)])
        for secret in [SECRET, DIGEST, repr(bytes.fromhex(DIGEST))[2:-1]]:
            self.assertNotIn(secret, shown)
        self.assertNotIn(SECRET, repr(ring._names))


class AnyOfTests(SynchronousTestCase):
    """`AnyOf`."""

    def test_first_authenticator_that_knows_the_caller_answers(self) -> None:
        """The first that knows the caller answers, and none waits where a key is known."""
        ring = keys_from_text("alice:one")
        either = auth.AnyOf([keys_from_text("bob:two"), ring, Waiting()])
        verifyObject(auth.IAuthenticator, either)
        self.assertEqual(either.authenticate(Token("one")), "alice")
        self.assertEqual(either.authenticate(Token("two")), "bob")
        later = either.authenticate(Token("three"))
        assert isinstance(later, Deferred)
        self.assertEqual(self.successResultOf(later), "later")

    def test_token_that_nobody_knows_is_refused(self) -> None:
        """A token that none of them knows is refused, and there must be one to ask."""
        either = auth.AnyOf([keys_from_text("one"), keys_from_text("two")])
        self.assertRaises(Unauthorized, either.authenticate, Token("three"))
        self.assertRaises(ValueError, auth.AnyOf, [])
