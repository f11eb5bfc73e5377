"""Long work in slices: nobody else is served within one, everybody between two."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

SLICE = 0.002
"""Seconds of work between two looks at the sockets."""

T = TypeVar("T")


def in_slices(work: Generator[object, None, T], clock: IReactorTime) -> Deferred[T]:
    """What `work` returns, each step of which is short.

    The first slice is worked off at once, each further one in an event loop iteration of its own.
    Fires at once where one slice is enough. Fails with what `work` raises; cancelling stops it.
    """
    cancelled = False

    def cancel(_: Deferred[T]) -> None:
        nonlocal cancelled
        cancelled = True

    def step() -> None:
        if cancelled:
            return
        began = clock.seconds()
        try:
            next(work)
            while clock.seconds() - began < SLICE:
                next(work)
        except StopIteration as end:
            finished.callback(end.value)
        except Exception:
            finished.errback()
        else:
            clock.callLater(0, step)

    finished: Deferred[T] = Deferred(cancel)
    step()
    return finished


def gathered(work: Iterator[T]) -> Generator[None, None, list[T]]:
    """All that `work` yields, as work that returns it."""
    done = []
    for one in work:
        done.append(one)
        yield
    return done
