"""The console command ``infergate``: the gateway in the foreground, and the commands beside it.

``infergate --port 9`` is ``twistd -n --pidfile= infergate --port 9``: the same options, the same
service and the same process, since twistd itself runs it. There is no second way to start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from infergate.config.manual import help_text
from infergate.tap import Options

COMMANDS: Mapping[str, tuple[str, str]] = {
    "check": ("whether it would all work, and if not, why", "infergate.commands.check:main"),
    "key": ("a strong key, and its line for API_KEYS_FILE", "infergate.commands.newkey:main"),
    "usage": ("who used how much, out of USAGE_DB", "infergate.commands.report:main"),
}
"""The commands beside the gateway: name, then a line for the help and `module:function`.

The function is called with the arguments after its name. What it returns is the exit status; on
an error it raises `SystemExit` with one line. Its module is imported when it is asked for alone."""


class ConsoleOptions(Options):
    """The gateway's options, and those of twistd's that make sense in the foreground.

    `twistd_arguments` says the same to twistd.
    """

    optParameters = [  # noqa: RUF012  # as usage.Options has it
        ["logfile", "l", None, "file to log to; - or unset: standard output"],
        ["directory", "d", None, "directory to run in, where .env is read; unset: this one"],
    ]

    def getUsage(self, width: int | None = None) -> str:
        """The help, with the commands beside the gateway below it."""
        text = help_text("infergate", self.optParameters)
        if COMMANDS:
            text += "\nCommands, each with a --help of its own:\n"
            text += "".join(
                f"  infergate {name:<22} {about}\n" for name, (about, _) in COMMANDS.items()
            )
        return text

    def parseArgs(self, *arguments: str) -> None:
        """Raise `SystemExit` with one line for a word that is no option."""
        if arguments:
            known = ", ".join(COMMANDS) or "options alone"
            raise SystemExit(f"infergate: there is no command {arguments[0]!r}: must be {known}")

    def twistd_arguments(self) -> list[str]:
        """What twistd is to be called with for these options."""
        given = {name: value for name, value in self.items() if value is not None}
        logfile, directory = given.pop("logfile", "-"), given.pop("directory", ".")
        return [
            *("--nodaemon", "--pidfile=", f"--logfile={logfile}", f"--rundir={directory}"),
            *("infergate", *(f"--{name}={value}" for name, value in given.items())),
        ]


def main() -> None:
    """Run what the command line asks for. This is the entry point of ``infergate``."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        raise SystemExit(_command(arguments[0])(arguments[1:]))
    serve(arguments)


def serve(arguments: Sequence[str]) -> None:
    """Run the gateway until a signal ends it."""
    options = ConsoleOptions()  # type: ignore[no-untyped-call]
    options.parseOptions(arguments)
    # Imported late: a command beside the gateway needs no twistd.
    from twisted.scripts import twistd

    config = twistd.ServerOptions()  # type: ignore[attr-defined, no-untyped-call]
    config.parseOptions(options.twistd_arguments())
    twistd.runApp(config)


def _command(name: str) -> Callable[[Sequence[str]], int | str | None]:
    module, _, function = COMMANDS[name][1].partition(":")
    command: Callable[[Sequence[str]], int | str | None] = getattr(import_module(module), function)
    return command
