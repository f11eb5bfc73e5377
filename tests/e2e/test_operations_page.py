"""docs/operations.md, run from the top as it stands there, in folders of the test's own.

``python -m tests.e2e.test_operations_page`` writes into the page what its commands print now.
"""

from __future__ import annotations

import shutil

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, ROOT
from tests.e2e.pages import BLOCK, replayed

LACKING = [name for name in ("sqlite3", "openssl") if shutil.which(name) is None]
skip = OFF or (f"needs {', '.join(LACKING)}" if LACKING else None)

PAGE = ROOT / "docs" / "operations.md"

INSTEAD = {
    "/opt/infergate": "{here}/.venv",
    "/etc/infergate": "{here}/etc",
    "/var/lib/infergate": "{here}/var",
    # There is no such user here, and no leave to become one.
    "runuser -u infergate -- | -[og] infergate": "",
}


class OperationsPage(SynchronousTestCase):
    def test_every_command_prints_what_stands_below_it(self) -> None:
        """An operator who follows the page has a gateway that runs, with keys and a backup."""
        text = PAGE.read_text("utf-8")
        self.assertGreater(len(BLOCK.findall(text)), 5)
        self.assertEqual(replayed(text, INSTEAD), text)


if __name__ == "__main__":
    PAGE.write_text(replayed(PAGE.read_text("utf-8"), INSTEAD), "utf-8")
