"""What a caller may do, as one frozen value that the identification gives.

`keysfile` reads policies out of `API_KEYS_FILE`, `limits` counts by them, `Admission` and the
gateway judge requests by them. A policy is complete: the defaults of ``*`` and `RATE_LIMIT` have
been applied where it is made, so that nobody looks anywhere else.

    key or token      its caller's name, and with ``user=`` that of the person behind it
    the name          `Policies`   the policy of that name, or that of everybody else
    all of these      `Account`    what the limits count by, and what the log and the metrics say
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from functools import cached_property, lru_cache

import attrs
from msgspec import Struct

from infergate.access.ratelimit import Rate
from infergate.server.addresses import Networks


class TokenLimit(Struct, frozen=True):
    """At most `count` tokens, prompt and completion, in each `window`; written ``1000/day``."""

    count: int
    window: str

    def __str__(self) -> str:
        """Return the limit as it is written in the keys file, for messages: ``1000/day``."""
        return f"{self.count}/{self.window}"


class Policy(Struct, frozen=True, kw_only=True):
    """What a caller may do; None is no limit, and no `tokens` are none.

    `rate_set_by` is the setting or the option that a refusal names. `models` are shell patterns
    of whole names. `routes` are names of operations, and ``metrics`` and ``status``. `sources`
    are the networks that the caller may come from. `user_field` is the header field, in lower
    case, whose value names the person behind a key that many share.
    """

    rate: Rate | None = None
    rate_set_by: str = "RATE_LIMIT"
    tokens: tuple[TokenLimit, ...] = ()
    concurrent: int | None = None
    models: tuple[str, ...] | None = None
    routes: frozenset[str] | None = None
    sources: Networks | None = None
    user_field: bytes | None = None

    def may_use_model(self, model: str) -> bool:
        """Return whether `model` matches one of the patterns, in its case; ``*`` matches ``/`` too.
        Called by `Admission` for an operation, and by the gateway for each entry of the list of
        models. Raises nothing."""
        return self.models is None or _any_of(self.models).match(model) is not None

    def may_use_route(self, name: str) -> bool:
        """Return whether this operation is open to the caller, or the page ``metrics`` or
        ``status``. Called by `Admission.admit`; raises nothing."""
        return self.routes is None or name in self.routes


@lru_cache(1024)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return one regular expression for all names that one of these shell patterns matches, to be
    used with `match`. Kept in a cache: each request with a model asks. Called by
    `Policy.may_use_model`; raises nothing, since any text is a shell pattern."""
    return re.compile("|".join(map(translate, patterns)))


@attrs.frozen(eq=False)
class Policies:
    """The policy of each caller: of those that have rules of their own by name, of all others
    `default`."""

    default: Policy = attrs.field(factory=Policy)
    by_name: Mapping[str, Policy] = attrs.field(factory=dict, repr=False)

    def of(self, name: str) -> Policy:
        """Return the policy of the caller of this name: its own, else `default`. Called by
        `Roster.account` for each request, and for the metrics at each scrape."""
        return self.by_name.get(name, self.default)

    @cached_property
    def windows(self) -> frozenset[str]:
        """The names of the windows in which anybody's tokens are limited; found once, since a
        `Policies` never changes. Read by `Budgets` and by the warnings at the start."""
        policies = (self.default, *self.by_name.values())
        return frozenset(limit.window for policy in policies for limit in policy.tokens)
