"""Files that are looked at once a second."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.process.watching import INTERVAL, Watch, look_at


class File:
    """One path that is watched."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def paths(self) -> Iterable[str]:
        return [str(self.path)]


class Watching(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.file = File(self.directory / "keys")
        self.file.path.write_text("one")
        self.changes = 0
        self.watch = Watch(self.clock, [self.file], self.changed)
        self.watch.start()

    def changed(self, file: File) -> None:
        self.assertIs(file, self.file)
        self.changes += 1

    def looks(self, times: int = 1) -> int:
        """How many changes were told of after so many looks."""
        for _ in range(times):
            self.clock.advance(INTERVAL)
        return self.changes

    def test_file_that_stays_is_never_told_of(self) -> None:
        """Looking costs nothing else."""
        self.assertEqual(self.looks(100), 0)

    def test_change_is_told_of_once_two_looks_agree(self) -> None:
        """A file that somebody still writes is left alone until that is over, and then told of
        once."""
        for number in range(5):
            self.file.path.write_text("x" * (number + 10))
            self.assertEqual(self.looks(), 0)
        self.assertEqual(self.looks(), 1)
        self.assertEqual(self.looks(10), 1)

    def test_rename_over_it_is_a_change(self) -> None:
        """An editor writes another file, of the same size and time, and renames it."""
        other = self.directory / "other"
        other.write_text("two")
        found = self.file.path.stat()
        os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.rename(other, self.file.path)
        self.assertEqual(self.looks(2), 1)

    def test_swap_of_a_link_is_a_change(self) -> None:
        """Kubernetes swaps the directory that the path leads through."""
        for name in ("a", "b"):
            (self.directory / name).mkdir()
            (self.directory / name / "keys").write_text(name)
        link = self.directory / "data"
        link.symlink_to("a")
        self.file.path = link / "keys"
        self.watch.known(self.file, look_at(self.file.paths()))
        new = self.directory / "new"
        new.symlink_to("b")
        os.rename(new, link)
        self.assertEqual(self.looks(2), 1)

    def test_file_that_goes_and_comes_is_told_of_each_time(self) -> None:
        """A missing file is a change, and so is its return."""
        self.file.path.unlink()
        self.assertEqual(self.looks(2), 1)
        self.assertEqual(self.looks(5), 1)
        self.file.path.write_text("one")
        self.assertEqual(self.looks(2), 2)

    def test_what_was_read_meanwhile_is_no_change(self) -> None:
        """Who has read a file for another reason is not told of the same change again."""
        self.file.path.write_text("longer")
        self.looks()
        self.watch.known(self.file, look_at(self.file.paths()))
        self.assertEqual(self.looks(5), 0)

    def test_nothing_is_looked_at_after_the_stop(self) -> None:
        """Stopping leaves no timer behind, started or not."""
        self.watch.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        idle = Watch(self.clock, [], self.changed)
        idle.start()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        idle.stop()
