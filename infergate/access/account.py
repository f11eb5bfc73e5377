"""On whose account a request is served, and what the limits count it by.

An account is made from a caller's key or token, and kept by the `Roster`; or for each request, from
its address, or from its key and the name of the person behind it:

    a key or token of alice                 bucket "caller alice"        name "alice"
    the same, and user= names bob           bucket "caller alice/bob"    name "alice/bob"
    no key is needed, from 192.0.2.7        bucket "address 192.0.2.7"   name None
    a wrong key, from 192.0.2.7             bucket "refused 192.0.2.7"   name None
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

from infergate.access.policy import Policy
from infergate.access.ratelimit import kept_key

MAX_NAME = 255
"""Characters of a caller's name that is used as it is: OpenID Connect allows a token's ``sub`` no
more (Core 1.0, 2). PostgreSQL takes 2,700 bytes for all that a row is found by."""


class Account(Struct, frozen=True, gc=False):
    """The one value that identification gives, and that an exchange keeps to its end, whatever is
    reloaded meanwhile.

    `bucket` is what the limits count by: a caller, or an address where nobody needs a key; a long
    one is a digest (`kept_key`). `name` is that in the log, the ledger and ``/v1/usage``, `label`
    that in the metrics, which do not tell the people behind a key apart; an address has neither,
    and no tokens to spend.
    """

    bucket: str
    policy: Policy
    name: str | None = None
    label: str | None = None
    is_person: bool = False
    is_refused: bool = False
    """Whether it stands for the wrong credentials of an address."""


def of_caller(caller: str, policy: Policy, person: str | None = None) -> Account:
    """Return the account of the caller that a key or a token belongs to, or, with `person`, that of
    one person of several who share the key. Called by `Roster.account`. Raises nothing: `person`
    has been checked there. Of a longer name than `MAX_NAME` its beginning and a digest stand for
    it, wherever it is written."""
    if len(caller) > MAX_NAME:
        digest = hashlib.sha256(caller.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        caller = f"{caller[: MAX_NAME - 33]}~{digest}"
    name = caller if person is None else f"{caller}/{person}"
    return Account(kept_key(f"caller {name}"), policy, name, caller, person is not None)


def of_address(address: str, policy: Policy, *, refused: bool = False) -> Account:
    """Return the account of a client that is known by its `address` alone: where no key is needed,
    or, with `refused`, where its credentials are wrong. Called by `Roster.stranger`; `address` is
    what `limit_key` has made of it, so that one host with many IPv6 addresses is one account."""
    kind = "refused" if refused else "address"
    return Account(kept_key(f"{kind} {address}"), policy, is_refused=refused)
