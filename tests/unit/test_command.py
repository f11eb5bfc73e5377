"""What the plugins and the commands share."""

from __future__ import annotations

import os
import resource

from twisted.trial.unittest import SynchronousTestCase

from infergate import __version__
from infergate.command import OneLineOptions, allow_many_connections, put


class Options(OneLineOptions):
    program = "program"
    optParameters = (("port", "p", None, "a port"),)


class OptionsTests(SynchronousTestCase):
    def test_right_options_are_read(self) -> None:
        """What is given is there by its name, and what is not given is the default."""
        options = Options()
        options.parseOptions(["--port=1"])
        self.assertEqual(options["port"], "1")
        options = Options()
        options.parseOptions([])
        self.assertIsNone(options["port"])

    def test_wrong_options_end_the_process_with_one_line(self) -> None:
        """A wrong option is named in one line behind the program's name, without its help."""
        for arguments in (["--nonsense"], ["--port"], ["surplus"]):
            with self.assertRaises(SystemExit) as caught:
                Options().parseOptions(arguments)
            self.assertRegex(str(caught.exception), r"\Aprogram: [^\n]+\Z")

    def test_version_is_the_programs_and_not_twisteds(self) -> None:
        """--version names the program and its version, and ends the process well."""
        printed: list[str] = []
        self.patch(__import__("builtins"), "print", printed.append)
        with self.assertRaises(SystemExit) as caught:
            Options().parseOptions(["--version"])
        self.assertEqual((printed, caught.exception.code), ([f"program {__version__}"], 0))


class Output(SynchronousTestCase):
    def test_reader_that_has_enough_ends_the_command(self) -> None:
        """Without a traceback, now or when Python flushes its output at the end."""
        reader, writer = os.pipe()
        out = os.fdopen(writer, "w")
        put("read\n", out)
        self.assertEqual(os.read(reader, 9), b"read\n")
        os.close(reader)
        with self.assertRaises(SystemExit) as caught:
            put("not read\n", out)
        self.assertEqual(caught.exception.code, 1)
        out.close()


class Files(SynchronousTestCase):
    def test_limit_of_open_files_is_raised_to_the_hard_one(self) -> None:
        """The process may hold as many connections as the system allows it."""
        limits: list[tuple[int, tuple[int, int]]] = []
        self.patch(resource, "getrlimit", lambda which: (1024, 4096))
        self.patch(resource, "setrlimit", lambda which, pair: limits.append((which, pair)))
        allow_many_connections()
        self.assertEqual(limits, [(resource.RLIMIT_NOFILE, (4096, 4096))])
