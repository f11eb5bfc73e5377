"""Files that are read again while the gateway runs: keys, the public key of tokens, certificates.

They are read on SIGHUP, and when they have changed. Each source is taken whole or not at all, in
one step: what is wrong is logged and changes nothing, and what runs keeps what it began with.

    SIGHUP, or `Watch` has seen a change
        look    at size, time and identity of the files, before they are read
        read    in a thread, since a file may be large, or on a slow disk: `Source.read` parses
                and checks all of it, and raises `Refused` or gives a `Change`
        swap    in the reactor's thread, in one step that cannot fail
        known   what was looked at is what is in use: a file that was written while it was read
                shows as changed once more

Two reloads never overlap, so that what was read last is what is in use last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from infergate.access.admission import Admission
from infergate.access.keysfile import KeysFile, KeysFileError
from infergate.access.roster import Roster
from infergate.config import values
from infergate.config.loading import check_tokens
from infergate.config.settings import Settings
from infergate.config.sources import SettingsError
from infergate.process.warnings import listed
from infergate.process.watching import Change, Refused, Source, Watch, look_at

_log = Logger(namespace="infergate")

Value = TypeVar("Value")


@attrs.define(eq=False, repr=False)
class KeyFiles:
    """Read `API_KEYS_FILE` and `JWT_PUBLIC_KEY_FILE` again, out of which one roster is made.

    A roster is who is known and what each may do (`access/roster`). `settings` are those of the
    start: what is not in a file stays as it was. `roster` makes, out of settings, the roster that
    takes the place of that of `admission`. `tap` makes one, the first `Source` of its `Reloader`.
    """

    _settings: Settings
    _admission: Admission
    _roster: Callable[[Settings], Roster]

    def paths(self) -> list[str]:
        """Return the paths of the two files, of those that are set. See `Source`."""
        files = (self._settings.api_keys_file, self._settings.jwt_public_key_file)
        return [file.path for file in files if file is not None]

    def read(self) -> Change:
        """Read both files, and return the change that would put a new roster into use.

        See `Source`; called in a thread. What the files say together is checked, as at the start:
        rules for a token's caller need a key for tokens. Raises `Refused` for a file that the start
        would refuse, and for one that has lost its last key.
        """
        old = self._settings
        new = attrs.evolve(
            old,
            api_keys_file=_again("API_KEYS_FILE", values.api_keys_file, old.api_keys_file),
            jwt_public_key_file=_again(
                "JWT_PUBLIC_KEY_FILE", values.jwt_public_key_file, old.jwt_public_key_file
            ),
        )
        try:
            check_tokens(new, {})
        except SettingsError as why:
            raise Refused(str(why)) from None
        if _has_keys(old) and not _has_keys(new):
            raise Refused(f"API_KEYS_FILE: {self.paths()[0]}: has lost its last key")
        roster = self._roster(new)

        def swap() -> None:
            self._settings, self._admission.roster = new, roster

        return Change(_said_of(old, new), swap)


Run = Callable[[Callable[[], Any]], "Deferred[Any]"]
"""Calls a function in a thread, where it does not hold up the event loop; the Deferred fires with
what it returned, or fails with what it raised."""


class Reloader:
    """Reads `sources` again when somebody asks, and when they have changed.

    `start` and `stop` are called once each, as of every part of the gateway; `reload` at any time
    between them. Sources without files are left out: an endpoint without TLS is one. A fault of
    our own in reading them is logged with its traceback, and ends nothing.

    `run` calls a function off the reactor's thread. What it reads there it must not change: only
    the swap, in the reactor's thread, puts anything into use.
    """

    def __init__(self, sources: Iterable[Source], clock: IReactorTime, run: Run) -> None:
        """Look at the files as they are now; what differs from that later is a change."""
        self._sources = [source for source in sources if source.paths()]
        self._run = run
        # One after the other: what is read last has to be what is in use last.
        self._lock = DeferredLock()
        self._watch = Watch(clock, self._sources, lambda source: self._begin([source], asked=False))

    def start(self) -> None:
        self._watch.start()

    def stop(self) -> None:
        self._watch.stop()

    def reload(self) -> Deferred[None]:
        """Read everything again, and say in one line what has changed.

        Called by `tap` for each SIGHUP. The Deferred fires when all is read and in use, also where
        something was refused, and never fails.
        """
        if not self._sources:
            _log.info("SIGHUP: there is nothing to reload")
            return succeed(None)
        return self._begin(self._sources, asked=True)

    def _begin(self, sources: Iterable[Source], *, asked: bool) -> Deferred[None]:
        """Begin to read `sources`, once all readings that were asked for before have ended.

        Called by `reload` with `asked`, by `Watch` without. The Deferred never fails.
        """
        begun: Deferred[None] = self._lock.run(
            lambda: Deferred.fromCoroutine(self._reload(sources, asked))
        )
        return begun.addErrback(partial(_log.failure, "Reloading failed"))

    async def _reload(self, sources: Iterable[Source], asked: bool) -> None:
        """Read these sources, one after the other, and say what is new in one line.

        With `asked` (SIGHUP) that line is there also where nothing is new. What is `Refused` is
        logged as an error, and the others are read all the same. What else `Source.read` raises
        ends the round, and `_begin` logs it. Called by `_begin`, one at a time.
        """
        said, refused = [], 0
        for source in sources:
            look = look_at(source.paths())
            try:
                change = await self._run(source.read)
            except Refused as why:
                refused += 1
                _log.error("Not reloaded, the old values stay: {why}", why=str(why))
            else:
                change.swap()
                said.append(change.said)
            self._watch.known(source, look)
        news = "; ".join(filter(None, said))
        if news or (asked and not refused):
            _log.info("Reloaded: {news}", news=news or "nothing changed")


def _again(name: str, read: Callable[[str], Value], file: Any) -> Value | None:
    """Return what the file of the setting `name` means now, or None where none is set.

    `file` is the setting's value, a `FromFile`; `read` is the setting's own parser, so that nothing
    else is allowed than at the start. Raises `Refused`, which names the setting and the file.
    Called by `KeyFiles.read` for each of its two settings.
    """
    if file is None:
        return None
    try:
        return read(file.path)
    except KeysFileError as why:
        # The error names the file already, and the line in it.
        raise Refused(f"{name}: {why}") from None
    except ValueError as why:
        raise Refused(f"{name}: {file.path}: {why}") from None


def _has_keys(settings: Settings) -> bool:
    """Return whether the keys file holds a key. One that lost its last is more likely being
    written, or was emptied by mistake, than meant to lock everybody out.

    Called by `KeyFiles.read`, for before and after.
    """
    file = settings.api_keys_file
    return file is not None and len(file.content.ring) > 0


def _said_of(old: Settings, new: Settings) -> str:
    """Return what is new of the keys, by names alone, and "" where nothing is.

        added bob; removed eve; changed alice

    A name is changed where it has another key, another last day of one, or another option. Called
    by `KeyFiles.read`, for the log line about a reload.
    """
    before, after = _by_name(old), _by_name(new)
    lists = {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": [name for name in after if name in before and before[name] != after[name]],
    }
    return "; ".join(f"{what} {listed(names)}" for what, names in lists.items() if names)


def _by_name(settings: Settings) -> dict[str, object]:
    """Return all that is known of each name, to compare with later: its keys' digests and its
    rules.

    The key for tokens is among them, by the name of its setting. Called by `_said_of`.
    """
    known: dict[str, object] = {}
    if settings.api_keys_file is not None:
        file: KeysFile = settings.api_keys_file.content
        keys = file.ring.keys_by_name()
        for name in {**keys, **file.rules}:
            known[name] = (keys.get(name), file.rules.get(name))
    if settings.jwt_public_key_file is not None:
        known["JWT_PUBLIC_KEY_FILE"] = settings.jwt_public_key_file.content.find("", None)
    return known
