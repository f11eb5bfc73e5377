"""The page and its policy."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from infergate.status import page
from infergate.status.page import document, headers


class Page(SynchronousTestCase):
    def setUp(self) -> None:
        self.html = document().decode()
        self.policy = dict(headers())[b"Content-Security-Policy"].decode()

    def test_every_inline_part_is_in_the_policy(self) -> None:
        """A browser runs each script and applies each style of the page, and no other."""
        parts = re.findall(r"<(script|style)>(.*?)</\1>", self.html, re.DOTALL)
        self.assertEqual(len(parts), 4)
        for kind, text in parts:
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            self.assertRegex(self.policy, rf"{kind}-src [^;]*'sha256-{re.escape(digest)}'")

    def test_nothing_inline_is_let_in_without_its_hash(self) -> None:
        """What a client put into a name can never run."""
        self.assertNotIn("unsafe", self.policy)
        self.assertTrue(self.policy.startswith("default-src 'none'"))
        self.assertIn("frame-ancestors 'none'", self.policy)
        ours = Path(page.__file__).with_name("page.js").read_text("utf-8")
        self.assertIn(ours, self.html)
        self.assertNotRegex(ours, r"innerHTML|outerHTML|insertAdjacentHTML|document\.write")

    def test_no_other_host(self) -> None:
        """The page asks no host but its own for anything."""
        self.assertEqual(re.findall(r"(?:src|href)=\"(?!data:)[^\"]*", self.html), [])
        self.assertNotIn("@@", self.html)
