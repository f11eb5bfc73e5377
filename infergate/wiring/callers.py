"""Who is known, what each may do, and where it is counted, out of the settings.

    API_KEYS, API_KEYS_FILE          `KeyRing`s           the first that knows a credential decides;
    JWT_*                            a `TokenVerifier`    tokens are asked last, since they may wait
    the options in API_KEYS_FILE     `Policies`           what each of these callers may do
    RATE_LIMIT                       a `Rate`             of callers without one, and of addresses
    USAGE_DB                         `Budgets`            what was used before this process began
    SHARED_STATE                     `SharedLimits`       in place of `LocalLimits`, around them

All of the first four is a `Roster`, and what a reload of the files swaps. `Admission` asks the
roster who comes, and then the limits whether there is room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from infergate.access.admission import Admission
from infergate.access.auth import AnyOf, IAuthenticator
from infergate.access.budgets import Budgets
from infergate.access.limits import ILimits, LocalLimits
from infergate.access.policy import Policies, Policy
from infergate.access.roster import Roster
from infergate.config.settings import Settings
from infergate.process.service import Part
from infergate.telemetry.metrics import Metrics
from infergate.wiring.servers import Servers
from infergate.wiring.stores import Stores

if TYPE_CHECKING:
    from infergate.access.redislink import RedisLink


class Rosters:
    """Make rosters: one at the start, and another each time that keys are read again.

    `compose` makes one `Rosters`, and hands its `roster` on to `admission` and to `KeyFiles`.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        # Kept when keys are read again: a published set is fetched at its own pace.
        self._published: Any = None

    def roster(self, settings: Settings) -> Roster:
        """Return who is known and what each may do, by the `settings` as their files are now.

        Called by `admission` at the start, and by `KeyFiles.read`, in a thread, for each reload.
        Raises `SettingsError` at the start for a `JWT_JWKS_URL` that cannot be connected to.
        """
        file = settings.api_keys_file
        if file is not None:
            policies = file.content.policies(settings.rate_limit)
        else:
            policies = Policies(Policy(rate=settings.rate_limit))
        names = [name for ring in settings.rings.values() for name in ring.names]
        return Roster(self._authenticator(settings), policies, settings.rate_limit, names)

    def _authenticator(self, settings: Settings) -> IAuthenticator | None:
        """Return what lets callers in, or None where nobody needs a key.

        With more than one source of keys that is an `AnyOf`, which asks each of them in turn.
        Called by `roster`; raises as that does.
        """
        authenticators: list[IAuthenticator] = [*settings.rings.values()]
        keys = self._token_keys(settings)
        if keys is not None:
            # Imported only where tokens are checked: cryptography takes long to load.
            from infergate.access.jwts import TokenVerifier

            authenticators.append(
                TokenVerifier(
                    keys, settings.jwt_algorithms, settings.jwt_issuer, settings.jwt_audience
                )
            )
        if len(authenticators) > 1:
            return AnyOf(tuple(authenticators))
        return authenticators[0] if authenticators else None

    def _token_keys(self, settings: Settings) -> Any:
        """Return the source of the keys that tokens are verified with, or None without JWT.

        A set that is published at `JWT_JWKS_URL` is made once, with an agent of its own. Called by
        `_authenticator`; raises as `roster` does.
        """
        if settings.jwt_public_key_file is not None:
            return settings.jwt_public_key_file.content
        if settings.jwt_jwks_url is None:
            return settings.jwt_secret
        if self._published is None:
            from infergate.access.jwks import KeySet
            from infergate.backend.fetch import fetcher

            url, servers = settings.jwt_jwks_url, self._servers
            agent, _ = servers.origin("JWT_JWKS_URL", url)
            self._published = KeySet(fetcher(agent, url, servers.deadlines), servers.clock)
        return self._published


def admission(settings: Settings, rosters: Rosters, limits: ILimits, metrics: Metrics) -> Admission:
    """Make what decides who may come in, and how much. Called once by `compose`.

    The metrics learn the names of callers only where keys are needed: without, a caller is an
    address, and there is no end of those. Raises `SettingsError` as `Rosters.roster` does.
    """
    return Admission(
        rosters.roster(settings),
        limits,
        max_concurrent=settings.max_concurrent_requests,
        learn=metrics.callers.learn if settings.needs_key else lambda names: None,
    )


def limits(settings: Settings, local: LocalLimits, redis: RedisLink | None) -> ILimits:
    """Return the limits as `Admission` asks them: in this process alone, or in Redis too.

    Called once by `compose`; `redis` is None without `SHARED_STATE`. When Redis is there again, the
    tokens that callers have used meanwhile are charged there (`SharedLimits.settle`).
    """
    if redis is None:
        return local
    from infergate.access.shared import SharedLimits

    shared = SharedLimits(redis, local, refuse=settings.shared_state_failure == "refuse")
    redis.on_up = shared.settle
    return shared


def lasting(
    stores: Stores, local: LocalLimits, admission: Admission, clock: IReactorTime
) -> tuple[Part, ...]:
    """Return what is started and stopped with the ledger and with Redis, in the order of the
    start.

    The budgets are read here already, before the gateway listens: the first request is to find them
    as they were when the process before this one ended. That blocks for as long as the database
    needs; a ledger that is away is read later. Called once by `compose`.
    """
    parts: list[Part] = []
    if stores.ledger is not None:
        budgets = Budgets(stores.ledger, local, lambda: admission.roster, clock)
        budgets.begin()
        parts += [stores.ledger, budgets]
        if stores.redis is not None:
            # A Redis that has forgotten a window begins it from what the ledger knows now.
            stores.redis.before_up = budgets.refresh
    if stores.redis is not None:
        parts.append(stores.redis)
    return tuple(parts)


def watch(metrics: Metrics, stores: Stores) -> None:
    """Show in the metrics whether what is kept outside the process can be reached.

    Called once by `compose`. Each metric is read anew with each scrape.
    """
    ledger, redis = stores.ledger, stores.redis
    if ledger is not None:
        takes = "Whether the database of USAGE_DB takes what it is given."
        waits = "Requests that wait to be written to USAGE_DB."
        metrics.watch("infergate_ledger_up", takes, lambda: ledger.up)
        metrics.watch("infergate_ledger_pending_requests", waits, lambda: ledger.pending)
    if redis is not None:
        answers = "Whether the Redis of SHARED_STATE answers."
        metrics.watch("infergate_shared_state_up", answers, lambda: redis.up)
