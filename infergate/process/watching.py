"""Files that are looked at once a second, and what is read out of them when somebody has written
them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Protocol

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

INTERVAL = 1.0
"""Seconds between two looks."""

Look = tuple[object, ...]
"""What can be told of files without reading them."""


class Refused(Exception):
    """What was read cannot be used; the message names the file, and holds no secret."""


@attrs.frozen
class Change:
    """What was read, checked and not yet in use. `said` names what is new, and is empty where
    nothing is; `swap` puts it in the place of the old, and cannot fail."""

    said: str
    swap: Callable[[], None]


class Source(Protocol):
    """Something that is read from files: the keys, or the certificates of one listener."""

    def paths(self) -> Iterable[str]:
        """The files as of now."""

    def read(self) -> Change:
        """Read them; raises `Refused`. Called in a thread where that is worth it."""


def look_at(paths: Iterable[str]) -> Look:
    """What tells a changed file from one that is as it was: its identity, size and time, by the
    path and through any link, so that an editor's rename and the swap of a link are seen."""
    return tuple(_look_at(path) for path in paths)


def _look_at(path: str) -> tuple[object, ...]:
    try:
        found = os.stat(path)
    except OSError as why:
        return (path, why.errno)
    return (path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class Watch:
    """Calls `changed` with what was changed.

    A change counts once two looks in a row agree on it: until then somebody may still be writing.
    A file is told of once for each change, whatever becomes of it. `start` and `stop` are called
    once each, as of every part of the gateway.
    """

    def __init__(
        self, clock: IReactorTime, watched: Iterable[Source], changed: Callable[[Source], object]
    ) -> None:
        self._changed = changed
        self._known = {one: look_at(one.paths()) for one in watched}
        self._seen = dict(self._known)
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def start(self) -> None:
        if self._known:
            self._loop.start(INTERVAL, now=False)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def known(self, watched: Source, look: Look) -> None:
        """What was there at the time of `look` has been read: only what differs is a change."""
        self._known[watched] = self._seen[watched] = look

    def _look(self) -> None:
        """Compare each source's files with what they were: a second ago, to see whether they are
        settled, and when they were last read or told of."""
        for watched, known in list(self._known.items()):
            look = look_at(watched.paths())
            settled = look == self._seen[watched]
            self._seen[watched] = look
            if settled and look != known:
                self._known[watched] = look
                self._changed(watched)
