"""Files that are looked at once a second, and what is read out of them when somebody has written
them.

    `Source`     something that is read from files: keys, certificates
    `Look`       what can be told of its files without reading them
    `Change`     what was read and checked, and is put into use by its `swap`
    `Refused`    why what was read cannot be used
    `Watch`      looks, and says which source has changed; `reload` reads it then
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec import Struct
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

INTERVAL = 1.0
"""Seconds between two looks."""

Look = tuple[object, ...]
"""What can be told of files without reading them."""


class Refused(Exception):
    """What was read cannot be used; the message names the file, and holds no secret."""


class Change(Struct, frozen=True):
    """What was read, checked and not yet in use. `said` names what is new, and is empty where
    nothing is; `swap` puts it in the place of the old, and cannot fail."""

    said: str
    swap: Callable[[], None]


class Source(Protocol):
    """Something that is read from files: the keys, or the certificates of one listener.

    `Watch` calls `paths` each second; `Reloader` calls `read`, then `swap` of what it returned.
    """

    def paths(self) -> Iterable[str]:
        """Return the files as of now; none where there is nothing to read."""

    def read(self) -> Change:
        """Read and check the files, and return what would put them into use.

        Raises `Refused` for what cannot be used. Called in a thread; changes nothing.
        """


def look_at(paths: Iterable[str]) -> Look:
    """Return what tells changed files from files that are as they were: identity, size and time.

    Each is looked at by its path and through any link, so that an editor's rename and the swap of a
    link are seen. Called by `Watch` each second, and by `Reloader` just before it reads. Raises
    nothing: a file that is missing is one more state to compare.
    """
    return tuple(_look_at(path) for path in paths)


def _look_at(path: str) -> tuple[object, ...]:
    """Return what is known of one file: device, inode, size in bytes and the time of its last
    change in nanoseconds, or the error number where it cannot be looked at.

    Called by `look_at`.
    """
    try:
        found = os.stat(path)
    except OSError as why:
        return (path, why.errno)
    return (path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class Watch:
    """Call `changed` with each source whose files were changed.

    A change counts once two looks in a row agree on it: until then somebody may still be writing.
    A file is told of once for each change, whatever becomes of it. `Reloader` makes one, calls
    `start` and `stop` once each, as of every part of the gateway, and `known` after each reading.
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
        """Take note that what was there at the time of `look` has been read.

        From now on only what differs from that is a change. Called by `Reloader`, also where what
        it read was refused.
        """
        self._known[watched] = self._seen[watched] = look

    def _look(self) -> None:
        """Compare each source's files with what they were, and tell of those that have changed.

        Called once a second. They are compared with what they were a second ago, to see whether
        they are settled, and with what they were when they were last read or told of.
        """
        for watched, known in list(self._known.items()):
            look = look_at(watched.paths())
            settled = look == self._seen[watched]
            self._seen[watched] = look
            if settled and look != known:
                self._known[watched] = look
                self._changed(watched)
