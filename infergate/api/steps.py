"""Long work in steps, each of them short: whoever runs them may do something else between two.

What judges a text of many megabytes is a generator. The gateway and the worker run it over many
event loop iterations (`reactor.slices`), who has a short text at once (`at_once`). Such a function
is annotated with `Steps`:

    def count(text: bytes) -> Steps[int]:
        found = 0
        for block in blocks(text):
            found += block.count(b",")
            yield
        return found

To call one from another is ``found = yield from count(text)``. What it raises, it raises out of the
step that was under way.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

LARGE = 1 << 19
"""Bytes of a text from which on it is judged in steps: ten megabytes of small values take a tenth
of a second."""

Steps: TypeAlias = Generator[None, None, T]
"""What it yields says nothing; what it returns is the result."""


def at_once(steps: Steps[T]) -> T:
    """Run all steps without a pause, and return the result; for texts of at most `LARGE` bytes.
    Raises what the steps raise."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
