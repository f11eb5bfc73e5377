"""Whether a file is on a network file system."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from infergate.ledger.mounts import network_file_system


class NetworkFileSystems(SynchronousTestCase):
    def kind(self, path: str, *mounts: str) -> str | None:
        table = self.mktemp()
        Path(table).write_text("".join(f"{mount} rw 0 0\n" for mount in mounts))
        return network_file_system(path, table)

    def test_innermost_mount_decides(self) -> None:
        """A file below an NFS mount is on a network file system, one beside it is not."""
        mounts = ("/dev/sda / ext4", "srv:/x /srv/data nfs4", "tmpfs /srv/data/local tmpfs")
        self.assertEqual(self.kind("/srv/data/usage.db", *mounts), "nfs4")
        self.assertIsNone(self.kind("/srv/data/local/usage.db", *mounts))
        self.assertIsNone(self.kind("/srv/database/usage.db", *mounts))

    def test_unknown_where_there_is_no_table(self) -> None:
        """Other systems than Linux have none."""
        self.assertIsNone(network_file_system("/srv/usage.db", "/no/such/table"))
