"""Where the text of a setting comes from: option, environment, ``.env``, or a file of its own.

The first that has it counts, in this order; the file is named by an option or variable of its own:

    --backend-api-key TEXT              an option of the command line
    BACKEND_API_KEY=TEXT                the environment, then ``.env``
    BACKEND_API_KEY_FILE=/run/secret    a file, for what may hold a secret, in any of the three
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from infergate.access.leftovers import check_meant

FILE = "_file"
"""What stands behind a secret's name where it is given as the path of a file."""


class SettingsError(Exception):
    """One line for people: the setting, its value (None hides it) and what is allowed.

    `tap` and the commands end with it, as ``infergate: PORT='x': must be a whole number ...``. A
    value that may be a URL with a password or a token is hidden too.
    """

    def __init__(self, name: str, value: str | None, allowed: str) -> None:
        # What was meant as a URL may hold a password or a token.
        hidden = value is None or not {"@", "?", "#"}.isdisjoint(value)
        super().__init__(f"{name if hidden else f'{name}={value!r}'}: {allowed}")


@attrs.frozen
class Written:
    """A setting as somebody wrote it, not parsed yet: what `Sources.find` returns.

    `name` and `shown` stand in the line that refuses it: the name as it was written, and the text
    or the path of its file, None where that is a secret.
    """

    name: str
    shown: str | None
    text: str = attrs.field(repr=False)

    def refused(self, allowed: str) -> SettingsError:
        """Return the error that says what is `allowed` in its place, for the caller to raise."""
        return SettingsError(self.name, self.shown, allowed)


@attrs.frozen
class Sources:
    """The places that a setting may be written in, the first of which that has it counts.

    `options` are by their option names, `environ` and `dotenv` by the settings' own. Made by
    `loading.load`, and by ``infergate usage``, which needs `USAGE_DB` alone.
    """

    options: Mapping[str, str | None]
    environ: Mapping[str, str]
    dotenv: Mapping[str, str | None]

    def find(self, name: str, *, secret: bool = False, file: bool = False) -> Written | None:
        """Return the setting `name`, a field's name, as it was written; None where no source has
        it.

        Space around it is taken off, but not off a `secret`, of which it may be a part. With
        `file`, it may be given as the path of a file. Raises `SettingsError` where both are given,
        the file cannot be used, or the text is not what was meant to be written: one that still has
        its quotes, or a ``${NAME}`` that nobody has filled in. Called by `loading.load` for each
        setting.
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
        """Return the text of the first place that has the name, which may be empty, or None.

        Called by `find`.
        """
        places = (
            self.options.get(option_name(name)),
            self.environ.get(name.upper()),
            self.dotenv.get(name.upper()),
        )
        return next((text for text in places if text is not None), None)


def option_name(name: str) -> str:
    """Return the option of a setting, without its dashes: ``backend-url`` of ``backend_url``."""
    return name.replace("_", "-")


def _in_file(name: str, path: str) -> Written:
    """Return the secret in a file, without the line feed that editors end it with.

    `name` is that of the setting with ``_FILE``, for messages. An empty `path` is no secret. Raises
    `SettingsError` for a file that cannot be read, is not UTF-8, or is empty. Called by
    `Sources.find`.
    """
    written = Written(name, path, "")
    if not path:
        return written
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise written.refused("must be a file in UTF-8") from None
    except (OSError, ValueError) as why:
        # A path with a NUL, which a line of .env may hold, is a ValueError.
        reason = getattr(why, "strerror", None) or why
        raise written.refused(f"must be a file that can be read: {reason}") from None
    if not text.strip():
        raise written.refused("must be a file that holds a secret, and is empty")
    return attrs.evolve(written, text=text.removesuffix("\n"))
