"""Which Redis a `SHARED_STATE` names, and how long it may take to connect.

What is written, and what it means:

    redis://cache                          port 6379, no password, database 0
    rediss://gate:p%40ss@cache:6380/2      TLS, a user with the password p@ss, database 2
    redis://:secret@[2001:db8::1]:6379     a password alone
    unix:/run/redis/redis.sock             a socket on this machine
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import attrs

CONNECT = 1.0
"""Seconds to connect, the TLS handshake and AUTH included."""

_URL = re.compile(
    r"(?P<scheme>rediss?)://"
    r"(?:(?P<user>[^:@/?#\s]*)(?::(?P<password>[^@/?#\s]*))?@)?"
    r"(?:\[(?P<ipv6>[0-9a-fA-F:.]+)\]|(?P<host>[\w.-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/(?P<database>[0-9]{0,5}))?",
    re.ASCII,
)

ALLOWED = (
    "must be redis://[user:password@]host[:port][/db], rediss:// for TLS, or unix:/path, the user "
    "and the password percent-encoded"
)


@attrs.frozen
class SharedState:
    """A Redis server: at `host` and `port`, with TLS or without, or at the socket `path`. An empty
    user or password is none. Made by `parse_shared_state`; `wiring.stores` connects to it, and
    `redislink` logs in with it. Its repr shows neither user nor password."""

    host: str = ""
    port: int = 6379
    path: str | None = None
    tls: bool = False
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    database: int | None = None

    def __str__(self) -> str:
        """Return where the server is, without a secret: ``cache:6379``, ``[2001:db8::1]:6379`` or
        ``unix:/run/redis.sock``. Called for the log and for what ``infergate check`` prints."""
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_shared_state(text: str) -> SharedState:
    """Convert a `SHARED_STATE`, as in the examples above, into the server that it names. Called by
    `config.settings` when the setting is read; raises `ValueError`, which says what is allowed and
    shows no part of the text, for anything else."""
    if text.startswith("unix:/") and text.isprintable():
        path = text.removeprefix("unix:")
        return SharedState(path=f"/{path.lstrip('/')}")
    match = _URL.fullmatch(text)
    if match is None or not 1 <= int(match["port"] or 6379) <= 65535:
        raise ValueError(ALLOWED)
    # With one name before the @, redis-cli takes it for a user; without a password there is none
    # to log in.
    return SharedState(
        host=match["ipv6"] or match["host"],
        port=int(match["port"] or 6379),
        tls=match["scheme"] == "rediss",
        username=unquote(match["user"] or "") or None,
        password=unquote(match["password"] or "") or None,
        database=int(match["database"]) if match["database"] else None,
    )
