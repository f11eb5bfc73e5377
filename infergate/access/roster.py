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
    those of all keys, in the order in which they were written."""

    authenticator: IAuthenticator | None = None
    policies: Policies = attrs.Factory(Policies)
    rate_limit: Rate | None = None
    names: Sequence[str] = ()
    _stranger: Policy = attrs.field(init=False)

    @_stranger.default
    def _make_stranger(self) -> Policy:
        return Policy(rate=self.rate_limit)

    def account(self, name: str, fields: Mapping[bytes, Sequence[bytes]]) -> Account:
        """The account of the caller of this `name`, or of the person that a header field names."""
        policy = self.policies.of(name)
        return of_caller(name, policy, _person(policy, fields))

    def stranger(self, address: str, *, refused: bool = False) -> Account:
        """The account of an address: where no key is needed, or for its wrong ones (`refused`)."""
        return of_address(address, self._stranger, refused=refused)


def _person(policy: Policy, fields: Mapping[bytes, Sequence[bytes]]) -> str | None:
    if policy.user_field is None:
        return None
    values = fields.get(policy.user_field, ())
    person = values[0] if len(values) == 1 else b""
    return person.decode("ascii") if _PERSON.fullmatch(person) else None
