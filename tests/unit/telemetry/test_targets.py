"""Where log lines go, and that writing there never waits."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import socket
from pathlib import Path
from typing import Any

from twisted.logger import LogEvent, Logger
from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry import targets
from infergate.telemetry.targets import LogFile, SharedDescriptor, Target, reopen, target_of


def fill(target: Target) -> int:
    """Write until nothing more is taken; how much was."""
    written = 0
    try:
        while written < 1 << 24:
            written += target.send(b"x" * 99 + b"\n")
    except BlockingIOError:
        return written
    raise AssertionError("it takes everything")


class Descriptors(SynchronousTestCase):
    def opened(self, *fds: int) -> tuple[int, ...]:
        for fd in fds:
            self.addCleanup(os.close, fd)
        return fds

    def kinds(self) -> dict[str, tuple[int, int]]:
        """A reading and a writing end of each kind that nobody reads."""
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        read, write = self.opened(*os.pipe())
        master, slave = self.opened(*pty.openpty())
        return {
            "pipe": (read, write),
            "terminal": (master, slave),
            "socket": (near.fileno(), far.fileno()),
        }

    def read_and_send(self, read: int, target: Target) -> int:
        """Read until there is room, then send: a terminal gives out a little at a time, and says
        that there is room only after much of it, and some time later."""
        poll = select.poll()
        poll.register(target.fileno(), select.POLLOUT)
        reader = select.poll()
        reader.register(read, select.POLLIN)
        for _ in range(500):
            if reader.poll(0):
                os.read(read, 1 << 20)
            if poll.poll(20):
                return target.send(b"m")
        raise AssertionError("there is never room")

    def test_full_pipe_terminal_or_socket_makes_nobody_wait(self) -> None:
        """What nobody reads takes so much and no more, and says so at once."""
        for kind, (read, write) in self.kinds().items():
            target = target_of(write)
            self.assertGreater(fill(target), 99, kind)
            self.assertGreater(self.read_and_send(read, target), 0, kind)

    def test_shared_descriptor_makes_nobody_wait(self) -> None:
        """Neither does one that cannot be opened again."""
        for kind, (read, write) in self.kinds().items():
            target = SharedDescriptor(write)
            self.assertGreater(fill(target), 99, kind)
            self.assertGreater(self.read_and_send(read, target), 0, kind)

    def test_flags_of_the_shared_descriptor_stay(self) -> None:
        """Who else writes there, such as the shell, still waits as it expects to."""
        for kind, (_, write) in self.kinds().items():
            before = fcntl.fcntl(write, fcntl.F_GETFL)
            fill(target_of(write))
            fill(SharedDescriptor(write))
            self.assertEqual(fcntl.fcntl(write, fcntl.F_GETFL), before, kind)
            self.assertFalse(before & os.O_NONBLOCK, kind)

    def test_reader_that_is_gone_is_an_error(self) -> None:
        """A pipe or a socket that will never be read is no place to wait for."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        near.close()
        read, write = os.pipe()
        self.opened(write)
        os.close(read)
        for fd in (far.fileno(), write):
            with self.assertRaises(BrokenPipeError):
                target_of(fd).send(b"x")

    def test_file_goes_on_where_others_have_written(self) -> None:
        """A file is written through the descriptor that was given: others may share it."""
        path = self.mktemp()
        with open(path, "wb", buffering=0) as file:
            target = target_of(file.fileno())
            target.send(b"one\n")
            file.write(b"two\n")
            target.send(b"three\n")
        self.assertEqual(Path(path).read_bytes(), b"one\ntwo\nthree\n")

    def test_null_device_takes_everything(self) -> None:
        """So does /dev/null, which no epoll knows."""
        (fd,) = self.opened(os.open(os.devnull, os.O_WRONLY))
        self.assertEqual(target_of(fd).send(b"x" * 100), 100)


class Files(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        self.file = LogFile(self.path)
        self.addCleanup(lambda: os.close(self.file.fileno()))
        self.events: list[LogEvent] = []
        self.patch(targets, "_log", Logger(observer=self.events.append))

    def content(self, path: str | None = None) -> bytes:
        return Path(path or self.path).read_bytes()

    def test_lines_are_appended(self) -> None:
        """What a file held before stays."""
        self.file.send(b"one\n")
        again = LogFile(self.path)
        self.addCleanup(os.close, again.fileno())
        again.send(b"two\n")
        self.file.send(b"three\n")
        self.assertEqual(self.content(), b"one\ntwo\nthree\n")

    def test_truncated_file_begins_anew(self) -> None:
        """After logrotate's `copytruncate` the file holds the new lines and no hole."""
        self.file.send(b"old\n")
        os.truncate(self.path, 0)
        self.file.send(b"new\n")
        self.assertEqual(self.content(), b"new\n")

    def test_moved_file_is_opened_anew(self) -> None:
        """After logrotate's move, lines go to the moved file until the log is reopened."""
        os.rename(self.path, self.path + ".1")
        self.file.send(b"old\n")
        reopen(self.file)
        self.file.send(b"new\n")
        self.assertEqual(self.content(self.path + ".1"), b"old\n")
        self.assertEqual(self.content(), b"new\n")
        self.assertEqual(self.events, [])

    def test_file_that_cannot_be_opened_anew_stays_in_use(self) -> None:
        """Lines still go to the open file, which says what is wrong."""
        os.unlink(self.path)
        os.mkdir(self.path)
        reopen(self.file)
        self.assertEqual(self.file.send(b"x"), 1)
        (event,) = self.events
        self.assertEqual(
            (event["path"], event["why"]), (os.path.abspath(self.path), "Is a directory")
        )

    def test_only_files_are_opened_anew(self) -> None:
        """Standard output is left as it is."""

        class Terminal:
            def send(self, data: bytes) -> Any: ...
            def fileno(self) -> Any: ...

        reopen(Terminal())
        self.assertEqual(self.events, [])
