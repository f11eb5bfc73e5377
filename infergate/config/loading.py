"""The settings as they are read at the start.

Each text is found in its sources and parsed, and what they say together is checked:

    load            `Sources.find` gives the text of each, the field's `parse` its value
    check_tokens    what no setting shows alone: which of the JWT settings go together
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from infergate.access.algorithms import PUBLIC
from infergate.access.keysfile import KeysFileError
from infergate.config.settings import Settings
from infergate.config.sources import SettingsError, Sources, Written

_JWT_KEYS = ("jwt_secret", "jwt_public_key_file", "jwt_jwks_url")
"""The fields that hold a key for tokens, of which at most one may be set."""

_JWT_SETTINGS = "JWT_SECRET, JWT_PUBLIC_KEY_FILE or JWT_JWKS_URL"

EMPTY_CREDENTIAL = "must not be empty, which would let everybody in; unset it where that is meant"
"""What is said of a setting that decides who may come in, and is there but empty."""


def load(
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    dotenv: Mapping[str, str | None],
) -> Settings:
    """Return the settings out of `options`, by their option names, over `environ` over `dotenv`.

    Called by `tap` and ``infergate check`` once, before anything listens. Files that a setting
    names are read here.

    An empty text is the default, also where a source further down says otherwise; but an empty
    credential is a secret that failed to be injected, and is refused. Raises `SettingsError` for
    the first setting that is wrong.
    """
    sources = Sources(options, environ, dotenv)
    written = {}
    given = {}
    for field in attrs.fields(Settings):
        marks = field.metadata
        found = sources.find(field.name, secret=marks["secret"], file=marks["file"])
        if found is None:
            continue
        if marks["credential"] and not found.text.strip():
            raise SettingsError(found.name, None, EMPTY_CREDENTIAL)
        if found.text or marks["empty"]:
            written[field.name] = found
            given[field.name] = _parsed(field, found)
    settings = Settings(**given)
    check_tokens(settings, written)
    return settings


def _parsed(field: attrs.Attribute[Any], written: Written) -> Any:
    """Return the value of a setting, by its own parser.

    Raises `SettingsError` for what that refuses, which shows the text only of what is no secret.
    Called by `load` for each setting that is written somewhere.
    """
    try:
        return field.metadata["parse"](written.text)
    except KeysFileError as why:
        # The error names the file already, and the line in it.
        raise SettingsError(written.name, None, str(why)) from None
    except ValueError as why:
        raise written.refused(str(why)) from None


def check_tokens(settings: Settings, written: Mapping[str, Written]) -> None:
    """Refuse what no JWT setting says alone, with a `SettingsError`.

    Called by `load` with the settings as `written`, by their fields' names, and by `KeyFiles.read`
    with none of these, after a reload of the files.

        two of the three keys for tokens         only one of them can decide
        an algorithm that the key is not for     or one kind of key could be used as the other
        rules for a token's sub, without key     nobody could ever come by them
        another JWT setting, without key         what it asks for would not be checked

    A key for one kind of algorithm is never used for the other, or a public key would do as a
    secret (RFC 8725, 2.1).
    """
    keys = [name for name in _JWT_KEYS if getattr(settings, name) is not None]
    if len(keys) > 1:
        why = f"must not be set beside {keys[0].upper()}"
        raise written[keys[1]].refused(why)
    if keys:
        allowed = _algorithms_for(settings)
        if not set(settings.jwt_algorithms).issubset(allowed):
            why = f"must be out of {', '.join(allowed)}, which {keys[0].upper()} is for"
            raise SettingsError("JWT_ALGORITHMS", ",".join(settings.jwt_algorithms), why)
        return
    file = settings.api_keys_file
    if file is not None and file.content.token_rule is not None:
        why = f"{file.content.token_rule}: rules for a token's sub must go with {_JWT_SETTINGS}"
        raise SettingsError("API_KEYS_FILE", None, why)
    for name in ("jwt_algorithms", "jwt_issuer", "jwt_audience"):
        if name in written:
            why = f"must go with {_JWT_SETTINGS}"
            raise written[name].refused(why)


def _algorithms_for(settings: Settings) -> tuple[str, ...]:
    """Return the algorithms that the one JWT key can be for.

    A published set (`JWT_JWKS_URL`) can hold any public key. Called by `check_tokens` where exactly
    one key is set.
    """
    if settings.jwt_secret is not None:
        return settings.jwt_secret.algorithms
    if settings.jwt_public_key_file is not None:
        return settings.jwt_public_key_file.content.algorithms
    return PUBLIC
