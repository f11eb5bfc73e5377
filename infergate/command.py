"""What both twistd plugins need: options that fail in one line, and files enough."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence

from twisted.python import usage

from infergate import __version__


class OneLineOptions(usage.Options):
    """Options whose errors end the process with one line, where twistd would print all of its
    help. `program` is the plugin's name."""

    program: str

    def opt_version(self) -> None:
        """show the version and exit"""
        print(f"{self.program} {__version__}")  # noqa: T201
        sys.exit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            raise SystemExit(f"{self.program}: {error}") from None


def allow_many_connections() -> None:
    """Each client takes a descriptor or two, and the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
