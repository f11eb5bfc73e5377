"""What was looked at, as lines and as an object."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from infergate.doctor.report import all_well, document, fail, ok, speaks_utf8, warn

CHECKS = [ok("chat", "answers"), warn("rerank", "not offered: “no”", "leave it out")]
WRONG = fail("clock", "ahead", "set it")


class Lines(SynchronousTestCase):
    def test_each_begins_with_its_mark(self) -> None:
        """Name, how it is, and after an arrow what to do about it."""
        lines = [check.line(utf8=True) for check in (*CHECKS, WRONG)]
        self.assertEqual(
            lines,
            ["✓ chat: answers", "! rerank: not offered: “no” → leave it out",
             "✗ clock: ahead → set it"],
        )  # fmt: skip

    def test_without_utf8_marks_are_words_and_all_is_ascii(self) -> None:
        """A terminal that has no UTF-8 shows no rubbish, whatever a backend said."""
        lines = [check.line(utf8=False) for check in (*CHECKS, WRONG)]
        self.assertEqual(lines[0], "ok chat: answers")
        self.assertEqual(lines[1], r"warn rerank: not offered: \u201cno\u201d -> leave it out")
        self.assertEqual(lines[2], "FAIL clock: ahead -> set it")


class Document(SynchronousTestCase):
    def test_holds_what_scripts_look_for(self) -> None:
        """What is well has an empty hint; `ok` says whether nothing is wrong."""
        said = json.loads(document(CHECKS, "vLLM", "http://a/v1", ["m"]))
        self.assertEqual(said["backend"], {"kind": "vLLM", "url": "http://a/v1", "models": ["m"]})
        self.assertEqual(
            said["checks"][0], {"name": "chat", "status": "ok", "message": "answers", "hint": ""}
        )
        self.assertTrue(said["ok"])
        self.assertFalse(json.loads(document([*CHECKS, WRONG]))["ok"])

    def test_what_is_only_warned_of_is_well(self) -> None:
        """The exit status is that of what is wrong alone."""
        self.assertTrue(all_well(CHECKS))
        self.assertFalse(all_well([WRONG, *CHECKS]))


class Terminal(SynchronousTestCase):
    def test_utf8_is_what_python_writes_and_the_locale_names(self) -> None:
        """The first variable that is set counts; what Python itself sets where the locale is C
        says nothing."""
        for environ, encoding, expected in (
            ({}, "utf-8", True),
            ({}, "iso-8859-1", False),
            ({}, None, False),
            ({"LANG": "de_DE.UTF-8"}, "UTF-8", True),
            ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, "utf-8", False),
            ({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, "utf-8", False),
            ({"LC_CTYPE": "C.UTF-8"}, "utf-8", True),
            ({"LC_ALL": "", "LANG": "en_US.utf8"}, "utf-8", True),
        ):
            self.assertEqual(speaks_utf8(environ, encoding), expected, environ)
