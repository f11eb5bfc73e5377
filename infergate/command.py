"""What both twistd plugins need: options that fail in one line, and files enough."""

from __future__ import annotations

import resource
from collections.abc import Sequence

from twisted.python import usage


class OneLineOptions(usage.Options):
    """Options whose errors end the process with one line, where twistd would print all of its
    help. `program` is the plugin's name."""

    program: str

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            raise SystemExit(f"{self.program}: {error}") from None


def allow_many_connections() -> None:
    """Each client takes a descriptor or two, and the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
