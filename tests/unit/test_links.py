"""What the pages lead to is there."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


class Links(SynchronousTestCase):
    def test_every_link_leads_to_a_file_and_a_heading(self) -> None:
        """No page sends its reader to what was moved or renamed."""
        found = 0
        for page in PAGES:
            for name, anchor in LINK.findall(page.read_text("utf-8")):
                found += 1
                target = page.parent / name if name else page
                self.assertTrue(target.exists(), f"{page.name}: {name}")
                if anchor:
                    self.assertIn(anchor, anchors(target), f"{page.name}: {name}")
        self.assertGreater(found, 50)
