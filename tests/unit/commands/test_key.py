"""``infergate key``: a strong key and its line, or the digest of a key."""

from __future__ import annotations

import getpass
import hashlib
import io
import re
import sys

from twisted.trial.unittest import SynchronousTestCase

from infergate.access.auth import Token
from infergate.access.keysfile import parse_keys_file
from infergate.access.ratelimit import Rate
from infergate.commands.key import main

STRONG = "sk-0123456789abcdef"
DIGEST = f"sha256:{hashlib.sha256(STRONG.encode()).hexdigest()}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class KeyCommand(SynchronousTestCase):
    def setUp(self) -> None:
        self.warned = io.StringIO()
        self.patch(sys, "stderr", self.warned)

    def printed(self, *arguments: str, entered: str = "") -> list[str]:
        out = io.StringIO()
        self.assertEqual(main(arguments, out, io.StringIO(entered)), 0)
        return out.getvalue().splitlines()

    def refused(self, *arguments: str, entered: str = "") -> str:
        out = io.StringIO()
        with self.assertRaises(SystemExit) as caught:
            main(arguments, out, io.StringIO(entered))
        self.assertEqual(out.getvalue(), "")
        line = str(caught.exception)
        self.assertTrue(line.startswith("infergate key: "), line)
        self.assertEqual(len(line.splitlines()), 1)
        return line

    def test_key_and_its_line_fit_each_other(self) -> None:
        """The key is strong and never the same twice; its line lets it in, with its rules, and
        does not hold it."""
        key, line = self.printed("alice", "rate=60/minute", "models=qwen*")
        self.assertRegex(key, r"\Ask-[A-Za-z0-9_-]{43}\Z")
        self.assertEqual(
            line,
            f"alice:sha256:{hashlib.sha256(key.encode()).hexdigest()} rate=60/minute models=qwen*",
        )
        file = parse_keys_file([line], "keys")
        self.assertEqual(file.ring.authenticate(Token(key)), "alice")
        self.assertEqual(file.policies(None).of("alice").rate, Rate(60, 60))
        self.assertNotEqual(self.printed("alice")[0], self.printed("alice")[0])

    def test_digest_of_an_entered_key(self) -> None:
        """A key that is there already is hashed without its line end, alone or as a whole line."""
        for end in ("", "\n", "\r\n"):
            self.assertEqual(self.printed("--hash", entered=STRONG + end), [DIGEST])
        line = f"alice:{DIGEST} tokens=5/day"
        self.assertEqual(self.printed("--hash", "alice", "tokens=5/day", entered=STRONG), [line])
        self.assertEqual(self.warned.getvalue(), "")

    def test_key_on_a_terminal_is_not_echoed(self) -> None:
        """On a terminal the key is asked for as a password is."""
        self.patch(getpass, "getpass", lambda prompt: STRONG)
        out = io.StringIO()
        main(["--hash"], out, Terminal())
        self.assertEqual(out.getvalue(), f"{DIGEST}\n")

    def test_end_of_input_on_a_terminal_is_refused_in_one_line(self) -> None:
        """Control-D in place of a key ends the command as any other wrong key does."""

        def ended(prompt: str) -> str:
            raise EOFError

        self.patch(getpass, "getpass", ended)
        with self.assertRaises(SystemExit) as caught:
            main(["--hash"], io.StringIO(), Terminal())
        self.assertEqual(caught.exception.code, "infergate key: no key was entered")

    def test_short_key_is_warned_of(self) -> None:
        """A key that is easy to guess is hashed all the same, with a warning beside it."""
        self.assertEqual(len(self.printed("--hash", entered="short")), 1)
        self.assertIn("16 characters", self.warned.getvalue())

    def test_what_no_line_may_hold_is_refused_in_one_line(self) -> None:
        """A wrong name or option makes no key, and no refusal shows one."""
        self.assertIn("needs a name", self.refused())
        self.assertIn("rate=lots: must be N/second", self.refused("alice", "rate=lots"))
        self.assertIn("an option must be", self.refused("alice", "bob"))
        self.assertIn("* stands for all", self.refused("*"))
        self.assertIn("name", self.refused("two words"))
        self.assertIn("a comment", self.refused("#alice"))
        self.assertIn("models=a b: must not hold a blank", self.refused("alice", "models=a b"))
        for entered in ("", "two words", DIGEST, "-", "sk-\n\n"):
            line = self.refused("--hash", entered=entered)
            self.assertFalse(re.search("sk-|two|[0-9a-f]{64}", line), line)
