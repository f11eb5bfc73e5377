"""Long work in slices: nobody else is served within one, everybody between two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

SLICE = 0.005
"""Seconds of work between two looks at the sockets."""

T = TypeVar("T")


def in_slices(work: Iterator[T], clock: IReactorTime) -> Deferred[list[T]]:
    """All that `work` yields, each step of which is short.

    The first slice is worked off at once, each further one in an event loop iteration of its own.
    Fires at once where one slice is enough. Fails with what `work` raises; cancelling stops it.
    """
    cancelled = False

    def cancel(_: Deferred[list[T]]) -> None:
        nonlocal cancelled
        cancelled = True

    def step() -> None:
        if cancelled:
            return
        began = clock.seconds()
        try:
            while clock.seconds() - began < SLICE:
                done.append(next(work))
        except StopIteration:
            finished.callback(done)
        except Exception:
            finished.errback()
        else:
            clock.callLater(0, step)

    done: list[T] = []
    finished: Deferred[list[T]] = Deferred(cancel)
    step()
    return finished
