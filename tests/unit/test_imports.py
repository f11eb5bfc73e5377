"""The map of the modules, and that imports run down it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import infergate

PACKAGE = Path(infergate.__file__).parent


def listed() -> list[str]:
    """The modules of the map, from the top down."""
    return re.findall(r"^    (\w+) +\S", infergate.__doc__ or "", re.MULTILINE)


def beside() -> list[str]:
    """The modules that the map names beside its list."""
    return re.findall(r"`(\w+)`", (infergate.__doc__ or "").partition("Beside them")[2])


def imported(module: str) -> set[str]:
    """The modules of the package that one imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
            names.add(node.module or "")
    present = {path.stem for path in PACKAGE.glob("*.py")}
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "infergate" and part[1:2]} & present


class Map(SynchronousTestCase):
    def test_whole(self) -> None:
        """The package's docstring names every module there is, each once, and no other."""
        there = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
        self.assertEqual(sorted([*listed(), *beside()]), sorted(there))

    def test_downwards(self) -> None:
        """Each module imports only what stands below it, so that each can be read with what
        comes after it unread."""
        order = listed()
        upwards = {
            module: sorted(imported(module) - set(order[index + 1 :]))
            for index, module in enumerate(order)
        }
        self.assertEqual({module: up for module, up in upwards.items() if up}, {})

    def test_beside(self) -> None:
        """What stands beside the list needs nothing of it but what all plugins share: a backend
        to try things against."""
        for module in beside():
            self.assertTrue(imported(module) <= {*beside(), "command"}, module)

    def test_reactor(self) -> None:
        """Only the modules that twistd loads know the reactor, so that all else can be tested
        on a clock."""
        for path in PACKAGE.glob("*.py"):
            knows = re.search(
                r"twisted\.internet import .*\breactor\b|internet\.reactor", path.read_text()
            )
            self.assertEqual(knows is not None, path.stem in ("tap", "mock_tap"), path.stem)
