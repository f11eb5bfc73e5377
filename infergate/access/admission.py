"""Who may come in, and how much: the questions in their order, and what a refusal costs.

    question                        refused by            a request of its rate is taken
    who is it?                      401                   of the address, for wrong credentials
    may it come from there?         403 address           no
    may it use this operation?      403 route             no
    has it requests left?           429 rate              yes, where it had
    has it tokens left?             429 tokens            no
    may it name this model?         403 model             yes, by then
    has it a place, and have all?   429, 503              yes, by then

The first three and the limits are asked with the head of a request, when its body may still be on
the way: what is not let in is not read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred

from infergate.access.account import Account
from infergate.access.auth import credentials
from infergate.access.limits import ILimits, Verdict, token_fields
from infergate.access.places import Places
from infergate.access.policy import Policy
from infergate.access.ratelimit import rate_fields
from infergate.access.roster import Roster
from infergate.errors import (
    LONG_WAIT,
    AddressNotAllowed,
    ConcurrencyLimited,
    KeyExpired,
    ModelNotAllowed,
    RateLimited,
    RouteNotAllowed,
    TokenLimited,
    TooManyUnderWay,
    Unauthorized,
)
from infergate.server.addresses import limit_key
from infergate.server.request import Request
from infergate.telemetry.record import Record

T = TypeVar("T")


@attrs.define(eq=False, repr=False)
class Admission:
    """Asked by the gateway, in this order: `admit` by the head of a request, `check_model` by its
    body, `enter` when the backend would be called. What has to be undone or charged when the
    exchange ends is left with its record.

    `roster` may be swapped at any time; an exchange keeps the account that it began with. `learn`
    is called with the names of each one.
    `max_concurrent` is `MAX_CONCURRENT_REQUESTS`, 0 for no limit.
    """

    _roster: Roster
    _limits: ILimits
    _max_concurrent: int = attrs.field(default=0, kw_only=True)
    _wall: Callable[[], float] = attrs.field(default=time.time, kw_only=True)
    _learn: Callable[[Sequence[str]], None] = attrs.field(default=lambda names: None, kw_only=True)
    _places: Places = attrs.field(factory=Places, init=False)

    def __attrs_post_init__(self) -> None:
        self._learn(self._roster.names)

    @property
    def roster(self) -> Roster:
        """Who is known now."""
        return self._roster

    @roster.setter
    def roster(self, roster: Roster) -> None:
        self._roster = roster
        self._learn(roster.names)

    async def admit(
        self,
        request: Request,
        *,
        to: str | None = None,
        limited: bool = False,
        costs: bool = False,
        basic: bool = False,
    ) -> Account:
        """Let `request` in to the operation or page `to`, if it is one that a key may be without.

        Where it is `limited`, each of its answers but a 401 says how its caller stands, and one
        that `costs` tokens is let in only while its caller has some left. With `basic` the key may
        be a browser's password. Raises `Unauthorized`,
        `AddressNotAllowed`, `RouteNotAllowed`, `RateLimited`, `TokenLimited` and
        `LimitsUnavailable`.
        """
        account = await self._identify(request, limited=limited, basic=basic)
        request.record.caller, request.record.caller_label = account.name, account.label
        try:
            if not allows_address(account.policy, request.record.client):
                raise AddressNotAllowed
            if to is not None and not account.policy.may_use_route(to):
                raise RouteNotAllowed(f"The option routes= of this key does not allow {to}.")
        except (AddressNotAllowed, RouteNotAllowed):
            if limited:
                _tell(request, await _now(self._limits.look(account)))
            raise
        if limited:
            asked = self._limits.ask(account, costs)
            verdict = asked if isinstance(asked, Verdict) else await asked
            _tell(request, verdict)
            if verdict.refused_by is not None:
                self._refuse(account, verdict)
        if costs and account.policy.tokens:
            request.record.at_end(partial(self._charge, account))
        return account

    def check_model(self, account: Account, model: str | None) -> None:
        """Raise `ModelNotAllowed` unless the account may name `model`; None is none."""
        if account.policy.models is None:
            return
        if model is None:
            raise ModelNotAllowed("Name a model: the key's option models= allows certain ones.")
        if not account.policy.may_use_model(model):
            raise ModelNotAllowed("The key's option models= does not allow this model.")

    def enter(self, account: Account, record: Record) -> None:
        """Take a place at the backend until the exchange ends; raises `ConcurrencyLimited` and
        `TooManyUnderWay`."""
        own, everybodys = account.policy.concurrent, self._max_concurrent
        if own is not None and self._places.taken(account.bucket) >= own:
            raise ConcurrencyLimited(message=f"concurrent={own} requests are under way.")
        if everybodys and self._places.all_taken >= everybodys:
            message = f"MAX_CONCURRENT_REQUESTS={everybodys} requests are under way."
            raise TooManyUnderWay(message=message)
        self._places.enter(account.bucket)
        record.at_end(lambda _: self._places.leave(account.bucket))

    def under_way(self, account: Account) -> int:
        """How many places the account has taken."""
        return self._places.taken(account.bucket)

    async def look(self, account: Account) -> Verdict:
        """How the account stands with its limits; raises `LimitsUnavailable`."""
        return await _now(self._limits.look(account))

    async def _identify(self, request: Request, *, limited: bool, basic: bool) -> Account:
        """The account of the caller, or of the address where nobody needs a key.

        Raises `Unauthorized` for wrong credentials, and `RateLimited` once their address has sent
        as many as `RATE_LIMIT` has requests. Waits only for a token whose key has to be fetched.
        """
        roster = self.roster
        address = limit_key(request.record.client)
        if roster.authenticator is None:
            return roster.stranger(address)
        assert request.head is not None
        fields = request.head.fields
        try:
            name = roster.authenticator.authenticate(credentials(fields, basic=basic))
            return roster.account(name if isinstance(name, str) else await name, fields)
        except KeyExpired as error:
            request.record.caller = error.caller
            raise
        except Unauthorized:
            # Only wrong credentials are charged to their address, in a bucket of its own:
            # a right key is never refused for the wrong ones that came from beside it, and
            # to guess keys is no faster than to use one.
            stranger = roster.stranger(address, refused=True)
            verdict = await _now(self._limits.ask(stranger, False))
            if verdict.refused_by is None:
                raise
        # Not within the handler: the refusal of the credentials is no cause of this one.
        if limited:
            _tell(request, verdict)
        self._refuse(stranger, verdict)
        raise AssertionError("a verdict that refuses")

    def _refuse(self, account: Account, verdict: Verdict) -> None:
        """Raise what a verdict that refuses says, in words that name the limit as it was written
        and when the caller may come back; nothing where it does not refuse."""
        if verdict.refused_by is None:
            return
        after = verdict.retry_after
        if verdict.refused_by == "rate":
            policy = account.policy
            option = f"{policy.rate_set_by}={policy.rate}"
            raise RateLimited(after, f"{option} is used up. {self._when(after, after)}")
        used_up = (spent for spent in verdict.tokens if spent.used >= spent.budget.count)
        last = max(used_up, key=lambda spent: spent.reset)
        raise TokenLimited(
            after, f"tokens={last.budget} is used up. {self._when(after, last.reset)}"
        )

    def _when(self, retry_after: int, exactly: float) -> str:
        """When to come back, as the end of a message: in seconds for a short wait, else as a time
        in UTC, which a person can plan by."""
        if retry_after <= LONG_WAIT:
            return f"Come back in {retry_after} s."
        # A window ends at a whole second, but for what the difference of two floats is off.
        then = datetime.fromtimestamp(math.ceil(self._wall() + exactly - 0.001), timezone.utc)
        return f"Come back at {then:%Y-%m-%dT%H:%M:%SZ}."

    def _charge(self, account: Account, record: Record) -> None:
        """Charge an exchange that has ended with the tokens that its record says, also where it
        failed on the way: the backend has worked on the prompt by then."""
        usage = record.usage
        self._limits.charge(account, usage.prompt_tokens + usage.completion_tokens)


def allows_address(policy: Policy, address: str) -> bool:
    """Whether a caller may come from `address`. What has none, as over a Unix socket, comes from
    nowhere that a list could name."""
    if policy.sources is None:
        return True
    parsed = _parsed(address)
    if parsed is None:
        return False
    for network in policy.sources:  # noqa: SIM110 - a generator costs as much as the look itself
        if parsed in network:
            return True
    return False


@lru_cache(4096)
def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """Kept, since the clients of a team come again and again."""
    try:
        return ip_address(address.partition("%")[0])
    except ValueError:
        return None


def _tell(request: Request, verdict: Verdict) -> None:
    """Have every answer say how the caller stands."""
    if verdict.rate is not None:
        request.standing.append(rate_fields(verdict.rate))
    if verdict.tokens:
        request.standing.append(token_fields(verdict.tokens))


async def _now(value: T | Deferred[T]) -> T:
    """What is there already, or will be."""
    return await value if isinstance(value, Deferred) else value
