"""What this machine gives a process."""

from __future__ import annotations

import resource

from infergate.doctor.report import Check, ok, warn
from infergate.doctor.subject import Subject

SPARE = 64
"""Descriptors beside those of clients and of the backend: the log, listeners, the ledger."""


def descriptors(subject: Subject) -> Check:
    """Return the check of whether a process may have enough open files for `MAX_CONNECTIONS`, two
    for each connection of a client's and some `SPARE`.

    The gateway raises the soft limit to the hard one by itself, so that only the hard one counts.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = subject.settings.max_connections
    needed = 2 * connections + SPARE
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return ok("descriptors", f"enough for MAX_CONNECTIONS={connections}")
    return warn(
        "descriptors",
        f"the hard limit of open files is {hard}; MAX_CONNECTIONS={connections} takes {needed}",
        f"raise it (LimitNOFILE={needed} in a systemd unit, ulimits in a container), or set a "
        "smaller MAX_CONNECTIONS",
    )
