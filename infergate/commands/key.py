"""``infergate key``: a strong key and its line for `API_KEYS_FILE`, or the digest of a key.

    infergate key alice rate=60/minute       prints sk-..., then alice:sha256:... rate=60/minute
    infergate key --hash alice               reads a key, prints alice:sha256:...
    infergate key --hash                     reads a key, prints sha256:...

A digest is the SHA-256 of the key, in hexadecimal digits: the file that the gateway reads need not
hold a key. The key itself is printed once and kept nowhere.
"""

from __future__ import annotations

import getpass
import hashlib
import secrets
import sys
from collections.abc import Sequence
from typing import TextIO

from infergate.access.keysfile import SHORT, read_entry
from infergate.access.options import read_options
from infergate.command import OneLineOptions, put

PROGRAM = "infergate key"

KEY_BYTES = 32
"""Random bytes of a key: as many as of its digest, so that neither can be guessed."""


class Options(OneLineOptions):
    """The options of ``infergate key``, and the words behind them: a name, and what it may do."""

    program = PROGRAM
    synopsis = f"{PROGRAM} [--hash] NAME [option=value ...]"
    longdesc = (
        "Makes a strong key and prints it, this once, and below it the line for API_KEYS_FILE, "
        "which holds its digest alone. With --hash it reads a key from standard input instead, "
        "and prints its digest, or with a NAME the whole line. "
        f"For example: {PROGRAM} alice rate=60/minute tokens=200000/day models=qwen*"
    )
    optFlags = [["hash", None, "read a key from standard input, and print its digest"]]  # noqa: RUF012

    def parseArgs(self, *words: str) -> None:
        """Keep the words that are no options, for `main`: a name, then the options of its line.
        Called by `parseOptions`."""
        self.words = words


def main(arguments: Sequence[str], out: TextIO | None = None, entered: TextIO | None = None) -> int:
    """Print what the `arguments` ask for and return the exit status, which is 0.

    The console command calls it with the arguments after ``key``. `out` stands for standard output
    and `entered` for standard input, from which ``--hash`` reads the key. Raises `SystemExit` with
    one line, which shows no key, where a name is missing or a word of the line is wrong.
    """
    options = Options()  # type: ignore[no-untyped-call]
    options.parseOptions(arguments)
    try:
        if options["hash"]:
            key = _entered(entered or sys.stdin)
        elif options.words:
            key = f"sk-{secrets.token_urlsafe(KEY_BYTES)}"
        else:
            raise ValueError(f"needs a name, as in: {PROGRAM} alice rate=60/minute")
        line = line_of(key, options.words)
    except ValueError as why:
        raise SystemExit(f"{PROGRAM}: {why}") from None
    put(f"{line}\n" if options["hash"] else f"{key}\n{line}\n", out or sys.stdout)
    return 0


def line_of(key: str, words: Sequence[str]) -> str:
    """Return the line of `API_KEYS_FILE` for a key, with its digest in place of it:
    ``alice:sha256:HEX rate=60/minute``.

    `words` are the name of its caller and what that may do, as on the command line, or nothing:
    then the digest alone is returned. Raises `ValueError`, which shows no key, for what such a line
    may not hold: a name with a blank in it, an option that is none, a value that is not allowed.
    """
    digest = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if not words:
        return digest
    name, *options = words
    entry = f"{name}:{digest}"
    if read_entry(entry).name != name:
        raise ValueError("a name must not end in what begins a digest")
    if name.startswith("#"):
        raise ValueError("a name must not begin with #, which makes the line a comment")
    for option in options:
        if " " in option:
            raise ValueError(f"{option}: must not hold a blank, which ends an option")
    read_options(options)
    return " ".join([entry, *options])


def _entered(source: TextIO) -> str:
    """Return the key that somebody enters: without an echo where `source` is a terminal, else all
    of its text, in both cases without the line end.

    Warns on standard error of a key that is easy to guess. Raises `ValueError`, which shows no key,
    for a text that is none, such as a digest, the rules of a name or a character that a key must
    not have, and where a terminal ends its input.
    """
    try:
        key = getpass.getpass("Key: ") if source.isatty() else source.read()
    except EOFError:
        raise ValueError("no key was entered") from None
    key = key.removesuffix("\n").removesuffix("\r")
    if read_entry(f"name:{key}").digest != hashlib.sha256(key.encode()).digest():
        raise ValueError("this is a digest already, or the rules of a name, and no key")
    if len(key) < SHORT:
        sys.stderr.write(f"A key of fewer than {SHORT} characters is easy to guess.\n")
    return key
