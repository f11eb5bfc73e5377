"""``infergate key``: a strong key and its line for `API_KEYS_FILE`, or the digest of a key."""

from __future__ import annotations

import getpass
import hashlib
import secrets
import sys
from collections.abc import Sequence
from typing import TextIO

from infergate.access.keysfile import SHORT, read_entry
from infergate.access.options import read_options
from infergate.command import OneLineOptions

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
        self.words = words


def main(arguments: Sequence[str], out: TextIO | None = None, entered: TextIO | None = None) -> int:
    """Print what the `arguments` ask for and return the exit status; raises `SystemExit` with one
    line where something is wrong. `entered` stands for standard input."""
    options = Options()  # type: ignore[no-untyped-call]
    options.parseOptions(arguments)
    out = out or sys.stdout
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
    out.write(f"{line}\n" if options["hash"] else f"{key}\n{line}\n")
    return 0


def line_of(key: str, words: Sequence[str]) -> str:
    """The line of `API_KEYS_FILE` for a key, with its digest in place of it.

    `words` are the name of its caller and what that may do, or nothing. Raises `ValueError`, which
    shows no key, for what such a line may not hold.
    """
    digest = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if not words:
        return digest
    name, *options = words
    entry = f"{name}:{digest}"
    if read_entry(entry).name != name:
        raise ValueError("a name must not end in what begins a digest")
    read_options(options)
    return " ".join([entry, *options])


def _entered(source: TextIO) -> str:
    """A key as somebody enters it: without an echo where that is on a terminal."""
    key = getpass.getpass("Key: ") if source.isatty() else source.read()
    key = key.removesuffix("\n").removesuffix("\r")
    if read_entry(f"name:{key}").digest != hashlib.sha256(key.encode()).digest():
        raise ValueError("this is a digest already, or the rules of a name, and no key")
    if len(key) < SHORT:
        sys.stderr.write(f"A key of fewer than {SHORT} characters is easy to guess.\n")
    return key
