"""The settings as text for people: each of them in each text, in its group."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
from twisted.python.usage import Options
from twisted.trial.unittest import SynchronousTestCase

from infergate.config.dotenv import read_dotenv
from infergate.config.loading import load
from infergate.config.manual import (
    FIRST,
    TITLES,
    env_example,
    help_text,
    option_parameters,
    readme,
    settings_page,
)
from infergate.config.settings import Settings

FIELDS = attrs.fields(Settings)
NAMES = {field.name.upper() for field in FIELDS}
CREDENTIALS = [field.name for field in FIELDS if field.metadata["credential"]]
FILES = [field.name.replace("_", "-") + "-file" for field in FIELDS if field.metadata["file"]]
ROOT = Path(__file__).parents[3]
AGAIN = "a setting has changed: run python -m infergate.config.manual"


class Groups(SynchronousTestCase):
    def test_every_setting_is_in_a_group_with_a_title(self) -> None:
        """The groups of the settings are those that there are titles for."""
        self.assertEqual({field.metadata["group"] for field in FIELDS}, set(TITLES))


class OptionTexts(SynchronousTestCase):
    def test_every_setting_is_an_option(self) -> None:
        """Each setting, and the file of each secret that may have one, is an option."""

        class Generated(Options):
            optParameters = option_parameters()

        options = Generated()
        options.parseOptions(["--max-body-bytes", "5", "--backend-url=http://a/v1"])
        names = sorted(name.lower().replace("_", "-") for name in NAMES)
        self.assertEqual(sorted(options), sorted([*names, *FILES]))
        settings = load(options, {}, {})
        self.assertEqual((settings.max_body_bytes, settings.backend_url), (5, "http://a/v1"))

    def test_help_shows_every_option_once_under_its_group(self) -> None:
        """The help shows the groups in order, each option once with its default, and at the end
        the options that are no settings; no line is wider than 100 columns."""
        text = help_text("infergate", [["logfile", "l", None, "file to log to"]])
        titles = re.findall(r"^(\S.*):$", text, re.MULTILINE)
        self.assertEqual(titles, [*TITLES.values(), "Process"])
        shown = re.findall(r"^  --([a-z0-9-]+)=", text, re.MULTILINE)
        named = [name for name, *_ in option_parameters()]
        self.assertEqual(sorted(shown), sorted([*named, "logfile"]))
        self.assertRegex(text, r"(?m)^  --port= +port to listen on.*\[default: 8080\]$")
        self.assertRegex(text, r"(?m)^  --logfile=, -l +file to log to$")
        self.assertLessEqual(max(map(len, text.splitlines())), 100)


class FileTexts(SynchronousTestCase):
    def test_example(self) -> None:
        """.env.example names each setting once, and changes nothing if taken whole, but for the
        credentials, which have no default, and the model, which may be set to nothing."""
        example = (ROOT / ".env.example").read_text()
        self.assertEqual(example, env_example(), AGAIN)
        names = re.findall(r"^#([A-Z_]+)=", example, re.MULTILINE)
        self.assertEqual(sorted(names), sorted(NAMES))
        path = Path(self.mktemp())
        path.write_text(re.sub(r"^#([A-Z])", r"\1", example, flags=re.MULTILINE))
        taken = read_dotenv(path)
        self.assertEqual(set(taken), set(names))
        for name in CREDENTIALS:
            self.assertEqual(taken.pop(name.upper()), "")
        self.assertEqual(taken.pop("DEFAULT_MODEL"), "")
        self.assertEqual(load({}, {}, taken), Settings())

    def test_page(self) -> None:
        """docs/settings.md has a row for each setting, with its default."""
        page = (ROOT / "docs/settings.md").read_text()
        self.assertEqual(page, settings_page(), AGAIN)
        rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| .+ \|$", page, re.MULTILINE)
        self.assertEqual(sorted(name for name, _ in rows), sorted(NAMES))
        self.assertEqual(dict(rows)["PORT"], "`8080`")
        self.assertEqual(dict(rows)["BACKEND_URL"], "unset")

    def test_readme(self) -> None:
        """The README's table has the settings that are needed first, as they are now."""
        page = (ROOT / "README.md").read_text()
        self.assertEqual(page, readme(page), AGAIN)
        self.assertEqual(page.count(f"| `{FIRST[-1].upper()}` |"), 1)
