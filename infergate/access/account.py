"""On whose account a request is served, and what the limits count it by."""

from __future__ import annotations

from msgspec import Struct

from infergate.access.policy import Policy


class Account(Struct, frozen=True, gc=False):
    """The one value that identification gives, and that an exchange keeps to its end, whatever is
    reloaded meanwhile.

    `bucket` is what the limits count by: a caller, or an address where nobody needs a key. `name`
    is that in the log, the ledger and ``/v1/usage``, `label` that in the metrics, which do not tell
    the people behind a key apart; an address has neither, and no tokens to spend.
    """

    bucket: str
    policy: Policy
    name: str | None = None
    label: str | None = None
    is_person: bool = False
    is_refused: bool = False
    """Whether it stands for the wrong credentials of an address."""


def of_caller(caller: str, policy: Policy, person: str | None = None) -> Account:
    """The account of a key's or a token's caller, or of one `person` of several behind its key."""
    name = caller if person is None else f"{caller}/{person}"
    return Account(f"caller {name}", policy, name, caller, person is not None)


def of_address(address: str, policy: Policy, *, refused: bool = False) -> Account:
    """The account of whoever comes from `address` where no key is needed, or with a wrong one."""
    kind = "refused" if refused else "address"
    return Account(f"{kind} {address}", policy, is_refused=refused)
