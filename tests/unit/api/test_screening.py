"""No page and no traceback gets by, and ordinary words do."""

from __future__ import annotations

import json
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.screening import MAX_SCREENED, fit_to_show

UNFIT = [
    "Traceback (most recent call last):",
    'File "/srv/app.py", line 3, in x',
    "Error: x\n    at Object.<anonymous> (/srv/app.js:1:7)",
    "x\n\tat com.example.Main.main(Main.java:5)",
    "goroutine 1 [running]:",
    "stack backtrace:",
    "<!DOCTYPE html><p>",
    "<HTML>",
    "a <br/> b",
]


class FitTests(SynchronousTestCase):
    def test_pages_and_tracebacks_are_unfit(self) -> None:
        """They are found as they are, in JSON, and in JSON that is a string of JSON."""
        for text in UNFIT:
            for _ in range(3):
                self.assertFalse(fit_to_show(text), text)
                text = json.dumps({"x": [text]})

    @given(st.sampled_from(UNFIT), st.data())
    def test_no_escape_hides_them(self, text: str, data: st.DataObject) -> None:
        """They are found whichever of their letters are escaped."""
        hidden = data.draw(st.sets(st.integers(0, len(text) - 1)))
        written = "".join(
            f"\\u{ord(letter):04x}" if at in hidden else json.dumps(letter)[1:-1]
            for at, letter in enumerate(text)
        )
        self.assertFalse(fit_to_show(f'{{"x":"{written}"}}'.encode()))

    def test_words_of_models_are_fit(self) -> None:
        """What errors of a model server hold is shown."""
        for text in (
            "",
            "the prompt has 5000 tokens, which is over 4096",
            "unknown token <|im_start|> in </s><think>",
            "expected 'a' at line 5, column 3 (see file x.py)",
            "C:\\\\models\\\\new",
            "1 < 2 and 3 > 2",
        ):
            self.assertTrue(fit_to_show(text), text)

    def test_hostile_texts_take_no_time(self) -> None:
        """No text makes the search slow."""
        for unit in ("\\", "\n", "\n at ", "<", "< ", "<p", "\\u005c", 'File "'):
            text = unit * (MAX_SCREENED // len(unit))
            began = time.process_time()
            fit_to_show(text)
            self.assertLess(time.process_time() - began, 0.5, unit)
        self.assertFalse(fit_to_show("a" * (MAX_SCREENED + 1)))
