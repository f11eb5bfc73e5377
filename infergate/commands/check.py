"""``infergate check``: whether a gateway with these settings would work, and if not, why.

It reads the settings as the gateway does, has `infergate.doctor` look at all that they name, and
writes each thing as a line as soon as it is known, or with ``--json`` all of it as one object. Each
such thing is a `Check`: a name, ``ok``, ``warn`` or ``fail``, what was found, and what to do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TextIO

from twisted.internet.task import react

from infergate.backend.endpoint import backend_endpoint
from infergate.command import put
from infergate.commands.console import ConsoleOptions
from infergate.config.dotenv import read_dotenv
from infergate.config.loading import load
from infergate.config.otel import read_telemetry, variables
from infergate.config.settings import Settings
from infergate.config.sources import SettingsError
from infergate.doctor.examine import examine
from infergate.doctor.report import Check, all_well, document, fail, ok, speaks_utf8, warn
from infergate.doctor.subject import Subject
from infergate.process.warnings import misspelt_names, warnings_about
from infergate.reactor.deadlines import use_monotonic_clock
from infergate.tap import enter

PROGRAM = "infergate check"

SETTINGS = "settings"
"""The name of what is said of the settings themselves."""


class Options(ConsoleOptions):
    """The options of the gateway, so that a command line can be checked before it is run, and
    ``--json``."""

    program = PROGRAM
    synopsis = f"Usage: {PROGRAM} [options] [--json]"
    optFlags = [["json", None, "one JSON object in place of the lines"]]  # noqa: RUF012

    def getUsage(self, width: int | None = None) -> str:
        """Return the help, which says what is checked and leaves the gateway's options to its own
        help."""
        return (
            "\nLooks at the settings, the machine, the backend and what else a gateway with these\n"
            "options would use, and says in a line each what works, and what to do about what\n"
            "does not. The exit status is 0 where all works. It listens nowhere.\n\n"
            f"  {'--json':<32} one JSON object in place of the lines\n\n"
            "All other options are those of the gateway: see infergate --help.\n"
        )

    def parseArgs(self, *arguments: str) -> None:
        """Raise `SystemExit` with one line for a word that is no option. Called by `parseOptions`
        with all such words."""
        if arguments:
            raise SystemExit(f"{PROGRAM}: {arguments[0]!r} is no option")


def main(
    arguments: Sequence[str], environ: Mapping[str, str] = os.environ, out: TextIO | None = None
) -> int:
    """Print what is found and return the exit status: 0 where nothing has failed, else 1, also
    where a signal has ended it before its time.

    The console command calls it with the `arguments` after ``check``; a test gives an environment
    and a text stream of its own. It runs the reactor until all is looked at, which may take 45
    seconds. Raises `SystemExit` with one line where the settings are wrong and no JSON is asked
    for, and with 0 after the help. With ``--json`` wrong settings are the one check of the object.
    """
    out = out or sys.stdout
    try:
        settings, first = _read(arguments, environ)
    except SystemExit as end:
        if "--json" not in arguments or not isinstance(end.code, str):
            raise
        put(document([_wrong(end.code.removeprefix(f"{PROGRAM}: "))]).decode(), out)
        return 1
    write = None if "--json" in arguments else _line_writer(out, environ)
    ended: list[int] = []

    async def run(reactor: Any) -> None:
        """Look at everything on the `reactor`; `react` calls it and stops the reactor
        afterwards."""
        use_monotonic_clock(reactor)
        subject = Subject(settings, reactor, backend_endpoint)
        ended.append(await report(subject, first, out, write))

    with suppress(SystemExit):
        react(run)
    # A signal may have come before the end.
    return ended[0] if ended else 1


def _read(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[Settings, list[Check]]:
    """Return the settings, and what there is to say of how they are written: a warning each, or one
    check that says that they are well.

    Raises `SystemExit` with one line, as the gateway does, for an option that is none and for a
    setting that is wrong, a variable of OpenTelemetry among them; and with 0 after the help.
    """
    options = Options()  # type: ignore[no-untyped-call]
    options.parseOptions(arguments)
    try:
        enter(options["directory"] or ".")
        dotenv = read_dotenv()
        settings = load(options, environ, dotenv)
        # For what is wrong with it.
        read_telemetry(variables(environ, dotenv, settings.otel_exporter_otlp_endpoint))
    except SettingsError as error:
        raise SystemExit(f"{PROGRAM}: {error}") from None
    # LISTEN may name an address in many ways; here it is not listened on.
    host = settings.host if settings.listen is None else None
    warnings = [*misspelt_names(dotenv), *warnings_about(settings, host)]
    checks = [
        warn(SETTINGS, message, hint)
        for message, _, hint in (warning.partition(". ") for warning in warnings)
    ]
    return settings, checks or [ok(SETTINGS, "each is one that the gateway takes")]


def _line_writer(out: TextIO, environ: Mapping[str, str]) -> Callable[[Check], None]:
    """Return the function that writes a check to `out` as a line, at once, in UTF-8 signs where the
    terminal shows them. `report` calls it for each check; it raises what `put` does."""
    utf8 = speaks_utf8(environ, out.encoding)
    return lambda check: put(f"{check.line(utf8=utf8)}\n", out)


async def report(
    subject: Subject, first: list[Check], out: TextIO, write: Callable[[Check], None] | None
) -> int:
    """Run all checks, have each written by `write` as soon as it is known, or where that is None
    write one object to `out` at the end; return the exit status.

    `first` are the checks of the settings themselves. The status is 0 where nothing has failed,
    else 1. Raises what `write` does.
    """
    found = []
    async for check in _all(first, subject):
        found.append(check)
        if write is not None:
            write(check)
    if write is None:
        url = subject.settings.backend_url
        put(document(found, subject.kind, url, subject.models or ()).decode(), out)
    return 0 if all_well(found) else 1


async def _all(first: list[Check], subject: Subject) -> AsyncIterator[Check]:
    """Yield what is known of the settings, then what is found with them.

    A setting may show to be wrong only when it is used, as a host name that no certificate can be
    for: its `SettingsError` is the last check, a failure, and nothing is looked at after it.
    """
    for check in first:
        yield check
    try:
        async for check in examine(subject):
            yield check
    except SettingsError as error:
        yield _wrong(str(error))


def _wrong(said: str) -> Check:
    """Return the check for a setting that is wrong; `said` is the line of its `SettingsError`."""
    return fail(SETTINGS, said, "correct it where it is set: an option, the environment, .env")
