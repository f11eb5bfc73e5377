"""One thread for what blocks."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


@attrs.define(eq=False)
class OneThread:
    """Calls functions one after another in a thread of its own, which begins with the first.

    Twisted's pool would keep the process from ending for as long as one of its threads waits for a
    database that is silent; this one ends with the process. `call_from_thread` is the reactor's.
    Called by the ledger for each question and each batch, and by ``infergate check``; `end` comes
    last.
    """

    _name: str
    _call_from_thread: Callable[..., object]
    _jobs: SimpleQueue[Callable[[], None] | None] = attrs.field(factory=SimpleQueue, init=False)
    _thread: Thread | None = attrs.field(default=None, init=False)

    def __call__(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Call `function` with the `arguments` in the thread, after all that was given before, and
        return a Deferred of what it returns or raises, which fires in the reactor's thread. To
        cancel it ends nothing in the thread."""
        result: Deferred[T] = Deferred()

        def job() -> None:
            """Call `function`, and hand what becomes of it to the reactor's thread; raises
            nothing."""
            try:
                value: T | Failure = function(*arguments)
            except BaseException:
                value = Failure()
            self._call_from_thread(result.callback, value)

        self._jobs.put(job)
        if self._thread is None:
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return result

    def end(self) -> None:
        """Let the thread end once it has done what it was given. Called at the stop; returns at
        once."""
        self._jobs.put(None)

    def _run(self) -> None:
        """Do what the thread is there for: call each job until `end` is among them."""
        while (job := self._jobs.get()) is not None:
            job()
