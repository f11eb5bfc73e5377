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

from msgspec import Struct
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS

from infergate.access.redisurl import CONNECT, SharedState
from infergate.backend.endpoint import Endpoint
from infergate.config.settings import Settings
from infergate.config.sources import SettingsError
from infergate.ledger.connecting import UsageDB
from infergate.ledger.schema import StoreAway, StoreRefused
from infergate.ledger.thread import OneThread
from infergate.ledger.writer import Ledger

if TYPE_CHECKING:
    from infergate.access.redislink import RedisLink


class Stores(Struct, frozen=True):
    """What is configured of the two; None is not.

    Made by `open_stores`; `lasting` makes parts of the service of both, started and stopped with
    it.
    """

    ledger: Ledger | None = None
    redis: RedisLink | None = None


def open_stores(settings: Settings, reactor: Any) -> Stores:
    """Open what the settings name. Called once by `tap`, before the gateway listens.

    Raises `SettingsError`, which names `USAGE_DB` or `SHARED_STATE`, for what will never do.
    Opening the ledger blocks; Redis is connected to later, when the reactor runs.
    """
    ledger = None if settings.usage_db is None else _ledger(settings.usage_db, reactor)
    return Stores(ledger, _redis(settings, reactor))


def _ledger(database: UsageDB, reactor: Any) -> Ledger:
    """Make the ledger, with its tables in the database where that can be reached.

    One that is away says so in the log once the gateway runs. Raises `SettingsError` for one that
    will never do: a file that is no database, a role without its grants, a missing extra. Called by
    `open_stores`.
    """
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
    """Make the connection to Redis, not yet begun; None without `SHARED_STATE`.

    Raises `SettingsError` as `redis_server` does. Called by `open_stores`.
    """
    state = settings.shared_state
    if state is None:
        return None
    reach = redis_server(settings, state, reactor)
    from infergate.access.redislink import RedisLink

    return RedisLink(reach, reactor, state)


def redis_server(
    settings: Settings, state: SharedState, reactor: Any
) -> Callable[[], IStreamClientEndpoint]:
    """Return how to connect to Redis: each call makes one endpoint to connect by.

    Called by `_redis`, and by ``infergate check``. Nothing is connected yet. Raises
    `SettingsError` where the extra ``redis`` is missing, or the host of a ``rediss://`` is one that
    no certificate can be for.
    """
    try:
        # Imported only where it is asked for: it may not be installed.
        import infergate.access.redislink  # noqa: F401
    except ImportError:
        why = "needs the extra: pip install '.[redis]'"
        raise SettingsError("SHARED_STATE", None, why) from None
    reach = partial(_endpoint, state, reactor, settings.shared_state_ca_file)
    try:
        reach()
    except ValueError:
        why = "must name a host that TLS can check a certificate for"
        raise SettingsError("SHARED_STATE", None, why) from None
    return reach


def _endpoint(state: SharedState, reactor: Any, trust: Any) -> IStreamClientEndpoint:
    """Make an endpoint that connects to Redis within `CONNECT` seconds, the TLS handshake
    included.

    `trust` is what TLS trusts, None the system's authorities. Raises `ValueError` for a host that
    no certificate can be for. Called through `redis_server`, at the start and for each connection.
    """
    if state.path is not None:
        return UNIXClientEndpoint(reactor, state.path, CONNECT)
    stream = HostnameEndpoint(reactor, state.host, state.port, CONNECT)
    tls = optionsForClientTLS(state.host, trustRoot=trust) if state.tls else None
    return Endpoint(stream, tls, CONNECT, reactor)
