"""What is warned of at the start: what is allowed, and yet more likely a mistake.

Each warning is one line, which holds no secret. `tap` logs them when the gateway starts;
``infergate check`` shows them too, but for those of `ledger_warnings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from infergate.access.keysfile import SHORT
from infergate.access.windows import LASTING
from infergate.config.dotenv import misspelt
from infergate.config.settings import Settings, names
from infergate.ledger.mounts import network_file_system
from infergate.server.addresses import is_loopback

NAMED = 20
"""Names of callers in one line of the log; there may be 100,000."""


def misspelt_names(dotenv: Mapping[str, str]) -> list[str]:
    """Return a warning for each name in ``.env`` that is probably misspelt.

    `dotenv` is what `read_dotenv` has read. Called by `tap` and ``infergate check``.
    """
    likely = misspelt(dotenv, names()).items()
    return [f"{name} in .env is no setting. Is {near} meant?" for name, near in likely]


def warnings_about(settings: Settings, host: str | None) -> Iterator[str]:
    """Yield a warning for each thing that is allowed, and yet more likely a mistake.

    `host` is where the gateway listens, None where that is a Unix socket, whose mode says who may
    come. Called by `tap` once the port listens, and by ``infergate check``, which passes None for a
    `LISTEN` too.
    """
    if not (settings.needs_key or host is None or is_loopback(host)):
        yield (
            f"Nobody needs a key, and {host} is not a loopback address: whoever reaches it "
            "may use the gateway. Set API_KEYS, API_KEYS_FILE or one of the JWT_* keys, or HOST to "
            "127.0.0.1"
        )
    yield from _key_warnings(settings)
    if settings.reuse_port and settings.metrics_listen is None:
        yield (
            "REUSE_PORT without METRICS_LISTEN: limits, usage and /metrics are each process's own, "
            "and /metrics is that of whichever process is asked"
        )
    file = settings.api_keys_file
    windows = file.content.policies(settings.rate_limit).windows if file is not None else ()
    forgotten = settings.usage_db is None and settings.shared_state is None
    if forgotten and any(window in LASTING for window in windows):
        yield (
            "There are token limits by day, week or month, and neither USAGE_DB nor SHARED_STATE: "
            "what was used is forgotten when the process ends"
        )


def ledger_warnings(settings: Settings) -> Iterator[str]:
    """Yield a warning where the ledger, `USAGE_DB`, is a file that cannot be relied on.

    On a network file system SQLite's locks do not hold. Called by `tap`.
    """
    path = settings.usage_db.path if settings.usage_db is not None else None
    kind = network_file_system(path) if path is not None else None
    if kind is not None:
        yield (
            f"USAGE_DB={path!r} is on a network file system ({kind}), where SQLite's locks cannot "
            "be relied on: use a local disk, or postgresql://"
        )


def listed(names: Sequence[str]) -> str:
    """Return names for a line of the log: the first `NAMED`, and how many more there are. Called
    here, and by `reload`; raises nothing."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _key_warnings(settings: Settings) -> Iterator[str]:
    """Yield a warning for keys that are short, and for a file of them that others may read.

    They name the callers, at most `NAMED` of them, and no key. Called by `warnings_about`.
    """
    for setting, ring in settings.rings.items():
        if ring.short:
            yield (
                f"{setting}: keys of fewer than {SHORT} characters are easy to guess: "
                f"{listed(ring.short)}. infergate key makes strong ones"
            )
    file = settings.api_keys_file
    if file is not None and file.content.exposed:
        yield (
            f"API_KEYS_FILE: {file.path} holds plain keys, and others on this machine may read "
            "it: take that right away, or write digests, which infergate key --hash makes"
        )
