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

The terms: an `Account` says who is charged and by which `Policy` (what the key's options allow). A
`Verdict` is what the limits answered: how the rate and the token budgets stand, and which of them
refuses. A place is one operation under way at the backend. A `Roster` is who is known now; a reload
of the keys file swaps it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timezone
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NoReturn

import attrs
from twisted.internet.defer import Deferred

from infergate.access.account import Account
from infergate.access.auth import CREDENTIALS, token_of, token_or_password
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
from infergate.server.request import Request
from infergate.telemetry.record import Record


@attrs.define(eq=False, repr=False)
class Admission:
    """Decides on each request; one for the whole process, made by `wiring.callers.admission`.

    The gateway calls, in this order: `admit` when the head of a request is complete, `check_model`
    when its body is, `enter` when the backend would be called. All three raise the error that the
    client is answered with. What has to be undone or charged when the exchange ends (the place, the
    tokens) is left with its record, by `Record.at_end`.

    `roster` may be swapped at any time; an exchange keeps the account that it began with. `learn`
    is called with the names of each roster, so that the metrics show these callers before they
    come. `max_concurrent` is `MAX_CONCURRENT_REQUESTS`, 0 for no limit. `wall` is the time in
    seconds since 1970, for the words of a refusal alone.
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
        """Who is known now. Set by a reload of `API_KEYS_FILE` (`process.reload`), in the reactor's
        thread; requests that have been admitted are not judged again."""
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
        """Identify the caller of `request`, judge it by its policy and its limits, and return its
        account.

        Called by the gateway for each request that a key or a limit may hold back, when its head is
        complete. `to` is the operation or page that a key may be without (`routes=`), None for one
        that is open to every caller. Where the request is `limited`, one is taken from the rate,
        and each answer but a 401 carries the header fields that say how the caller stands. One that
        `costs` tokens is let in only while its caller has some left; `enter` has it charged. With
        `basic` the key may be a browser's password (``Authorization: Basic``).

        The record is told the caller's name, also where a refusal follows. Waits for a token whose
        key has to be fetched and for the limits in Redis, and for nothing else.

        Raises `Unauthorized` (401; `KeyExpired` is one), `AddressNotAllowed` and `RouteNotAllowed`
        (403), `RateLimited` and `TokenLimited` (429), and `LimitsUnavailable` (503) where Redis is
        away and `SHARED_STATE_FAILURE` is ``refuse``.
        """
        record = request.record
        try:
            found = self._identify(request, limited=limited, basic=basic)
            account = found if isinstance(found, Account) else await found
        except KeyExpired as error:
            record.caller = error.caller
            raise
        record.caller, record.caller_label = account.name, account.label
        policy = account.policy
        try:
            if not allows_address(policy, record.client):
                raise AddressNotAllowed
            if to is not None and not policy.may_use_route(to):
                raise RouteNotAllowed(f"The option routes= of this key does not allow {to}.")
        except (AddressNotAllowed, RouteNotAllowed):
            if limited:
                _tell(request, await _answered(self._limits.look(account)))
            raise
        if limited:
            asked = self._limits.ask(account, costs)
            verdict = asked if isinstance(asked, Verdict) else await asked
            _tell(request, verdict)
            if verdict.refused_by is not None:
                self._refuse(account, verdict)
        return account

    def check_model(self, account: Account, model: str | None) -> None:
        """Check that the account may name `model`, which None says the request did not do; raises
        `ModelNotAllowed` where its option ``models=`` has no pattern for it. Called by the gateway
        for each operation once its body has been judged; `model` is then the request's, or
        `DEFAULT_MODEL`."""
        if account.policy.models is None:
            return
        if model is None:
            raise ModelNotAllowed("Name a model: the key's option models= allows certain ones.")
        if not account.policy.may_use_model(model):
            raise ModelNotAllowed("The key's option models= does not allow this model.")

    def enter(self, account: Account, record: Record) -> None:
        """Take a place at the backend for this exchange. When `record` is closed, whatever becomes
        of the exchange, the place is free again and the account charged with its tokens. Called by
        the gateway right before the worker is asked.

        Raises `ConcurrencyLimited` (429) where the account has as many places as its
        ``concurrent=`` allows, and `TooManyUnderWay` (503) where all callers together have
        `max_concurrent`; then no place is taken.
        """
        own, everybodys = account.policy.concurrent, self._max_concurrent
        if own is not None and self._places.taken(account.bucket) >= own:
            raise ConcurrencyLimited(message=f"concurrent={own} requests are under way.")
        if everybodys and self._places.all_taken >= everybodys:
            message = f"MAX_CONCURRENT_REQUESTS={everybodys} requests are under way."
            raise TooManyUnderWay(message=message)
        self._places.enter(account.bucket)
        record.at_end(partial(self._leave, account))

    def under_way(self, account: Account) -> int:
        """Return how many places the account has taken now, for ``GET /v1/usage``. Called by the
        gateway; raises nothing."""
        return self._places.taken(account.bucket)

    async def look(self, account: Account) -> Verdict:
        """Return how the account stands with its rate and all of its budgets, taking nothing: for
        ``GET /v1/usage``. Raises nothing of its own: where Redis is away, this process's own counts
        answer."""
        return await _answered(self._limits.look(account))

    def _identify(
        self, request: Request, *, limited: bool, basic: bool
    ) -> Account | Awaitable[Account]:
        """Return the account of the caller, or that of the address where nobody needs a key.

        Called by `admit`, first of all. To be awaited only where the key of a token has to be
        fetched, or where the credentials are wrong; what it then raises is said of `_turn_away`.
        Raises `KeyExpired` for a key past its last day.
        """
        roster, head = self._roster, request.head
        if roster.authenticator is None:
            return roster.stranger(request.record.client)
        assert head is not None
        try:
            token = head.of_fields(CREDENTIALS, token_or_password if basic else token_of)
            name = roster.authenticator.authenticate(token)
        except KeyExpired:
            raise
        except Unauthorized:
            return self._turn_away(roster, request, limited=limited)
        if isinstance(name, str):
            return roster.account(name, head.fields)
        return self._wait_for(name, roster, request, limited=limited)

    async def _wait_for(
        self, name: Deferred[str], roster: Roster, request: Request, *, limited: bool
    ) -> Account:
        """Return the account of a caller whose name comes later. Called by `_identify`; raises as
        that and `_turn_away` do."""
        assert request.head is not None
        try:
            return roster.account(await name, request.head.fields)
        except KeyExpired:
            raise
        except Unauthorized:
            pass
        # Not within the handler: the refusal of the credentials is no cause of another one.
        return await self._turn_away(roster, request, limited=limited)

    async def _turn_away(self, roster: Roster, request: Request, *, limited: bool) -> NoReturn:
        """Charge wrong or missing credentials to their address, and raise what its request is
        answered with: `Unauthorized`, or `RateLimited` once the address has sent as many wrong ones
        as `RATE_LIMIT` has requests. Called by `_identify` and `_wait_for`.

        They have a bucket of their own: a right key is never refused for the wrong ones that came
        from beside it, and to guess keys is no faster than to use one.
        """
        stranger = roster.stranger(request.record.client, refused=True)
        verdict = await _answered(self._limits.ask(stranger, False))
        if verdict.refused_by is None:
            raise Unauthorized
        if limited:
            _tell(request, verdict)
        self._refuse(stranger, verdict)

    def _refuse(self, account: Account, verdict: Verdict) -> NoReturn:
        """Raise the error of a verdict that refuses: `RateLimited` or `TokenLimited`, in words that
        name the limit as it was written and when the caller may come back. Of several budgets that
        are used up the message names the one whose window ends last. Called by `admit` and
        `_turn_away`."""
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
        """Return the sentence with which a refusal ends, on when to come back: in seconds for a
        wait of up to `LONG_WAIT`, else as a time in UTC, which a person can plan by. `retry_after`
        are the whole seconds of the ``Retry-After`` header field, `exactly` the same before they
        were rounded. Called by `_refuse`."""
        if retry_after <= LONG_WAIT:
            return f"Come back in {retry_after} s."
        # A window ends at a whole second, but for what the difference of two floats is off.
        then = datetime.fromtimestamp(math.ceil(self._wall() + exactly - 0.001), timezone.utc)
        return f"Come back at {then:%Y-%m-%dT%H:%M:%SZ}."

    def _leave(self, account: Account, record: Record) -> None:
        """Free the place of an exchange that has ended, and charge the account with its tokens,
        prompt and completion, also where it failed on the way: the backend has worked on the prompt
        by then. Called through `Record.at_end`, once for each exchange that took a place; what
        never came so far has used no tokens."""
        self._places.leave(account.bucket)
        if account.policy.tokens:
            usage = record.usage
            self._limits.charge(account, usage.prompt_tokens + usage.completion_tokens)


def allows_address(policy: Policy, address: str) -> bool:
    """Return whether a caller of this policy may come from `address`: one of the networks of its
    option ``from=`` holds it, or it has no such option. A client without an address, as over a Unix
    socket, is in no network, and so refused where there is a list. Called by `Admission.admit` for
    each request. Raises nothing."""
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
    """Return `address` without its IPv6 zone (``fe80::1%eth0``) as a value of `ipaddress`, None
    where it is no address. Kept in a cache, since the clients of a team come again and again.
    Called by `allows_address`."""
    try:
        return ip_address(address.partition("%")[0])
    except ValueError:
        return None


def _tell(request: Request, verdict: Verdict) -> None:
    """Add to every later answer of `request` the header fields ``x-ratelimit-*`` of a verdict:
    those of the rate and those of the token budget with least left, each where there is one. Called
    by `admit`, before it refuses, and by `_turn_away`; the answer then writes the lines."""
    if verdict.rate is not None:
        request.standing.append(rate_fields(verdict.rate))
    if verdict.tokens:
        request.standing.append(token_fields(verdict.tokens))


async def _answered(verdict: Verdict | Awaitable[Verdict]) -> Verdict:
    """Return a verdict, or wait for it: limits in memory answer at once, those in Redis later.
    Raises what the wait ends with. Called by `Admission` for what the limits answer."""
    return verdict if isinstance(verdict, Verdict) else await verdict
