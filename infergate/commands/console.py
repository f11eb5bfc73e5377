"""The console command ``infergate``: the gateway in the foreground, and the commands beside it.

``infergate --port 9`` is ``twistd -n --pidfile= infergate --port 9``: the same options, the same
service and the same process, since twistd itself runs it. There is no second way to start. But
`infergate` knows its plugin: twistd looks for all that are installed, and so takes 50 ms longer and
1 MiB more, for Twisted's test runner among others.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from infergate.config.manual import help_text
from infergate.tap import Options

COMMANDS: Mapping[str, str] = {
    "check": "whether it would all work, and if not, why",
    "key": "a strong key, and its line for API_KEYS_FILE",
    "usage": "who used how much, out of USAGE_DB",
}
"""The commands beside the gateway: name, and a line for the help.

Each is the function `main` of the module of its name, which is imported when it is asked for alone.
It is called with the arguments after its name. What it returns is the exit status; on an error it
raises `SystemExit` with one line."""


class ConsoleOptions(Options):
    """The gateway's options, and those of twistd's that make sense in the foreground.

    `serve` has one parse the command line; `twistd_arguments` then says the same to twistd.
    ``infergate check`` takes the same options.
    """

    optParameters = [  # noqa: RUF012  # as usage.Options has it
        ["logfile", "l", None, "file to log to; - or unset: standard output"],
        ["directory", "d", None, "directory to run in, where .env is read; unset: this one"],
    ]

    def getUsage(self, width: int | None = None) -> str:
        """Return the help, with the commands beside the gateway below it. Twisted prints it for
        ``--help``; `width` is Twisted's, and is not looked at."""
        text = help_text("infergate", self.optParameters)
        text += "\nCommands, each with a --help of its own:\n"
        commands = (f"  infergate {name:<22} {about}\n" for name, about in COMMANDS.items())
        return text + "".join(commands)

    def parseArgs(self, *arguments: str) -> None:
        """Raise `SystemExit` with one line for a word that is no option, as ``chekc`` in
        ``infergate chekc``. Called by `parseOptions` with all such words."""
        if arguments:
            known = ", ".join(COMMANDS)
            raise SystemExit(f"infergate: there is no command {arguments[0]!r}: must be {known}")

    def twistd_arguments(self) -> list[str]:
        """Return the arguments that twistd is to be called with for these options.

            infergate --port 9    --nodaemon --pidfile= --logfile=- --rundir=. infergate --port=9

        ``--logfile`` and ``--directory`` are twistd's own; every other option that was given goes
        to the plugin. An option that was not given is left to twistd and to the settings.
        """
        given = {name: value for name, value in self.items() if value is not None}
        logfile, directory = given.pop("logfile", "-"), given.pop("directory", ".")
        return [
            *("--nodaemon", "--pidfile=", f"--logfile={logfile}", f"--rundir={directory}"),
            *("infergate", *(f"--{name}={value}" for name, value in given.items())),
        ]


def main() -> None:
    """Run what the command line asks for. This is the entry point of ``infergate``.

    A first argument that is a name in `COMMANDS` runs that command, whose exit status `SystemExit`
    bears, 130 where Control-C has ended it; anything else is the gateway's. Raises `SystemExit` for
    the help and for what is wrong, too.
    """
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        command = import_module(f"infergate.commands.{arguments[0]}")
        try:
            raise SystemExit(command.main(arguments[1:]))
        except KeyboardInterrupt:
            # The exit status of a shell for SIGINT.
            raise SystemExit(130) from None
    serve(arguments)


def serve(arguments: Sequence[str]) -> None:
    """Run the gateway until a signal ends it. `arguments` are those of ``infergate``; raises
    `SystemExit` with one line for an option that is none, before twistd is imported."""
    options = ConsoleOptions()  # type: ignore[no-untyped-call]
    options.parseOptions(arguments)
    # Imported late: a command beside the gateway needs no twistd.
    from twisted.scripts import twistd

    from twisted.plugins.infergate_plugin import infergate

    class OnePlugin(twistd.ServerOptions):  # type: ignore[misc, name-defined]
        """The options of a twistd that looks for no plugins: the gateway's is the one there is."""

        loadedPlugins = {infergate.tapname: infergate}  # noqa: RUF012  # as twistd has them
        subCommands = [  # noqa: RUF012
            (infergate.tapname, None, infergate.options, infergate.description)
        ]

    config = OnePlugin()
    config.parseOptions(options.twistd_arguments())
    twistd.runApp(config)
