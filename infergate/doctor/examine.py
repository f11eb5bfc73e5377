"""Everything that is looked at, in this order, and within the time that there is."""

from __future__ import annotations

from collections.abc import AsyncIterator

from twisted.internet.defer import Deferred

from infergate.doctor import backend, certificates, connections, keys, machine, stores
from infergate.doctor.operations import not_tried, operations, trials
from infergate.doctor.reaching import reach
from infergate.doctor.report import Check, ok
from infergate.doctor.subject import Subject


async def examine(subject: Subject) -> AsyncIterator[Check]:
    """Look at everything, and yield each check as soon as it is known. What is not the backend is
    looked at beside it, and yielded last.

    `commands.check` calls it with a new subject. Raises `SettingsError` for a setting that shows to
    be wrong only when it is used, as a host name that no certificate can be for.
    """
    yield machine.descriptors(subject)
    for check in certificates.listeners(subject):
        yield check
    others = [
        Deferred.fromCoroutine(one)
        for one in (stores.ledger(subject), stores.redis(subject), keys.issuer(subject))
    ]
    if subject.settings.backend_url is None:
        yield ok("backend", "none, since BACKEND_URL is not set: the echo answers")
    else:
        async for check in _backend(subject):
            yield check
    for other in others:
        for check in await other:
            yield check


async def _backend(subject: Subject) -> AsyncIterator[Check]:
    """Yield the checks of the backend: whether it can be reached, how it is, its models, its
    operations.

    Nothing more is asked where it cannot be reached, or would say the same to everything; what was
    not tried is then named. Raises `SettingsError` as `examine` does.
    """
    for look in (reach, backend.health, backend.listing):
        for check in await look(subject):
            yield check
        if subject.stopped:
            yield not_tried(trials(subject))
            return
    idling = Deferred.fromCoroutine(connections.idling(subject))
    async for check in operations(subject):
        yield check
    for check in await idling:
        yield check
