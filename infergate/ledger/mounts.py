"""Whether a file is on a network file system."""

from __future__ import annotations

import os
from contextlib import suppress

_NETWORKED = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs")


def network_file_system(path: str, mounts: str = "/proc/self/mounts") -> str | None:
    """Return the type of the network file system that `path` is on, such as ``nfs4``, None where it
    is on none or nobody can tell: SQLite's locks cannot be relied on there, nor does its
    write-ahead log work between two machines. Called by the warnings at the start and by
    ``infergate check``. `path` need not exist yet.

    `mounts` is the kernel's list, a line for each mount: ``server:/home /home nfs4 rw,relatime 0
    0``. A blank in a name stands there as ``\\040``. Raises nothing where the list cannot be read.
    """
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    longest, found = "", None
    with suppress(OSError), open(mounts, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            _, where, kind, *_ = line.split(" ")
            where = where.replace("\\040", " ")
            inside = folder == where or folder.startswith(where.rstrip("/") + "/")
            # Of two mounts at one place the later one is seen.
            if inside and len(where) >= len(longest):
                longest, found = where, kind
    return found if found is not None and found.startswith(_NETWORKED) else None
