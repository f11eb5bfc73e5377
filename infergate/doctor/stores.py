"""What is kept outside the process: the ledger of `USAGE_DB`, the limits of `SHARED_STATE`.

The ledger is the database in which usage is summed up, an SQLite file or PostgreSQL; Redis counts
the limits that several processes share. `examine` runs `ledger` and `redis` beside the checks of
the backend. A store that is *away* cannot be used now, and the gateway serves without; one that is
*refused* will never do, and the gateway does not start.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TooLate  # that of addTimeout
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from infergate.access.redisurl import SharedState
from infergate.config.sources import SettingsError
from infergate.doctor.report import Check, fail, ok, warn
from infergate.doctor.subject import Subject
from infergate.ledger.connecting import UsageDB
from infergate.ledger.mounts import network_file_system
from infergate.ledger.schema import StoreAway, StoreRefused
from infergate.ledger.thread import OneThread
from infergate.wiring.stores import redis_server

LEDGER, SHARED = "USAGE_DB", "SHARED_STATE"

NO_START = "the gateway does not start before that is right"

EVICTS_NOT = "noeviction"
"""The one `maxmemory-policy` with which Redis forgets nothing before its time."""


async def ledger(subject: Subject) -> list[Check]:
    """Return one check of whether the ledger can be opened and written to; an empty list where
    `USAGE_DB` is not set."""
    database = subject.settings.usage_db
    return [] if database is None else [await _ledger(database, subject)]


async def _ledger(database: UsageDB, subject: Subject) -> Check:
    """Return the check of a ledger. Nothing in it is made or changed, and it gets as many seconds
    as any question. No answer in time, `StoreAway` and `StoreRefused` are failed checks."""
    path = database.path
    kind = None if path is None else network_file_system(path)
    if kind is not None:
        return fail(
            LEDGER,
            f"{path} is on a network file system ({kind}), where SQLite's locks cannot be relied "
            "on, and two machines spoil the file",
            "use a local disk, or postgresql://",
        )
    # A thread of its own, which ends with the process: the database may be silent.
    in_thread = OneThread("check", subject.clock.callFromThread)
    where = "the database" if path is None else path
    try:
        rehearsed = in_thread(lambda: database.store().rehearse())
        await rehearsed.addTimeout(subject.patience.each, subject.clock)
    except TooLate:
        said = f"{where} does not answer within {subject.patience.each:g} s"
    except StoreAway as why:
        said = f"{where} is away: {why}"
    except StoreRefused as why:
        return fail(LEDGER, f"{where} {why}", NO_START)
    else:
        return ok(LEDGER, f"{where} can be written to")
    return fail(LEDGER, said, "usage is kept in memory until it is back: start it, or correct it")


async def redis(subject: Subject) -> list[Check]:
    """Return one check of whether Redis can be used, and keeps what it is given; an empty list
    where `SHARED_STATE` is not set."""
    state = subject.settings.shared_state
    return [] if state is None else [await _redis(state, subject)]


async def _redis(state: SharedState, subject: Subject) -> Check:
    """Return the check of a Redis. One that is away or silent is a failure, as is a setting that
    would keep the gateway from starting; one that may forget limits when its memory is full is a
    warning. Raises nothing: whatever the connection fails with is in the line of the check."""
    try:
        reach = redis_server(subject.settings, state, subject.clock)
    except SettingsError as error:
        return fail(SHARED, str(error), NO_START)
    # Known to be installed by now.
    from infergate.access.redisconnection import away_reason

    asking = Deferred.fromCoroutine(_policy(reach, state, subject.clock))
    try:
        policy = await asking.addTimeout(subject.patience.each, subject.clock)
    except Exception as error:
        late = isinstance(error, TooLate)
        why = f"no answer within {subject.patience.each:g} s" if late else away_reason(Failure())
        meanwhile = "each process counts limits for itself"
        if subject.settings.shared_state_failure == "refuse":
            meanwhile = "callers with limits are refused"
        hint = f"start it, or correct SHARED_STATE; until then {meanwhile}"
        return fail(SHARED, f"Redis at {state} is away: {why}", hint)
    if policy == EVICTS_NOT:
        return ok(SHARED, f"Redis at {state} can be written to")
    said = (
        f"Redis at {state} has maxmemory-policy {policy}: once its memory is full limits are lost"
    )
    return warn(SHARED, said, f"set maxmemory-policy {EVICTS_NOT} there, or give it one of its own")


async def _policy(
    reach: Callable[[], IStreamClientEndpoint], state: SharedState, clock: IReactorTime
) -> str:
    """Connect to Redis as the gateway does, and return its ``maxmemory-policy``: what it does once
    its memory is full. The connection is closed whatever comes of it.

    `reach` makes the endpoint to connect with. Raises whatever keeps Redis from being used, of
    which `away_reason` says why. One that does not tell its policy is taken to forget nothing.
    """
    from infergate.access.redisconnection import connected

    protocol = await connected(reach, state, clock)
    try:
        said: dict[str, str] = await protocol.info("memory")
        return said.get("maxmemory_policy", EVICTS_NOT)
    finally:
        protocol.transport.abortConnection()
