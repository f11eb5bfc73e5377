"""The plan of the house, and that imports run down it, room by room."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import infergate

PACKAGE = Path(infergate.__file__).parent
IMPORT = re.compile(r"^ *from (\S+) import (\([^)]*\)|.*)", re.MULTILINE)
"""As every import of the house's own is written: parsing all modules would take half a second."""

LOADED = {"attrs", "cryptography", "infergate", "jwt", "prometheus_client", "tests", "twisted"}
LOADED |= {"opentelemetry"} | sys.stdlib_module_names
"""What the tests in memory load in any case, or may."""

LATE = ("access.jwks", "access.jwts", "access.redisconnection", "access.redislink")
LATE += ("access.shared", "ledger.postgresql", "ledger.sqlite", "telemetry.collector")
LATE += ("telemetry.otlp", "telemetry.otlpmetrics", "telemetry.push", "telemetry.spans")
"""What a gateway needs for some settings alone."""

ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def plan(docstring: str) -> list[set[str]]:
    """The lines of a plan from the top down, each the names that stand side by side on it."""
    lines = re.findall(r"^ *(\w+(?: \w+)*) {2,}\S", docstring, re.MULTILINE)
    return [set(line.split()) for line in lines]


def house() -> list[set[str]]:
    return plan((infergate.__doc__ or "").partition("Beside them")[0])


def beside() -> set[str]:
    """What stands beside the plan."""
    return set(re.findall(r"`(\w+)`", (infergate.__doc__ or "").partition("Beside them")[2]))


def places(folder: Path) -> set[str]:
    """The modules and rooms of a folder."""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in folder.glob("*/__init__.py")}


@cache
def imported(path: Path) -> set[str]:
    """The dotted names below the package that a module imports, wherever in it."""
    names: set[str] = set()
    for module, found in IMPORT.findall(path.read_text("utf-8")):
        assert not module.startswith("."), f"{path} imports relatively"
        names.update(f"{module}.{name}" for name in re.findall(r"(?:^|[(,])\s*(\w+)", found))
    return {name.partition(".")[2] for name in names if name.startswith("infergate.")}


def sources(place: str) -> list[Path]:
    """The files of a room, or the one of a module."""
    room = PACKAGE / place
    return sorted(room.glob("*.py")) if room.is_dir() else [PACKAGE / f"{place}.py"]


def upward(order: list[set[str]], needs: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is imported though it does not stand below."""
    wrong = {}
    for index, line in enumerate(order):
        below = set().union(*order[index + 1 :])
        for place in line:
            wrong[place] = needs[place] - below - {place}
    return {place: names for place, names in wrong.items() if names}


class House(SynchronousTestCase):
    def test_plan_names_every_place_once(self) -> None:
        """The package's docstring names every room and module there is, and no other."""
        named = [name for line in house() for name in line] + sorted(beside())
        self.assertEqual(sorted(named), sorted(places(PACKAGE)))

    def test_imports_run_down_the_plan(self) -> None:
        """Each place imports only what stands below it, so that each can be read with what
        comes after it unread; what stands side by side does not know one another."""
        needs = {
            place: {name.partition(".")[0] for path in sources(place) for name in imported(path)}
            & places(PACKAGE)
            for line in house()
            for place in line
        }
        self.assertEqual(upward(house(), needs), {})

    def test_the_pure_room_imports_errors_alone(self) -> None:
        """What is said knows no socket, no clock and nothing else of the house."""
        for path in sources("api"):
            names = {name.partition(".")[0] for name in imported(path)}
            self.assertTrue(names <= {"api", "errors"}, path)
            self.assertNotRegex(path.read_text(), r"(?m)^(from|import) (twisted|treq|klein|time)\b")

    def test_what_stands_beside_needs_nothing_of_the_house(self) -> None:
        """A backend to try things against shares with the gateway only what all plugins need."""
        for place in beside():
            for path in sources(place):
                names = {name.partition(".")[0] for name in imported(path)}
                self.assertTrue(names <= {*beside(), "command"}, path)

    def test_only_plugins_know_the_reactor(self) -> None:
        """Only the modules that twistd loads know the reactor, so that all else can be tested
        on a clock."""
        for path in PACKAGE.rglob("*.py"):
            knows = re.search(
                r"twisted\.internet import .*\breactor\b|internet\.reactor", path.read_text()
            )
            self.assertEqual(knows is not None, path.stem == "tap", path)

    def test_what_few_gateways_need_is_imported_late(self) -> None:
        """A gateway holds in memory only what its settings ask for: what few need is imported where
        it is made, and by what is imported late itself."""
        late = "|".join(map(re.escape, LATE))
        at_the_top = re.compile(rf"^from infergate\.({late}) import", re.MULTILINE)
        for path in PACKAGE.rglob("*.py"):
            name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            if name not in LATE and not name.startswith(("commands.", "doctor.", "mock.")):
                self.assertEqual(at_the_top.findall(path.read_text("utf-8")), [], name)


class Rooms(SynchronousTestCase):
    def test_every_room_lists_its_modules_in_order(self) -> None:
        """A room's docstring names its modules, each once, and imports run down that list."""
        for room in ROOMS:
            folder = PACKAGE / room
            order = plan((folder / "__init__.py").read_text())
            named = sorted(name for line in order for name in line)
            self.assertEqual(named, sorted(places(folder)), room)
            needs = {
                module: {
                    name.split(".")[1]
                    for name in imported(folder / f"{module}.py")
                    if name.startswith(f"{room}.")
                }
                & places(folder)
                for module in named
            }
            self.assertEqual(upward(order, needs), {}, room)


class EndToEnd(SynchronousTestCase):
    def test_modules_that_are_skipped_load_no_sdk(self) -> None:
        """`trial tests` loads each of them to say that it is skipped, and stays quick: the SDKs
        that they drive take longer to load than all tests in memory."""
        for path in (PACKAGE.parent / "tests" / "e2e").glob("*.py"):
            found = re.findall(r"^(?:from|import) (\w+)", path.read_text("utf-8"), re.MULTILINE)
            self.assertEqual(set(found) - LOADED, set(), path.name)
