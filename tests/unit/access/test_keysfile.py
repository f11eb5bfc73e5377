"""Keys as people write them, in `API_KEYS` and in the lines of a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.access.auth import MAX_TOKEN_BYTES, Token
from infergate.access.keysfile import (
    KeysFile,
    KeysFileError,
    keys_from_file,
    keys_from_text,
    parse_keys_file,
)
from infergate.access.policy import Policy, TokenLimit
from infergate.access.ratelimit import Rate
from infergate.errors import Unauthorized

SECRET = "sk-canary-0123456789"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
UNNAMED = f"key-{DIGEST[:8]}"

BAD_ENTRIES = [
    "",
    " , ,",
    ":key",
    "name:",
    "name: key",
    "two words",
    "Zoë K.:key",
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
    ":sha256:" + "a" * 64,
    "*:canary",
    "*:sha256:" + "a" * 64,
    "x" * (MAX_TOKEN_BYTES + 1),
    f"alice:{SECRET},bob:{SECRET}",
    f"alice:{SECRET},bob:sha256:{DIGEST}",
    f"alice:{SECRET},{SECRET}",
]


class Text(SynchronousTestCase):
    def test_all_forms_of_an_entry_let_the_key_in(self) -> None:
        """All four forms of an entry let the key in, under its name or its digest's start."""
        for entry, caller in [
            (SECRET, UNNAMED),
            (f"alice:{SECRET}", "alice"),
            (f"sha256:{DIGEST}", UNNAMED),
            (f"sha256:{DIGEST.upper()}", UNNAMED),
            (f"alice:sha256:{DIGEST}", "alice"),
            (f"  alice:{SECRET}  ,", "alice"),
            (f"Zoë:{SECRET}", "Zoë"),
            (f"ou:alice:sha256:{DIGEST}", "ou:alice"),
        ]:
            self.assertEqual(keys_from_text(entry).authenticate(Token(SECRET)), caller, entry)

    def test_first_colon_ends_the_name_of_a_plain_key(self) -> None:
        """Only the first colon ends a name, so that a plain key may hold more of them."""
        self.assertEqual(keys_from_text("alice:a:b").authenticate(Token("a:b")), "alice")

    def test_one_name_may_have_several_keys(self) -> None:
        """Every key of the ring works, and one caller may have several while one is replaced."""
        ring = keys_from_text("alice:old,bob:other,alice:new,alice:new")
        callers = [ring.authenticate(Token(token)) for token in ["old", "other", "new"]]
        self.assertEqual(callers, ["alice", "bob", "alice"])
        self.assertEqual(ring.names, ["alice", "bob"])

    def test_wrong_entry_is_refused_by_its_position_without_its_key(self) -> None:
        """A wrong entry is refused by its position, in words that show no key."""
        for text in BAD_ENTRIES:
            error = self.assertRaises(ValueError, keys_from_text, text)
            for part in [SECRET, DIGEST, "canary", "schlüssel", "aaa", "xxx"]:
                self.assertNotIn(part, repr(error), text)
        error = self.assertRaises(ValueError, keys_from_text, "good,,sha256:bad")
        self.assertIn("entry 3:", str(error))

    def test_rules_without_a_key_belong_in_the_file(self) -> None:
        """API_KEYS holds keys alone."""
        for text in ("*", "alice:-"):
            error = self.assertRaises(ValueError, keys_from_text, text)
            self.assertIn("API_KEYS_FILE", str(error))

    def test_short_keys_are_named(self) -> None:
        """Keys that are easy to guess can be warned of by name; of a digest nobody can tell."""
        ring = keys_from_text(f"a:{'x' * 15},b:{'y' * 16},c:sha256:{DIGEST},short")
        self.assertEqual(ring.short, ("a", f"key-{hashlib.sha256(b'short').hexdigest()[:8]}"))


class Lines(SynchronousTestCase):
    def read(self, *lines: str) -> KeysFile:
        return parse_keys_file(lines, "team.keys")

    def policy(self, name: str, *lines: str, rate: Rate | None = None) -> Policy:
        return self.read(*lines).policies(rate).of(name)

    def refused(self, *lines: str) -> str:
        """The error about the last of several lines, without its place."""
        error = str(self.assertRaises(KeysFileError, self.read, *lines))
        place = f"team.keys line {len(lines)}: "
        self.assertTrue(error.startswith(place), error)
        self.assertTrue(error.isprintable())
        return error.removeprefix(place)

    def test_every_option_is_read(self) -> None:
        """A key's line says all that its name may do."""
        policy = self.policy(
            "alice",
            f"alice:sha256:{DIGEST}  rate=60/minute\ttokens=5000000/month tokens=200000/day "
            "concurrent=4 models=qwen*,gemma routes=Chat,embeddings,metrics "
            "from=10.0.0.0/8,192.0.2.7 user=X-OpenWebUI-User-Email expires=2027-01-31",
        )
        self.assertEqual((policy.rate, policy.rate_set_by), (Rate(60, 60), "rate"))
        self.assertEqual(policy.tokens, (TokenLimit(200000, "day"), TokenLimit(5000000, "month")))
        self.assertEqual((policy.concurrent, policy.models), (4, ("qwen*", "gemma")))
        self.assertEqual(policy.routes, {"chat", "embeddings", "metrics"})
        self.assertEqual([str(one) for one in policy.sources or ()], ["10.0.0.0/8", "192.0.2.7/32"])
        self.assertEqual(policy.user_field, b"x-openwebui-user-email")

    def test_own_option_stands_over_the_default_and_that_over_rate_limit(self) -> None:
        """What a name says itself counts, else what * says, else RATE_LIMIT; all of its token
        limits together take the place of those of *."""
        lines = (
            "* rate=5/minute tokens=100/day tokens=900/month concurrent=2",
            f"alice:sha256:{DIGEST} tokens=7/hour",
            f"bob:sha256:{OTHER} rate=off tokens=off concurrent=off",
        )
        limit = Rate(1, 1)
        alice = self.policy("alice", *lines, rate=limit)
        self.assertEqual((alice.rate, alice.rate_set_by), (Rate(5, 60), "rate"))
        self.assertEqual((alice.tokens, alice.concurrent), ((TokenLimit(7, "hour"),), 2))
        bob = self.policy("bob", *lines, rate=limit)
        self.assertEqual((bob.rate, bob.tokens, bob.concurrent), (None, (), None))
        other = self.policy("other", *lines, rate=limit)
        self.assertEqual(len(other.tokens), 2)
        self.assertEqual(self.policy("a", "a:key", rate=limit), Policy(rate=limit))

    def test_keys_of_one_name_share_its_rules(self) -> None:
        """While a key is replaced both stand there, and what one says holds for the other."""
        lines = (f"a:sha256:{DIGEST} rate=1/day models=m", f"a:sha256:{OTHER} rate=1/day")
        self.assertEqual(self.policy("a", *lines).models, ("m",))
        error = self.refused(*lines, "a:third-key models=n")
        self.assertIn("models=", error)

    def test_expires_belongs_to_its_key(self) -> None:
        """A key works to the end of its last day in UTC, the other keys of its name go on."""
        ring = self.read("a:old expires=2027-01-31", "a:new").ring
        digest = hashlib.sha256(b"old").digest()
        self.assertEqual(ring._expires, {digest: 1801440000.0})  # 2027-02-01T00:00:00Z
        self.assertIn("belongs to a key", self.refused("a:key", "* expires=2027-01-31"))
        self.assertIn("another day", self.refused("k expires=2027-01-31", "k expires=2027-02-01"))

    def test_rules_for_the_sub_of_a_token(self) -> None:
        """A name without a key is a token's sub; where it stands is known, for the error where no
        tokens are checked."""
        file = self.read("a:key", "auth0|x:y:- concurrent=1")
        self.assertEqual(file.policies(None).of("auth0|x:y").concurrent, 1)
        self.assertEqual(file.token_rule, "team.keys line 2")
        self.assertIsNone(self.read("a:key", "* rate=1/day").token_rule)
        self.assertEqual(len(self.read("alice:-").ring), 0)

    def test_comments_stand_at_the_start_of_a_line_alone(self) -> None:
        """A # further on is a part of a key, or no option."""
        ring = self.read("# a:one", "  # two", "", "a:b#c").ring
        self.assertEqual(ring.authenticate(Token("b#c")), "a")
        self.assertRaises(Unauthorized, ring.authenticate, Token("a:one"))
        self.assertIn("an option must be", self.refused("a:key # a comment"))

    def test_wrong_entries_are_refused_without_their_key(self) -> None:
        """A line that is neither key nor rule is wrong."""
        for text in BAD_ENTRIES:
            if text.strip(" ,") and "," not in text:
                error = self.refused("good:key", text)
                for part in ("canary", "schlüssel", "aaa", "xxx"):
                    self.assertNotIn(part, error)
        self.assertIn("another name", self.refused(f"a:{SECRET}", f"b:sha256:{DIGEST}"))

    def test_key_that_nobody_has_filled_in_is_refused(self) -> None:
        """A `${KEY}` is no key, which everybody could guess, nor is one that still has quotes."""
        for key, why in (("${KEY}", "nobody has filled in"), ('"canary"', "still has its quotes")):
            with self.assertRaisesRegex(ValueError, f"line 1: .*{why}"):
                parse_keys_file([f"alice:{key}"], "team.keys")

    def test_file_without_a_key_is_refused(self) -> None:
        """A file that lets nobody in is a mistake."""
        for lines in ((), ("# a:key",), ("* rate=1/day",)):
            error = self.assertRaises(KeysFileError, self.read, *lines)
            self.assertEqual(str(error), "team.keys: there is no key in it")

    @given(st.text("ab:*-=#,/ \t0é\u2028\x00", max_size=20))
    def test_any_line_is_read_or_refused_in_one_printable_line(self, line: str) -> None:
        """Whatever stands in a file, the start goes on or ends with one line."""
        try:
            self.read("good:key", line)
        except KeysFileError as error:
            self.assertTrue(str(error).isprintable())


class Files(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_either_line_ending_and_a_byte_order_mark_are_read(self) -> None:
        """A file has one entry a line, with comments, blank lines and either line ending."""
        self.path.write_bytes(b"\xef\xbb\xbfalice:a#b\n")
        self.assertEqual(keys_from_file(str(self.path)).ring.authenticate(Token("a#b")), "alice")
        self.path.write_text(f"# keys\r\n\n  # more\nalice:one\r\n\tsha256:{DIGEST}\n")
        ring = keys_from_file(str(self.path)).ring
        self.assertEqual([ring.authenticate(Token(t)) for t in ["one", SECRET]], ["alice", UNNAMED])

    def test_missing_or_broken_file_is_refused_without_a_key(self) -> None:
        """A file that is missing, empty, broken or not UTF-8 stops the start and shows no key."""
        self.assertRaises(OSError, keys_from_file, str(self.path))
        for content, reason in [
            (b"# nothing\n\n", "no key"),
            (b"good\n# comment\nsha256:canary\n", "line 3"),
            (b"good\ncanary\xff\n", "line 2"),
            (b"\x00\x01\x02canary", "line 1"),
        ]:
            self.path.write_bytes(content)
            error = self.assertRaises(KeysFileError, keys_from_file, str(self.path))
            self.assertIn(reason, str(error))
            self.assertNotIn("canary", repr(error))

    def test_plain_keys_that_others_may_read_are_noticed(self) -> None:
        """Who leaves plain keys readable can be warned; digests may be read by anybody."""
        for text, mode, exposed in (
            ("a:key", 0o644, True),
            ("a:key", 0o640, False),
            (f"a:sha256:{DIGEST}", 0o644, False),
        ):
            self.path.write_text(text)
            os.chmod(self.path, mode)
            self.assertEqual(keys_from_file(str(self.path)).exposed, exposed, (text, mode))
