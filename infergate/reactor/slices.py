"""Long work in slices: nobody else is served within one, everybody between two.

Work is a generator whose steps are short, such as those of `api.steps`; what it returns is the
result. A slice is as many of its steps as fit into `SLICE` seconds. So a prompt of ten megabytes is
checked while the streams of others go on.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

SLICE = 0.002
"""Seconds of work between two looks at the sockets."""

T = TypeVar("T")


def in_slices(work: Generator[object, None, T], clock: IReactorTime) -> Deferred[T]:
    """Run `work`, each step of which is short, and fire with what it returns.

    The first slice is worked off at once, each further one in an event loop iteration of its own.
    Fires at once where one slice is enough. Fails with what `work` raises; cancelling stops it.
    Called with large requests and replies, and with all metrics at a scrape.
    """
    cancelled = False

    def cancel(_: Deferred[T]) -> None:
        """Have no further step follow; the generator is not closed."""
        nonlocal cancelled
        cancelled = True

    def step() -> None:
        """Work off one slice, and schedule the next one or say that all is done."""
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
    """Return all that `work` yields, as work that returns it: a step for each thing. For
    `in_slices`."""
    done = []
    for one in work:
        done.append(one)
        yield
    return done
