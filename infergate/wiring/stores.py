"""What is kept outside the process: the ledger of `USAGE_DB`, the limits of `SHARED_STATE`.

Opened by `tap`, since both need more than a clock: a thread, and a connection that is no request.

What is away at the start does not stop it: the gateway serves without, and the log says so. What
will never do stops it, with one line that names the setting: a file that is no database, a role
without its grants, a missing extra, a name that no certificate can be for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS

from infergate.access.redisurl import SharedState
from infergate.backend.endpoint import Endpoint
from infergate.config.settings import Settings
from infergate.config.sources import SettingsError
from infergate.ledger.connecting import UsageDB
from infergate.ledger.schema import StoreAway, StoreRefused
from infergate.ledger.thread import OneThread
from infergate.ledger.writer import Ledger

if TYPE_CHECKING:
    from infergate.access.redislink import RedisLink

CONNECT = 1.0
"""Seconds to connect to Redis, the TLS handshake included."""


@attrs.frozen
class Stores:
    """What is configured of the two."""

    ledger: Ledger | None = None
    redis: RedisLink | None = None


def open_stores(settings: Settings, reactor: Any) -> Stores:
    """Open what the settings name; raises `SettingsError` for what will never do."""
    ledger = None if settings.usage_db is None else _ledger(settings.usage_db, reactor)
    return Stores(ledger, _redis(settings, reactor))


def _ledger(database: UsageDB, reactor: Any) -> Ledger:
    """The ledger, with its tables made where the database can be reached. One that is away says so
    in the log once the gateway runs; one that will never do stops the start."""
    away = False
    try:
        store = database.store()
        store.prepare()
    except StoreAway:
        away = True
    except StoreRefused as why:
        raise SettingsError("USAGE_DB", database.path, str(why)) from None
    in_thread = OneThread("ledger", reactor.callFromThread)
    return Ledger(store, in_thread, reactor, was_away=away)


def _redis(settings: Settings, reactor: Any) -> RedisLink | None:
    """The connection to Redis, not yet begun; None where none is named."""
    state = settings.shared_state
    if state is None:
        return None
    reach = redis_server(settings, state, reactor)
    from infergate.access.redislink import RedisLink

    return RedisLink(reach, reactor, state)


def redis_server(
    settings: Settings, state: SharedState, reactor: Any
) -> Callable[[], IStreamClientEndpoint]:
    """How to connect to Redis; raises `SettingsError` where that cannot be."""
    try:
        # Imported only where it is asked for: it may not be installed.
        import infergate.access.redislink  # noqa: F401
    except ImportError:
        why = "needs the extra: pip install '.[redis]'"
        raise SettingsError("SHARED_STATE", None, why) from None
    authorities = settings.shared_state_ca_file
    reach = partial(_endpoint, state, reactor, None if authorities is None else authorities.content)
    try:
        reach()
    except ValueError:  # a name that no certificate can be for
        why = "must name a host that TLS can check a certificate for"
        raise SettingsError("SHARED_STATE", None, why) from None
    return reach


def _endpoint(state: SharedState, reactor: Any, trust: Any) -> IStreamClientEndpoint:
    if state.path is not None:
        return UNIXClientEndpoint(reactor, state.path, CONNECT)
    stream = HostnameEndpoint(reactor, state.host, state.port, CONNECT)
    tls = optionsForClientTLS(state.host, trustRoot=trust) if state.tls else None
    return Endpoint(stream, tls, CONNECT, reactor)
