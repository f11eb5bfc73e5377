"""Who may come in, and how often."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred

from infergate.access.auth import IAuthenticator, credentials
from infergate.access.ratelimit import Decision, IRateLimiter, headers
from infergate.errors import RateLimited, Unauthorized
from infergate.server.addresses import limit_key
from infergate.server.request import Request


@attrs.frozen
class Admission:
    """The hooks of policy. None switches the one or the other off."""

    authenticator: IAuthenticator | None = None
    limiter: IRateLimiter | None = None

    async def admit(self, request: Request, *, limited: bool) -> None:
        """Let `request` in, or raise `Unauthorized` or `RateLimited`.

        Where it is `limited`, each of its answers but a 401 says how its caller stands.
        """
        record = request.record
        address = limit_key(record.client)
        if self.authenticator is not None:
            try:
                record.caller = await _caller(self.authenticator, request)
            except Unauthorized:
                # Only wrong credentials are charged to their address, in a bucket of its own:
                # a right key is never refused for the wrong ones that came from beside it, and
                # to guess keys is no faster than to use one.
                decision = self._ask(f"refused {address}")
                if decision is not None and not decision.allowed:
                    _apply(decision, request, limited)
                raise
        if limited:
            bucket = f"address {address}" if record.caller is None else f"caller {record.caller}"
            decision = self._ask(bucket)
            if decision is not None:
                _apply(decision, request, limited)

    def _ask(self, bucket: str) -> Decision | None:
        return None if self.limiter is None else self.limiter.ask(bucket)


async def _caller(authenticator: IAuthenticator, request: Request) -> str:
    """The caller's name, by the credentials in the request's head."""
    assert request.head is not None
    token = credentials(request.head.fields)
    caller = authenticator.authenticate(token)
    return await caller if isinstance(caller, Deferred) else caller


def _apply(decision: Decision, request: Request, limited: bool) -> None:
    """Refuse a request that is over its limit; the answer of a `limited` one says how it stands."""
    if limited:
        request.standing += headers(decision)
    if not decision.allowed:
        raise RateLimited(decision.retry_after) from None
