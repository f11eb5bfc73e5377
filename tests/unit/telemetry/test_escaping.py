"""Text of unknown origin on a terminal."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry.escaping import escaped


class Escaping(SynchronousTestCase):
    def test_printable_text_is_left_as_it_is(self) -> None:
        """A name in any script can be read in the log as it was sent."""
        for text in ("", "llama-3", "gut\u00e4", "\u4e2d\u6587", "\U0001f600", "a\\u001b"):
            self.assertEqual(escaped(text), text)

    def test_what_a_terminal_would_obey_is_written_out(self) -> None:
        """Control characters, overrides of the direction and ends of lines are shown, and what
        stands around them stays."""
        for character, shown in (
            ("\x1b", "\\u001b"),
            ("\n", "\\u000a"),
            ("\x9b", "\\u009b"),
            ("\u202e", "\\u202e"),
            ("\u2028", "\\u2028"),
        ):
            self.assertEqual(escaped(f"\u00e4{character}[2J"), f"\u00e4{shown}[2J")

    def test_character_beyond_16_bits_is_the_same_text_in_json(self) -> None:
        """One that needs two code units is written as both, so that JSON reads it back."""
        self.assertEqual(escaped("\U000e0041"), "\\udb40\\udc41")
        self.assertEqual(json.loads(f'"{escaped(chr(0xE0041))}"'), "\U000e0041")

    def test_half_a_surrogate_pair_is_written_out(self) -> None:
        """Broken text costs no line, and what is left can be encoded."""
        self.assertEqual(escaped("half \ud800").encode(), b"half \\ud800")
