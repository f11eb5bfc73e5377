"""Who is known, and what each may do: the one value that a reload swaps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import attrs

from infergate.access.account import Account, of_address, of_caller
from infergate.access.auth import IAuthenticator
from infergate.access.policy import Policies, Policy
from infergate.access.ratelimit import Rate

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

    @_stranger.default
    def _make_stranger(self) -> Policy:
        """Return the one policy of all addresses, made once: `RATE_LIMIT`, and no other limit.
        Called by attrs when the roster is made."""
        return Policy(rate=self.rate_limit)

    def account(self, name: str, fields: Mapping[bytes, Sequence[bytes]]) -> Account:
        """Return the account of the caller of this `name`, or of the person that a header field of
        the request names, where the caller's option ``user=`` asks for that. `fields` are the
        request's header fields, their names in lower case."""
        policy = self.policies.of(name)
        return of_caller(name, policy, _person(policy, fields))

    def stranger(self, address: str, *, refused: bool = False) -> Account:
        """Return the account of an address: where no key is needed, or for its wrong ones
        (`refused`)."""
        return of_address(address, self._stranger, refused=refused)


def _person(policy: Policy, fields: Mapping[bytes, Sequence[bytes]]) -> str | None:
    """Return the name of the person in the header field that the policy names. None where it names
    none, and where the field is missing, there twice, longer than `MAX_PERSON`, or holds anything
    but visible ASCII characters: such a request counts as the caller's own. Called by
    `Roster.account`; raises nothing."""
    if policy.user_field is None:
        return None
    values = fields.get(policy.user_field, ())
    person = values[0] if len(values) == 1 else b""
    return person.decode("ascii") if _PERSON.fullmatch(person) else None
