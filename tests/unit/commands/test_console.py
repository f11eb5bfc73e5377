"""The console command `infergate`: what it hands to twistd, and the commands beside the gateway."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

from twisted.scripts import twistd
from twisted.trial.unittest import SynchronousTestCase

from infergate import __version__
from infergate.commands import console, key
from infergate.tap import makeService


class Command(SynchronousTestCase):
    """The command in a process whose twistd runs nothing."""

    def setUp(self) -> None:
        self.ran: list[Any] = []
        self.patch(twistd, "runApp", self.ran.append)

    def run_with(self, *arguments: str) -> str:
        """What `main` prints."""
        self.patch(sys, "argv", ["infergate", *arguments])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            console.main()
        return printed.getvalue()

    def ended(self, *arguments: str) -> tuple[str, Any]:
        """What `main` prints, and the status or line that it ends with."""
        self.patch(sys, "argv", ["infergate", *arguments])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            error = self.assertRaises(SystemExit, console.main)
        return printed.getvalue(), error.code


class Gateway(Command):
    def test_runs_what_twistd_would_run_in_the_foreground(self) -> None:
        """It is `twistd -n --pidfile= infergate` with the same options."""
        self.run_with("--port=0", "--backend-url", "http://127.0.0.1:9000", "--default-model=")
        (config,) = self.ran
        self.assertEqual(config.subCommand, "infergate")
        self.assertEqual((config["nodaemon"], config["pidfile"]), (1, ""))
        self.assertEqual((config["logfile"], config["rundir"]), ("-", "."))
        given = {name: value for name, value in config.subOptions.items() if value is not None}
        self.assertEqual(
            given, {"port": "0", "backend-url": "http://127.0.0.1:9000", "default-model": ""}
        )

    def test_no_other_plugin_is_looked_for(self) -> None:
        """What else is installed for twistd, whole or broken, neither delays the gateway nor takes
        memory in it."""
        looked_for: list[object] = []
        self.patch(twistd.ServerOptions, "_getPlugins", looked_for.append)
        self.run_with("--port=0")
        (config,) = self.ran
        self.assertEqual(looked_for, [])
        self.assertEqual([*config.loadedPlugins], ["infergate"])
        self.assertIs(config.loadedPlugins["infergate"].makeService, makeService)

    def test_log_file_and_directory_are_twistds(self) -> None:
        """Where to log and where to run is said to twistd, by its long or short options."""
        self.run_with("--logfile=gate.log", "--directory=/srv", "--port=1")
        self.run_with("-l", "gate.log", "-d", "/srv", "--port=1")
        for config in self.ran:
            self.assertEqual((config["logfile"], config["rundir"]), ("gate.log", "/srv"))
            self.assertEqual(config.subOptions["port"], "1")

    def test_wrong_options_end_with_one_line(self) -> None:
        """What is no option, and what is no command, ends with one line, not a page of help."""
        for arguments, word in ((("--nonsense",), "--nonsense"), (("start",), "'start'")):
            printed, line = self.ended(*arguments)
            self.assertEqual(printed, "")
            self.assertRegex(line, rf"\Ainfergate: .*{word}.*\Z")
        self.assertEqual(self.ran, [])

    def test_version(self) -> None:
        """`--version` is the gateway's, not Twisted's."""
        self.assertEqual(self.ended("--version"), (f"infergate {__version__}\n", 0))


class Beside(Command):
    def test_command_gets_the_arguments_after_its_name(self) -> None:
        """A command beside the gateway is found by its name; what it returns is the status."""
        self.patch(key, "main", count)
        self.assertEqual(self.ended("key", "a", "--b"), ("['a', '--b']\n", 2))
        self.assertEqual(self.ran, [])

    def test_interrupted_command_ends_without_a_traceback(self) -> None:
        """Control-C at the prompt for a key is as much as to say no more."""

        def interrupted(arguments: list[str]) -> int:
            raise KeyboardInterrupt

        self.patch(key, "main", interrupted)
        self.assertEqual(self.ended("key", "--hash"), ("", 130))

    def test_unknown_command_is_told_what_there_is(self) -> None:
        """The line about a word that is no command names those that are."""
        self.assertIn("must be check, key, usage", self.ended("count")[1])


def count(arguments: list[str]) -> int:
    """A command of the tests' own."""
    print(arguments)  # noqa: T201
    return len(arguments)
