"""docs/keys-and-usage.md, run from the top as it stands there.

``python -m tests.e2e.test_keys_page`` writes into the page what its commands print now.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, ROOT
from tests.e2e.pages import BLOCK, replayed

skip = OFF

PAGE = ROOT / "docs" / "keys-and-usage.md"


class KeysPage(SynchronousTestCase):
    def test_every_command_prints_what_stands_below_it(self) -> None:
        """A team that follows the page sees what the page shows."""
        text = PAGE.read_text("utf-8")
        self.assertGreater(len(BLOCK.findall(text)), 8)
        self.assertEqual(replayed(text), text)


if __name__ == "__main__":
    PAGE.write_text(replayed(PAGE.read_text("utf-8")), "utf-8")
