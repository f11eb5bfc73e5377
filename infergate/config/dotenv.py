"""The file ``.env``: its names and values, and the names in it that are probably misspelt."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import SequenceMatcher
from pathlib import Path

from infergate.config.sources import SettingsError

NEARLY = 0.82
"""How much two names must be alike for one to be a misspelling of the other. ``BACKNED_URL`` and
``BACKEND_URL`` are by 0.91, ``HOSTNAME`` and ``HOST``, which are two things, by 0.67."""

_OPENTELEMETRY = re.compile(
    "OTEL_EXPORTER_OTLP_((METRICS|TRACES|LOGS)_)?"
    "(ENDPOINT|PROTOCOL|HEADERS|TIMEOUT|COMPRESSION|INSECURE|CERTIFICATE)"
)


def read_dotenv(path: str | Path = ".env") -> dict[str, str]:
    """Return the names and values of a ``.env`` file, without interpolation; none if it is
    missing.

    Called by `tap`, ``infergate check`` and ``infergate usage``, once each. Raises `SettingsError`
    where it cannot be read, is not UTF-8, or has a line that is not ``NAME=value``. `dotenv_values`
    would pass over a line that it cannot parse, and a line with API_KEYS must not be lost for a
    missing quote.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            # Imported only where there is such a file: nobody else needs it in memory.
            from dotenv.parser import parse_stream

            bindings = list(parse_stream(stream))
    except FileNotFoundError:
        return {}
    except OSError as why:
        raise SettingsError(str(path), None, f"cannot be read: {why.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(str(path), None, "must be UTF-8") from None
    for binding in bindings:
        if binding.error or (binding.key is not None and binding.value is None):
            raise SettingsError(str(path), None, f"line {binding.original.line} is not NAME=value")
    return {binding.key: binding.value or "" for binding in bindings if binding.key is not None}


def misspelt(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Return each of `names` that is nearly one of `known`, and which of these is nearest to it.

    Called by `warnings.misspelt_names`. Names are compared in upper case:

        {"BACKNED_URL": "BACKEND_URL"}

    Names that are like none are another program's, which reads the same file. So are those of
    OpenTelemetry, however like ``OTEL_EXPORTER_OTLP_ENDPOINT`` they are.
    """
    likely = {}
    for name in names:
        if name not in known and not _OPENTELEMETRY.fullmatch(name):
            nearest = max(known, key=lambda other: _alike(name, other))
            if _alike(name, nearest) >= NEARLY:
                likely[name] = nearest
    return likely


def _alike(name: str, other: str) -> float:
    """Return how much `name`, in whatever case, is like the setting `other`: from 0 to 1, the
    same.

    Called by `misspelt`.
    """
    return SequenceMatcher(None, name.upper(), other).ratio()
