"""The settings as text for people: options and their help, ``.env.example``, docs/settings.md,
and the table of the README.

All of it is made from the fields of `Settings`, group by group, so that none of it can be out of
date. After a change of a setting ``python -m infergate.config.manual`` writes the files anew; a
test holds that they are as they would be written.

A field is an `attrs.Attribute`, whose metadata holds what `settings._setting` was told: the group,
a line about the setting, and its marks. Nothing here reads a value that somebody has set.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from infergate.config.settings import Settings, names
from infergate.config.sources import FILE, option_name

TITLES = {
    "listening": "Listening",
    "backend": "Backend",
    "limits": "Limits",
    "deadlines": "Deadlines",
    "keys": "Keys",
    "logs": "Errors and logs",
    "telemetry": "Telemetry",
}
"""The groups of settings, in the order in which they are shown."""

# The name of another setting, in the line about one.
_NAME = re.compile(rf"\b({'|'.join(sorted(names(), reverse=True))})\b")

_HELP_WIDTH = 100
_OPTION_WIDTH = 32

FIRST = (
    *("port", "host", "backend_url", "backend_api_key", "default_model"),
    *("api_keys", "rate_limit", "cors_origins", "backend_timeout", "log_format"),
)
"""The settings that most people need first, as the README shows them."""

_README = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- end of settings -->)", re.DOTALL)

_PAGE = """\
# Settings

*Made from the settings class by `python -m infergate.config.manual`: do not edit it by hand.*

Each setting is, in this order: an option of the command line (`--backend-url URL`), an environment
variable (`BACKEND_URL`), a line of the file `.env` in the directory in which the gateway runs
(`BACKEND_URL=URL`; see [.env.example](../.env.example)), or its default. An empty value is the
default, unless said otherwise. Sizes are in bytes; times are in seconds and may be fractions.

A wrong value ends the start with exit status 1 and one line that names the setting, the value and
what is allowed; so do a value that still has its quotes (Docker's `--env-file` keeps them), and a
`${NAME}` that nobody has filled in: nothing is expanded in `.env`. A name in `.env` that is nearly
that of a setting is warned of when the gateway starts.

A setting marked *secret* is never shown, and may be given as the path of a file instead, under its
name with `_FILE` behind it (`BACKEND_API_KEY_FILE=/run/secrets/backend`). One line feed at the end
of the file is ignored; both together end the start.
"""


def option_parameters() -> list[list[str | None]]:
    """Return the `optParameters` of a `twisted.python.usage.Options`: an option for each setting,
    and for the file that a secret may stand in.

    Each is ``[name, None, None, about]``: without a short form, and with None as the default, so
    that `Sources` can tell an option that is not given. Called by `tap` for its `Options`.
    """
    return _parameters(attrs.fields(Settings))


def help_text(example: str, others: Sequence[Sequence[str | None]] = ()) -> str:
    """Return the help: an `example` of the command, the settings by group, then the other options.

    `others` are the options that are no settings, as `optParameters` too. Called by `tap.Options`
    and by the console command for ``--help``.
    """
    parts = [
        "\nAn inference gateway in front of one backend; without one, an echo.\n",
        f"  {example} --backend-url http://127.0.0.1:9000 --port 8080\n",
        "Each setting may also be an environment variable (BACKEND_URL), or stand in .env.\n",
    ]
    for group, title in TITLES.items():
        parts.append(f"{title}:")
        parts += (_entry(f"--{name}=", about) for name, _, _, about in _parameters(_group(group)))
        parts.append("")
    parts.append("Process:")
    for name, short, _, about in others:
        parts.append(_entry(f"--{name}=" + (f", -{short}" if short else ""), about))
    parts.append(_entry("--version", "show the version and exit"))
    parts.append(_entry("--help", "show this help and exit"))
    return "\n".join(parts) + "\n"


def env_example() -> str:
    """Return the text of ``.env.example``: a line about each setting, and its default.

        # port to listen on; 0: any that is free
        #PORT=8080

    Called when this module is run, as are `settings_page` and `readme`.
    """
    parts = ["# Copy this file to .env and take the # away from what you set.\n"]
    for group, title in TITLES.items():
        parts.append(f"### {title}\n")
        for field in _group(group):
            about = textwrap.fill(
                field.metadata["about"], 98, initial_indent="# ", subsequent_indent="# "
            )
            parts.append(f"{about}\n#{field.name.upper()}={_default(field)}\n")
    return "\n".join(parts)


def settings_page() -> str:
    """Return the text of docs/settings.md: how settings are written, and a table for each group.

    Called when this module is run.
    """
    tables = (f"## {title}\n\n{_table(_group(group))}" for group, title in TITLES.items())
    return "\n".join((_PAGE, *tables))


def readme(text: str) -> str:
    """Return the `text` of the README with the table of `FIRST` as it is now.

    It stands between the comments ``settings`` and ``end of settings``; all else stays. Called when
    this module is run.
    """
    table = _table(getattr(attrs.fields(Settings), name) for name in FIRST)
    return _README.sub(lambda _: table, text)


def _table(fields: Iterable[attrs.Attribute[Any]]) -> str:
    """Return a Markdown table of settings: name, default and meaning, a row for each field.

    Called by `settings_page` and `readme`.
    """
    rows = ["| name | default | meaning |", "|---|---|---|"]
    for field in fields:
        rows.append(f"| `{field.name.upper()}` | {_default_cell(field)} | {_about_cell(field)} |")
    return "".join(f"{row}\n" for row in rows)


def _parameters(fields: Iterable[attrs.Attribute[Any]]) -> list[list[str | None]]:
    """Return the options of some fields, in the form that `option_parameters` says.

    A field with the mark `file` has two: ``--backend-api-key`` and ``--backend-api-key-file``.
    Called by `option_parameters` for all settings, by `help_text` for each group.
    """
    parameters: list[list[str | None]] = []
    for field in fields:
        parameters.append([option_name(field.name), None, None, _about(field)])
        if field.metadata["file"]:
            about = f"file that holds {field.name.upper()}"
            parameters.append([option_name(field.name + FILE), None, None, about])
    return parameters


def _group(name: str) -> list[attrs.Attribute[Any]]:
    """Return the fields of one group, in the order in which `Settings` has them.

    Raises nothing; a group that is none has no fields.
    """
    return [field for field in attrs.fields(Settings) if field.metadata["group"] == name]


def _about(field: attrs.Attribute[Any]) -> str:
    """Return the line about a setting, and its default where it has one, for the help.

    Called by `_parameters`.
    """
    default = _default(field)
    about: str = field.metadata["about"]
    return f"{about} [default: {default}]" if default else about


def _default(field: attrs.Attribute[Any]) -> str:
    """Return a default as it would be written, and "" for one that is unset or depends on others.

        60.0    60
        True    true

    Called for the help, ``.env.example`` and the tables.
    """
    if isinstance(field.default, float):
        return f"{field.default:g}"
    if isinstance(field.default, frozenset):
        return "all"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return str(field.default) if isinstance(field.default, str | int) else ""


def _entry(option: str, about: str | None) -> str:
    """Return an option and what it is for, in two columns that are `_HELP_WIDTH` wide together.

    Called by `help_text`.
    """
    return textwrap.fill(
        about or "",
        _HELP_WIDTH,
        initial_indent=f"  {option:<{_OPTION_WIDTH}} ",
        subsequent_indent=" " * (_OPTION_WIDTH + 3),
    )


def _default_cell(field: attrs.Attribute[Any]) -> str:
    """Return a default for a Markdown table, ``unset`` where there is none. Called by `_table`."""
    default = _default(field)
    return f"`{default}`" if default else "unset"


def _about_cell(field: attrs.Attribute[Any]) -> str:
    """Return the line about a setting for a Markdown table, with other settings' names as code.

    Called by `_table`; a ``|``, which would end the cell, is escaped.
    """
    about: str = field.metadata["about"].replace("|", "\\|")
    about = _NAME.sub(r"`\g<0>`", about)
    return f"{about} (*secret*)" if field.metadata["file"] else about


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    (root / ".env.example").write_text(env_example(), "utf-8")
    (root / "docs/settings.md").write_text(settings_page(), "utf-8")
    page = root / "README.md"
    page.write_text(readme(page.read_text("utf-8")), "utf-8")
