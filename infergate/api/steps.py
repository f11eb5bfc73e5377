"""Long work in steps, each of them short: whoever runs them may do something else between two.

What judges a text of many megabytes is a generator. The gateway and the worker run it over many
event loop iterations (`reactor.slices`), who has a short text at once.
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
    """The result, when all steps are done."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
