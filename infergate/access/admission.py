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

        Where it is `limited`, each of its answers but a 401 says how its caller stands. Wrong
        credentials are limited by address, in buckets of their own that are asked first:
        guessing a key is no faster than using one.
        """
        record = request.record
        address = limit_key(record.client)
        if self.authenticator is not None:
            record.caller = await self._identify(self.authenticator, request, address, limited)
        if limited and self.limiter is not None:
            bucket = f"address {address}" if record.caller is None else f"caller {record.caller}"
            _apply(self.limiter.ask(bucket), request, limited)

    async def _identify(
        self, authenticator: IAuthenticator, request: Request, address: str, limited: bool
    ) -> str:
        bucket = f"refused {address}"
        if self.limiter is not None:
            refusals = self.limiter.peek(bucket)
            if not refusals.allowed:
                _apply(refusals, request, limited)
        try:
            assert request.head is not None
            caller = authenticator.authenticate(
                credentials(request.head.fields.get(b"authorization"))
            )
            return await caller if isinstance(caller, Deferred) else caller
        except Unauthorized:
            if self.limiter is not None:
                self.limiter.ask(bucket)
            raise


def _apply(decision: Decision, request: Request, limited: bool) -> None:
    if limited:
        request.standing += headers(decision)
    if not decision.allowed:
        raise RateLimited(decision.retry_after)
