"""Where log lines go: standard output of any kind, or a log file; a write never waits.

Whether a write waits is, for a pipe or a terminal, a flag (`O_NONBLOCK`) of the open file, which
the gateway shares with the shell that started it and with everybody else who writes there. Setting
it would change theirs: `cat` in the same shell would end with "resource temporarily unavailable".
So the same pipe or terminal is opened a second time, with a flag of its own; a socket, which
cannot be opened again, has a flag for each write.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import Protocol

from twisted.logger import Logger

_log = Logger(namespace="infergate")


class Target(Protocol):
    """What `LogWriter` writes to."""

    def send(self, data: bytes) -> int:
        """Write what can be written now, and return the number of bytes that were.

        Raises `BlockingIOError` where that is none, and another `OSError` where there never will be
        a reader, or no room on the disk.
        """

    def fileno(self) -> int:
        """Return the descriptor, which can be polled where `send` raises `BlockingIOError`."""


class Descriptor:
    """A descriptor that never waits: a file, or a pipe that was opened for this alone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, data: bytes) -> int:
        return os.write(self._fd, data)

    def fileno(self) -> int:
        return self._fd


class LogFile(Descriptor):
    """A file that lines are appended to, wherever its end then is: `logrotate` may truncate it.

    `reopen` opens what stands under its path by then: `logrotate` may have moved it. Making one
    creates the file where there is none, and raises `OSError` where it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        super().__init__(self._open())

    def _open(self) -> int:
        """Open the file to append to, and return its descriptor. Raises `OSError` where that fails.
        Called at the start, and by `reopen`."""
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def reopen(self) -> None:
        """Open the path anew, and close the old file. Called by the function `reopen`.

        Raises `OSError` where the path cannot be opened; the open file then stays in use.
        """
        old, self._fd = self._fd, self._open()
        os.close(old)


class SharedDescriptor(Descriptor):
    """A pipe or terminal that could not be opened again, as a terminal after `su` cannot: the flag
    that it shares is set for the length of a write."""

    def send(self, data: bytes) -> int:
        """Write what can be written now, as `Target.send`; the flag is put back whatever
        happens."""
        blocking = os.get_blocking(self._fd)
        os.set_blocking(self._fd, False)
        try:
            return super().send(data)
        finally:
            os.set_blocking(self._fd, blocking)


class Socket:
    """A socket, such as systemd's journal gives a service for its standard output."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=os.dup(fd))

    def send(self, data: bytes) -> int:
        """Write what can be written now, as `Target.send`, by a flag of this one call."""
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def fileno(self) -> int:
        return self._socket.fileno()


def target_of(fd: int) -> Target:
    """Return the way to write to an open descriptor, of whatever kind, without ever waiting.

    Called by `tap` for standard output. Raises `OSError` where the descriptor is not open.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return Socket(fd)
    if stat.S_ISREG(mode):
        return Descriptor(fd)
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return Descriptor(os.open(f"/proc/self/fd/{fd}", flags))
    except OSError:
        return SharedDescriptor(fd)


def reopen(target: Target) -> None:
    """Open a log file anew, as `logrotate` asks for by SIGUSR1; anything else needs no such thing.

    Called by `tap`'s signal handler, in the reactor's thread. Raises nothing: what goes wrong is
    logged to the file that is still open.
    """
    if not isinstance(target, LogFile):
        return
    try:
        target.reopen()
    except OSError as why:
        _log.error("{path} cannot be opened anew: {why}", path=target.path, why=why.strerror)
