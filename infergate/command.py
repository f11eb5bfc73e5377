"""What the plugins and the commands share: options that fail in one line, output that ends early,
and files enough."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from typing import TextIO

from twisted.python import usage

from infergate import __version__


class OneLineOptions(usage.Options):
    """Options whose errors end the process with one line, where twistd would print all of its help.

    The base of the options of ``twistd infergate``, of ``twistd infergate-mock`` and of subcommands
    of ``infergate``. `program` is the name that stands before the error and the version.
    """

    program: str

    def opt_version(self) -> None:
        """show the version and exit"""
        print(f"{self.program} {__version__}")  # noqa: T201
        sys.exit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the command line, `sys.argv` where `options` is None. Called by twistd, or by the
        command.

        Raises `SystemExit` with one line, such as ``infergate: option --port requires argument``,
        in place of Twisted's `UsageError`.
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            raise SystemExit(f"{self.program}: {error}") from None


def put(text: str, out: TextIO) -> None:
    """Write `text` to `out` at once. Called by the commands for what they print. Raises
    `SystemExit` with 1 where nobody reads `out` any more, as behind ``| head``."""
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        # Python would try once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise SystemExit(1) from None


def allow_many_connections() -> None:
    """Raise this process's limit of open files to the most it may have.

    Each client takes a descriptor or two, and the usual soft limit is 1,024. Called once, by the
    `makeService` of either plugin. On Linux nothing is raised: a process may always raise its soft
    limit to its hard one.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
