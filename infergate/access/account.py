"""On whose account a request is served, and what the limits count it by."""

from __future__ import annotations

import attrs

from infergate.access.policy import Caller, Policy


@attrs.frozen
class Account:
    """The one value that identification gives, and that an exchange keeps to its end, whatever is
    reloaded meanwhile.

    `bucket` is what the limits count by: a caller, or an address where nobody needs a key. `caller`
    is None for an address, which has no name and no tokens to spend.
    """

    bucket: str
    policy: Policy
    caller: Caller | None = None

    @property
    def name(self) -> str | None:
        """The name in the log, the ledger and ``/v1/usage``."""
        return None if self.caller is None else self.caller.full_name

    @property
    def is_refused(self) -> bool:
        """Whether it stands for the wrong credentials of an address."""
        return self.bucket.startswith("refused ")

    @property
    def is_person(self) -> bool:
        """Whether it is one of the many people behind a key."""
        return self.caller is not None and self.caller.user is not None


def of_caller(caller: Caller) -> Account:
    """The account of a key's or a token's caller."""
    return Account(f"caller {caller.full_name}", caller.policy, caller)


def of_address(address: str, policy: Policy, *, refused: bool = False) -> Account:
    """The account of whoever comes from `address` where no key is needed, or with a wrong one."""
    return Account(f"{'refused' if refused else 'address'} {address}", policy)
