"""Who is known, and what each may do: the one value that a reload swaps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import attrs

from infergate.access.account import Account, of_address, of_caller
from infergate.access.auth import IAuthenticator
from infergate.access.policy import Policies, Policy
from infergate.access.ratelimit import Rate
from infergate.server.addresses import limit_key

CALLERS = 1024
"""Callers and people whose accounts are remembered, at 300 bytes each and their names."""

MAX_PERSON = 128
"""Characters of the name of a person in a header field."""

# Visible characters of ASCII alone: the name goes into logs and the ledger.
_PERSON = re.compile(rb"[!-~]{1,%d}" % MAX_PERSON)


@attrs.frozen(eq=False)
class Roster:
    """Knows callers by their credentials, where `authenticator` is not None, and by their names
    what they may do. `rate_limit`, that of the setting, is what holds for addresses. `names` are
    those of all keys, in the order in which they were written.

    Made by `wiring.callers.Rosters` at the start and at each reload. `Admission` asks it for each
    request: the `authenticator` for a name, then `account` for what this name may do, or `stranger`
    where there is no name. Neither method waits or raises.
    """

    authenticator: IAuthenticator | None = None
    policies: Policies = attrs.Factory(Policies)
    rate_limit: Rate | None = None
    names: Sequence[str] = ()
    _stranger: Policy = attrs.field(init=False)
    # The account of a caller by its name, or by that and the name of a person. Tokens have many
    # names, and clients make up those of people: not all are kept.
    _account: Callable[..., Account] = attrs.field(init=False)

    @_stranger.default
    def _make_stranger(self) -> Policy:
        """Return the one policy of all addresses, made once: `RATE_LIMIT`, and no other limit.
        Called by attrs when the roster is made."""
        return Policy(rate=self.rate_limit)

    @_account.default
    def _make_accounts(self) -> Callable[..., Account]:
        """Return a function that makes the account of a caller or a person, and remembers the last
        `CALLERS` of them. Called by attrs when the roster is made."""

        @lru_cache(CALLERS)
        def account(name: str, person: str | None = None) -> Account:
            """Make one account, with the policy of the caller's name."""
            return of_caller(name, self.policies.of(name), person)

        return account

    def account(self, name: str, fields: Mapping[bytes, Sequence[bytes]]) -> Account:
        """Return the account of the caller of this `name`, or of the person that a header field of
        the request names, where the caller's option ``user=`` asks for that. `fields` are the
        request's header fields, their names in lower case."""
        account = self._account(name)
        field = account.policy.user_field
        person = None if field is None else _person(fields.get(field, ()))
        return account if person is None else self._account(name, person)

    def stranger(self, address: str, *, refused: bool = False) -> Account:
        """Return the account of a client's address, or its IPv6 network: where no key is needed, or
        for its wrong ones (`refused`)."""
        return of_address(limit_key(address), self._stranger, refused=refused)


def _person(values: Sequence[bytes]) -> str | None:
    """Return the name of the person in the header field that a policy names, whose `values` these
    are. None where the field is missing, there twice, longer than `MAX_PERSON`, or holds anything
    but visible ASCII characters: such a request counts as the caller's own. Called by
    `Roster.account`; raises nothing."""
    person = values[0] if len(values) == 1 else b""
    return person.decode("ascii") if _PERSON.fullmatch(person) else None
