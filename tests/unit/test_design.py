"""docs/design.md names what there is."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

PAGE = Path(__file__).resolve().parents[2] / "docs" / "design.md"

# `server/edge.Edge.buildProtocol`: a module, and names in it.
_NAMED = re.compile(r"`((?:\w+/)?\w+)((?:\.\w+)+)`")


def named() -> list[tuple[str, list[str]]]:
    """The modules that the page names with something in them, and that."""
    found = []
    for place, names in _NAMED.findall(PAGE.read_text("utf-8")):
        path = PAGE.parents[1] / "infergate" / f"{place}.py"
        if path.exists():
            found.append((place, names.strip(".").split(".")))
    return found


def has(one: Any, name: str) -> bool:
    """Whether a module or a class has it, or says that its objects have."""
    annotations = getattr(one, "__annotations__", {})
    return hasattr(one, name) or name in annotations or name in getattr(one, "__slots__", ())


class Design(SynchronousTestCase):
    def test_every_function_that_the_page_names_is_there(self) -> None:
        """Whoever follows the life of a request by the page finds each step."""
        missing = []
        for place, names in named():
            one: Any = import_module(f"infergate.{place.replace('/', '.')}")
            for name in names:
                if not has(one, name):
                    missing.append(f"{place}.{'.'.join(names)}")
                    break
                one = getattr(one, name, None)
        self.assertEqual(missing, [])
        self.assertGreater(len(named()), 25)
