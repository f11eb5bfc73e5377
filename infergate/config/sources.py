"""Where the text of a setting comes from: option, environment, ``.env``, or a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from infergate.access.leftovers import check_meant

FILE = "_file"
"""What stands behind a secret's name where it is given as the path of a file."""


class SettingsError(Exception):
    """One line: the setting, its value (None hides it) and what is allowed."""

    def __init__(self, name: str, value: str | None, allowed: str) -> None:
        # What was meant as a URL may hold a password or a token.
        hidden = value is None or not {"@", "?", "#"}.isdisjoint(value)
        super().__init__(f"{name if hidden else f'{name}={value!r}'}: {allowed}")


@attrs.frozen
class Written:
    """A setting as somebody wrote it; `name` and `shown` stand in the line that refuses it."""

    name: str
    shown: str | None
    text: str = attrs.field(repr=False)

    def refused(self, allowed: str) -> SettingsError:
        """The error that says what is `allowed` in its place."""
        return SettingsError(self.name, self.shown, allowed)


@attrs.frozen
class Sources:
    """The places that a setting may be written in, the first of which that has it counts.

    `options` are by their option names, `environ` and `dotenv` by the settings' own.
    """

    options: Mapping[str, str | None]
    environ: Mapping[str, str]
    dotenv: Mapping[str, str | None]

    def find(self, name: str, *, secret: bool = False, file: bool = False) -> Written | None:
        """The setting `name`, or None where no source has it.

        Space around it is taken off, but not off a `secret`, of which it may be a part. With
        `file`, it may be given as the path of a file. Raises `SettingsError` where both are
        given, the file cannot be used, or the text is not what was meant to be written.
        """
        text = self._first(name)
        path = self._first(name + FILE) if file else None
        if path is not None and not text:
            written = _in_file((name + FILE).upper(), path.strip())
        elif path is not None and path.strip():
            why = f"must not be set beside {name.upper()}"
            raise SettingsError((name + FILE).upper(), path, why)
        elif text is not None:
            text = text if secret else text.strip()
            written = Written(name.upper(), None if secret else text, text)
        else:
            return None
        try:
            check_meant(written.text)
        except ValueError as why:
            raise written.refused(str(why)) from None
        return written

    def _first(self, name: str) -> str | None:
        """The text of the first place that has the name, which may be empty."""
        places = (
            self.options.get(option_name(name)),
            self.environ.get(name.upper()),
            self.dotenv.get(name.upper()),
        )
        return next((text for text in places if text is not None), None)


def option_name(name: str) -> str:
    """The option of a setting, without its dashes."""
    return name.replace("_", "-")


def _in_file(name: str, path: str) -> Written:
    """The secret in a file, without the line feed that editors end it with; no path, no secret."""
    written = Written(name, path, "")
    if not path:
        return written
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as why:
        raise written.refused(f"must be a file that can be read: {why.strerror}") from None
    except UnicodeDecodeError:
        raise written.refused("must be a file in UTF-8") from None
    if not text.strip():
        raise written.refused("must be a file that holds a secret, and is empty")
    return attrs.evolve(written, text=text.removesuffix("\n"))
