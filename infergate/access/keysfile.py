"""Keys as people write them: `API_KEYS`, and the lines of `API_KEYS_FILE` with what a key may do.

A line is an entry and then options, separated by blanks:

    # the script that summarises, and its new key, until the old one is gone
    summary:sha256:HEX  rate=60/minute  models=qwen*
    summary:sha256:HEX  expires=2027-01-31
    *                   tokens=200000/day       what all have who say nothing else
    alice:-             concurrent=4            the bearer of a token whose sub is alice

An entry is ``key``, ``name:key``, ``sha256:HEX`` or ``name:sha256:HEX``; a name holds no blank.
`expires` belongs to its key, every other option to the name: keys of one name share them.

What is read becomes a `KeyRing` (the digests of the keys, each with a name) and rules, that is for
each name its options, out of which `options.make_policies` makes policies. No error shows a key: it
goes into a terminal or a log.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping

import attrs
from msgspec import Struct

from infergate.access.auth import MAX_TOKEN_BYTES, TOKEN, KeyRing
from infergate.access.leftovers import check_meant
from infergate.access.options import EVERYBODY, Options, make_policies, read_options
from infergate.access.policy import Policies
from infergate.access.ratelimit import Rate

SHORT = 16
"""Characters of a plain key below which it is warned of: guessing gets near."""

_BLANKS = re.compile(r"[ \t]+")
_KEY = re.compile(TOKEN)
_DIGEST = re.compile("[0-9a-f]{64}", re.IGNORECASE)


class KeysFileError(ValueError):
    """A line of a keys file is wrong. The message names the file and the line, and no key."""


class Entry(Struct, frozen=True):
    """One key, or with a `digest` of None the rules of a name. `plain` keys stand readable in
    their source, `short` ones are easy to guess."""

    name: str
    digest: bytes | None
    plain: bool = False
    short: bool = False


@attrs.frozen(eq=False)
class KeysFile:
    """What a file means: its keys, and the options of each name.

    `exposed`: it holds keys that others on this machine may read. `token_rule` is the last line
    with rules for a token's ``sub``, None where there is none.
    """

    ring: KeyRing
    rules: Mapping[str, Options] = attrs.field(factory=dict, repr=False)
    exposed: bool = False
    token_rule: str | None = None

    def policies(self, rate: Rate | None) -> Policies:
        """Return the policy of each name: its own options over those of ``*``, over a `RATE_LIMIT`
        of `rate`. Called by the wiring at the start and at each reload, and by what is said and
        warned of at the start. Raises nothing: the options have been checked when the file was
        read."""
        return make_policies(self.rules, rate)


def keys_from_text(text: str) -> KeyRing:
    """Return the keys of `API_KEYS`, separated by commas. Called by `config.settings` when the
    setting is read.

    Raises `ValueError`, which names an entry by its position and shows no key, for an entry that is
    none, for one key under two names, and where there is no key at all.
    """
    gathered = _Gathered()
    for number, item in enumerate(text.split(","), 1):
        if not item.strip():
            continue
        try:
            entry = read_entry(item.strip(), rules=False)
            gathered.add_key(entry, None)
        except ValueError as why:
            raise ValueError(f"entry {number}: {why}") from None
    ring = gathered.ring()
    if not ring:
        raise ValueError("there is no key in it")
    return ring


def keys_from_file(path: str) -> KeysFile:
    """Read `API_KEYS_FILE`, and return its keys and rules. Called by `config.values` at the start,
    and at each reload off the reactor's thread, since it blocks. Raises `OSError` where the file
    cannot be read, and `KeysFileError` for a line that is wrong."""
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        # An editor's byte order mark would become a part of the first key, and an error in the
        # decoding would hold the whole file.
        text = file.read().decode("utf-8-sig", "replace")
    keys = parse_keys_file(text.split("\n"), path)
    return attrs.evolve(keys, exposed=bool(mode & stat.S_IROTH) and keys.ring.plain)


def parse_keys_file(lines: Iterable[str], path: str) -> KeysFile:
    """Return what the lines of a keys file mean; `path` is the file's name, for messages alone.
    Called by `keys_from_file`. Raises `KeysFileError`, with the number of the line and no key, for
    the first line that is wrong or says something else than one before it, and where there is
    neither a key nor rules for a token."""
    gathered = _Gathered()
    token_rule = None
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{path} line {number}"
        try:
            written, *rest = _BLANKS.split(line, maxsplit=1)
            entry = read_entry(written)
            expires, options = gathered.options(rest[0] if rest else "")
            gathered.add_key(entry, expires)
            gathered.add_rules(entry.name, options)
        except ValueError as why:
            raise KeysFileError(f"{where}: {why}") from None
        if entry.digest is None and entry.name != EVERYBODY:
            token_rule = where
    ring = gathered.ring()
    if not ring and token_rule is None:
        raise KeysFileError(f"{path}: there is no key in it")
    return KeysFile(ring, gathered.rules, token_rule=token_rule)


def read_entry(text: str, *, rules: bool = True) -> Entry:
    """Return what an entry says: a key with or without a name, or with `rules` a name alone. Called
    for each entry of both settings, and by ``infergate key`` to check what it prints. Raises
    `ValueError`, which shows no key, for any text that is not one of these:

        *                     the options of all callers
        alice:-               the options of a name that has no key here: a token's sub
        sha256:HEX            a key by its digest; its name is made of that
        alice:sha256:HEX      the same with a name, which may hold colons itself
        alice:sk-1234         a key as it is; the name ends at the first colon
        sk-1234               the same without a name, and so without a colon
    """
    if text == EVERYBODY or text.endswith(":-"):
        if not rules:
            raise ValueError("a rule without a key belongs in API_KEYS_FILE")
        return Entry(_named(text.removesuffix(":-")), None)
    named, marked, digest = text.rpartition(":sha256:")
    if marked or text.startswith("sha256:"):
        written = digest if marked else text.removeprefix("sha256:")
        if not _DIGEST.fullmatch(written):
            raise ValueError("sha256: takes 64 hex digits")
        digest_bytes = bytes.fromhex(written)
        name = _named(named, key=True) if marked else _anonymous(digest_bytes)
        return Entry(name, digest_bytes)
    named, colon, key = text.partition(":")
    if not colon:
        key = named
    if not _KEY.fullmatch(key):
        raise ValueError(f"a key is 1 to {MAX_TOKEN_BYTES} visible ASCII characters but the comma")
    check_meant(key)
    digest_bytes = hashlib.sha256(key.encode()).digest()
    name = _named(named, key=True) if colon else _anonymous(digest_bytes)
    return Entry(name, digest_bytes, plain=True, short=len(key) < SHORT)


def _named(name: str, *, key: bool = False) -> str:
    """Check that `name` may stand in logs, and return it; raises `ValueError` where it is empty or
    holds a blank or a control character, which would forge more than a name. With `key` it is the
    name of a key, and ``*``, which has none, is refused too. Called by `read_entry`."""
    if not name or not name.isprintable() or " " in name:
        raise ValueError("the name before the colon is empty, or holds a blank or what is no text")
    if key and name == EVERYBODY:
        raise ValueError("* stands for all callers and has no key")
    return name


def _anonymous(digest: bytes) -> str:
    """Return the name of a key that was written without one, such as ``key-5e884898``: enough of
    its digest to tell it from others, and far too little to find the key by. Called by
    `read_entry`."""
    return f"key-{digest.hex()[:8]}"


class _Gathered:
    """The keys and rules read so far, each checked against those before it.

    For each entry `add_key` is called, and in a file `options` before and `add_rules` after it;
    `ring` at the end. All three raise `ValueError`, which shows no key, where an entry says
    something else than one before it did: one key under two names, or with two last days, or two
    values of one option for one name.
    """

    def __init__(self) -> None:
        self.rules: dict[str, Options] = {}
        # Most lines of a long file say the same as another one: read once, and shared.
        self._options: dict[str, tuple[float | None, Options]] = {}
        self._names: dict[bytes, str] = {}
        self._expires: dict[bytes, float] = {}
        self._short: dict[str, None] = {}
        self._plain = False

    def options(self, text: str) -> tuple[float | None, Options]:
        """Read the options of a line, and return when its key expires (seconds since 1970, None for
        never) and all other options. Equal texts get the same object, which must not be changed.
        Raises `ValueError`, as `read_options`."""
        read = self._options.get(text)
        if read is None:
            options = read_options(_BLANKS.split(text)) if text else {}
            read = self._options[text] = (options.pop("expires", None), options)
        return read

    def add_key(self, entry: Entry, expires: float | None) -> None:
        """Add the key of an entry, if it has one. A key may stand there twice, as in two lines for
        two sets of options. Raises `ValueError` where a line before it gives the same key another
        name or another last day, and for `expires` without a key."""
        if entry.digest is None:
            if expires is not None:
                raise ValueError("expires= belongs to a key, and there is none")
            return
        if self._names.setdefault(entry.digest, entry.name) != entry.name:
            raise ValueError("the same key has another name further up")
        if expires is not None and self._expires.setdefault(entry.digest, expires) != expires:
            raise ValueError("the same key expires on another day further up")
        self._plain |= entry.plain
        if entry.short:
            self._short[entry.name] = None

    def add_rules(self, name: str, options: Options) -> None:
        """Add options to those of a name; raises `ValueError` where a line before it gives one of
        them another value for this name. Names whose options are written alike share one object,
        and later one policy: 100,000 keys are mostly of a few kinds."""
        if not options:
            return
        known = self.rules.get(name, {})
        for option, value in options.items():
            if known.get(option, value) != value:
                raise ValueError(f"{option}= says something else for this name further up")
        self.rules[name] = {**known, **options} if known else options

    def ring(self) -> KeyRing:
        """Return the key ring of all keys that were added, which may be empty."""
        return KeyRing(
            self._names, expires=self._expires, short=tuple(self._short), plain=self._plain
        )
