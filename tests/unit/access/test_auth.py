"""API keys and the credentials they come in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from infergate.access import auth
from infergate.errors import Unauthorized

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

BAD_KEYS = [
    "",
    " , ,",
    ":key",
    "name:",
    "name: key",
    "two words",
    "a\x07b",
    "na\x07me:key",
    "schlüssel",
    "name:schlüssel",
    "sha256:",
    "sha256:canary",
    "sha256:" + "a" * 63,
    "sha256:" + "a" * 65,
    "sha256:" + "g" * 64,
    "name:sha256:canary",
    "name:sha256:" + "a" * 63 + " ",
    "x" * (auth.MAX_TOKEN_BYTES + 1),
    f"alice:{SECRET},bob:{SECRET}",
    f"alice:{SECRET},bob:sha256:{DIGEST}",
    f"alice:{SECRET},{SECRET}",
]


@implementer(auth.IAuthenticator)
class Waiting:
    """Knows everybody, later."""

    def authenticate(self, token: str) -> Deferred[str]:
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

    def test_interface(self) -> None:
        """A key ring can stand wherever callers are authenticated."""
        verifyObject(auth.IAuthenticator, auth.keys_from_text(SECRET))

    def test_forms(self) -> None:
        """All four forms of an entry let the key in, under its name or its digest's start."""
        for entry, caller in [
            (SECRET, UNNAMED),
            (f"alice:{SECRET}", "alice"),
            (f"sha256:{DIGEST}", UNNAMED),
            (f"sha256:{DIGEST.upper()}", UNNAMED),
            (f"alice:sha256:{DIGEST}", "alice"),
            (f"  alice:{SECRET}  ,", "alice"),
            (f"Zoë K.:{SECRET}", "Zoë K."),
        ]:
            self.assertEqual(auth.keys_from_text(entry).authenticate(SECRET), caller, entry)

    def test_colons(self) -> None:
        """Only the first colon ends a name, so that a key may hold more of them."""
        self.assertEqual(auth.keys_from_text("alice:a:b").authenticate("a:b"), "alice")

    def test_unknown(self) -> None:
        """A digest is no key, and neither is a name, a prefix, another case or nothing."""
        ring = auth.keys_from_text(f"alice:{SECRET}")
        for token in [DIGEST, f"sha256:{DIGEST}", "alice", f"alice:{SECRET}", SECRET[:-1]]:
            self.assertRaises(Unauthorized, ring.authenticate, token)
        for token in [SECRET.upper(), "", "\ud800", "é"]:
            self.assertRaises(Unauthorized, ring.authenticate, token)

    def test_several(self) -> None:
        """Every key of the ring works, and one caller may have several while one is replaced."""
        ring = auth.keys_from_text("alice:old,bob:other,alice:new,alice:new")
        callers = [ring.authenticate(token) for token in ["old", "other", "new"]]
        self.assertEqual(callers, ["alice", "bob", "alice"])

    def test_many_keys_cost_what_one_does(self) -> None:
        """A key is found, and a wrong one refused, without a look at any other key."""

        class Unscanned(dict[bytes, str]):
            """A dict that is only looked up in."""

            def __iter__(self) -> Any:
                raise AssertionError("every key was looked at")

            items = keys = values = __iter__  # type: ignore[assignment]

        ring = auth.KeyRing(Unscanned({hashlib.sha256(b"1").digest(): "a"}))
        self.assertEqual(ring.authenticate("1"), "a")
        self.assertRaises(Unauthorized, ring.authenticate, "2")

    def test_bad_entries(self) -> None:
        """A wrong entry is refused by its position, in words that show no key."""
        for text in BAD_KEYS:
            error = self.assertRaises(ValueError, auth.keys_from_text, text)
            for part in [SECRET, DIGEST, "canary", "schlüssel", "aaa", "xxx"]:
                self.assertNotIn(part, repr(error), text)
        error = self.assertRaises(ValueError, auth.keys_from_text, "good,,sha256:bad")
        self.assertIn("entry 3:", str(error))

    def test_file(self) -> None:
        """A file has one entry a line, with comments, blank lines and either line ending."""
        path = Path(self.mktemp())
        path.write_bytes(b"\xef\xbb\xbfalice:a,b\n".replace(b",", b"#"))
        self.assertEqual(auth.keys_from_file(path).authenticate("a#b"), "alice")
        path.write_text(f"# keys\r\n\n  # more, of them\nalice:one\r\n\tsha256:{DIGEST}\n")
        ring = auth.keys_from_file(str(path))
        self.assertEqual([ring.authenticate(t) for t in ["one", SECRET]], ["alice", UNNAMED])
        self.assertRaises(Unauthorized, ring.authenticate, "# keys")

    def test_bad_file(self) -> None:
        """A file that is missing, empty, broken or not UTF-8 stops the start and shows no key."""
        path = Path(self.mktemp())
        self.assertRaises(OSError, auth.keys_from_file, path)
        for content, reason in [
            (b"# nothing\n\n", "no key"),
            (b"good\n# comment\nsha256:canary\n", "line 3"),
            (b"good\ncanary\xff\n", "line 2"),
            (b"\x00\x01\x02canary", "line 1"),
        ]:
            path.write_bytes(content)
            error = self.assertRaises(ValueError, auth.keys_from_file, path)
            self.assertIn(reason, str(error))
            self.assertNotIn("canary", repr(error))

    def test_secrets_stay_inside(self) -> None:
        """Neither a key nor its digest is in a ring's repr, attributes or refusals."""
        ring = auth.keys_from_text(f"alice:{SECRET}")
        error = self.assertRaises(Unauthorized, ring.authenticate, SECRET + "x")
        shown = repr([ring, str(ring), auth.AnyOf([ring]), error, error.args, vars(error)])
        for secret in [SECRET, DIGEST, repr(bytes.fromhex(DIGEST))[2:-1]]:
            self.assertNotIn(secret, shown)
        self.assertNotIn(SECRET, repr(ring._names))


class AnyOfTests(SynchronousTestCase):
    """`AnyOf`."""

    def test_order(self) -> None:
        """The first that knows the caller answers, and none waits where a key is known."""
        ring = auth.keys_from_text("alice:one")
        either = auth.AnyOf([auth.keys_from_text("bob:two"), ring, Waiting()])
        verifyObject(auth.IAuthenticator, either)
        self.assertEqual(either.authenticate("one"), "alice")
        self.assertEqual(either.authenticate("two"), "bob")
        later = either.authenticate("three")
        assert isinstance(later, Deferred)
        self.assertEqual(self.successResultOf(later), "later")

    def test_nobody(self) -> None:
        """A token that none of them knows is refused, and there must be one to ask."""
        either = auth.AnyOf([auth.keys_from_text("one"), auth.keys_from_text("two")])
        self.assertRaises(Unauthorized, either.authenticate, "three")
        self.assertRaises(ValueError, auth.AnyOf, [])
