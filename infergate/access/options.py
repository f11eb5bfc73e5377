"""The options of a line of `API_KEYS_FILE`, and the policies made of them.

    alice:sha256:HEX  rate=60/minute  tokens=1000/hour tokens=9000/day  models=qwen*  from=off

An option says one thing for a name. `tokens` alone may stand there several times, with another
window each. ``off`` lifts what the line of ``*``, or for `rate` `RATE_LIMIT`, says for all.

What a policy consists of is found in three places, the first of which that has it counts: the
options of the name, those of ``*``, and for the rate `RATE_LIMIT`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from infergate.access.policy import Policies, Policy, TokenLimit
from infergate.access.ratelimit import Rate, parse_rate
from infergate.access.windows import DAY, WINDOWS
from infergate.api.operations import NAMES
from infergate.server.addresses import UNIX, Networks, parse_networks

PAGES = ("metrics", "status")
"""What a key with `routes=` opens only where they are named."""

EVERYBODY = "*"
"""The name whose options are the defaults of all callers."""

_COUNT = re.compile("[1-9][0-9]{0,14}", re.ASCII)
_TOKENS = re.compile(rf"({_COUNT.pattern})/({'|'.join(WINDOWS)})", re.ASCII)
_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_FIELD = re.compile(r"[\w!#$%&'*+.^`|~-]{1,64}", re.ASCII)

_NOT_A_PERSON = frozenset(
    {"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie", "host"}
)
"""Header fields whose values must not be logged, or say nothing about who asks."""

Options = Mapping[str, Any]
"""What a name's options mean, by their own names; None is ``off``."""


def read_options(words: Iterable[str]) -> dict[str, Any]:
    """Return what the options of a line mean, by their names, the token limits put together in the
    order of `WINDOWS`. Called by `keysfile` for each line whose options no line before it had.
    `words` are the options as they were written, such as ``rate=60/minute``.

    Raises `ValueError`, which names the option and lists what is allowed, and shows no key: for an
    unknown option, a value that is not allowed, and an option that stands there twice.
    """
    given: dict[str, Any] = {}
    for word in words:
        option, _, value = word.partition("=")
        parse = _PARSERS.get(option)
        if parse is None:
            # The word itself may be a key that went astray.
            raise ValueError(f"an option must be {'=, '.join(_PARSERS)}=")
        meaning = parse(word, value)
        if option != "tokens":
            if option in given:
                raise ValueError(f"{word}: {option}= is there twice")
            given[option] = meaning
        elif meaning is None or given.get(option, ()) is None:
            if option in given:
                raise ValueError(f"{word}: off stands alone")
            given[option] = None
        else:
            windows = given.setdefault(option, ())
            if any(limit.window == meaning.window for limit in windows):
                raise ValueError(f"{word}: there is another limit for the same window")
            given[option] = (*windows, meaning)
    if given.get("tokens"):
        given["tokens"] = tuple(sorted(given["tokens"], key=lambda one: WINDOWS.index(one.window)))
    return given


def _refused(word: str, allowed: str) -> ValueError:
    """Return the error that says of an option, as it was written, what would have been allowed.
    Called by the functions below, which raise it."""
    return ValueError(f"{word}: must be {allowed}")


# Each of these takes an option as it stands there, for the message, and the value in it. Each gives
# what the value means, or None for `off`, or raises `ValueError` with what is allowed.


def _parse_rate(word: str, value: str) -> Rate | None:
    """Return the rate of ``rate=60/minute``, None for ``off``. Called by `read_options`; raises
    `ValueError` for anything else."""
    try:
        return None if value == "off" else parse_rate(value)
    except ValueError:
        raise _refused(word, "N/second, N/minute, N/hour, N/day or off") from None


def _parse_tokens(word: str, value: str) -> TokenLimit | None:
    """Return the limit of one ``tokens=1000/day``, None for ``off``; `read_options` puts several
    together. Called by `read_options`; raises `ValueError` for a number or a window that is none.
    """
    match = _TOKENS.fullmatch(value)
    if match is None and value != "off":
        allowed = ", ".join(f"N/{window}" for window in WINDOWS)
        raise _refused(word, f"{allowed} or off")
    return None if match is None else TokenLimit(int(match[1]), match[2])


def _parse_concurrent(word: str, value: str) -> int | None:
    """Return the number of ``concurrent=4``, from 1; None for ``off``. Called by `read_options`;
    raises `ValueError` for anything else, 0 among it."""
    if value != "off" and not _COUNT.fullmatch(value):
        raise _refused(word, "a whole number from 1, or off")
    return None if value == "off" else int(value)


def _parse_models(word: str, value: str) -> tuple[str, ...]:
    """Return the shell patterns of ``models=qwen*,gpt-oss``, each of whole names. There is no
    ``off``, which may be the name of a model: ``models=*`` lifts a default. Called by
    `read_options`; raises `ValueError` for an empty pattern or a control character."""
    models = tuple(value.split(","))
    if not all(models) or not value.isprintable():
        raise _refused(word, "names of models, or patterns as in qwen*, separated by commas")
    return models


def _parse_routes(word: str, value: str) -> frozenset[str]:
    """Return the names of operations and pages of ``routes=chat,metrics``, in lower case. ``all``
    stands for the operations alone, so that a key opens a page only where the page is named. Called
    by `read_options`; raises `ValueError` for a name that is neither."""
    names = frozenset(value.lower().split(","))
    allowed = ("all", *NAMES, *PAGES)
    if not names.issubset(allowed):
        raise _refused(word, f"a comma-separated list out of {', '.join(allowed)}")
    return names - {"all"} | frozenset(NAMES) if "all" in names else names


def _parse_expires(word: str, value: str) -> float:
    """Return the first second, of those since 1970, in which the key does not work any more: for
    ``expires=2027-01-31`` that at which this day ends in UTC. Called by `read_options`; raises
    `ValueError` for any text that is no day of the calendar."""
    try:
        if not _DATE.fullmatch(value):
            raise ValueError
        last = datetime.fromisoformat(value).replace(tzinfo=timezone.utc)
    except ValueError:
        raise _refused(word, "the last day of the key, in UTC, as in 2027-01-31") from None
    return last.timestamp() + DAY


def _parse_from(word: str, value: str) -> Networks | None:
    """Return the networks of ``from=10.0.0.0/8,192.0.2.7`` that a caller may come from, None for
    ``off``. Called by `read_options`; raises `ValueError` for what is no network, for ``unix``,
    which has no address, and for an empty list."""
    if value == "off":
        return None
    try:
        networks = parse_networks(value)
        # A socket has no address that a list could name.
        if not networks or UNIX in networks:
            raise ValueError
    except ValueError:
        raise _refused(word, "addresses or networks, as in 10.0.0.0/8,192.0.2.7, or off") from None
    return networks


def _parse_user(word: str, value: str) -> bytes | None:
    """Return the name of the header field of ``user=X-OpenWebUI-User-Email``, in lower case, None
    for ``off``. Never one that holds credentials: its value stands in the log and in the ledger.
    Called by `read_options`; raises `ValueError` for such a field, and for what is no name of one.
    """
    if value == "off":
        return None
    if not _FIELD.fullmatch(value) or value.lower() in _NOT_A_PERSON:
        raise _refused(word, "the name of a header field, as in X-OpenWebUI-User-Email, or off")
    return value.lower().encode("ascii")


_PARSERS: dict[str, Callable[[str, str], Any]] = {
    "rate": _parse_rate,
    "tokens": _parse_tokens,
    "concurrent": _parse_concurrent,
    "models": _parse_models,
    "routes": _parse_routes,
    "expires": _parse_expires,
    "from": _parse_from,
    "user": _parse_user,
}


def make_policies(rules: Mapping[str, Options], rate: Rate | None) -> Policies:
    """Make the policy of each name out of the options of all, where ``*`` is the name of the
    defaults and `rate` that of `RATE_LIMIT`. Called by `KeysFile.policies`. Raises nothing. Names
    that share their options share one policy."""
    defaults = rules.get(EVERYBODY, {})
    # Names with the same rules share them, and so the policy that is made of them.
    known: dict[int, Policy] = {}

    def policy(own: Options) -> Policy:
        """Return the policy of a name with these options of its own, made once for each object."""
        made = known.get(id(own))
        if made is None:
            made = known[id(own)] = _policy({**defaults, **own}, rate)
        return made

    names = {name: policy(own) for name, own in rules.items() if name != EVERYBODY}
    return Policies(_policy(defaults, rate), names)


def _policy(options: Options, rate: Rate | None) -> Policy:
    """Return the policy of `options`, to which the defaults have been added already. A `rate` that
    is none of theirs is that of `RATE_LIMIT`, and refusals say so. Called by `make_policies`."""
    named = "rate" in options
    own_rate: Rate | None = options["rate"] if named else rate
    return Policy(
        rate=own_rate,
        rate_set_by="rate" if named else "RATE_LIMIT",
        tokens=options.get("tokens") or (),
        concurrent=options.get("concurrent"),
        models=options.get("models"),
        routes=options.get("routes"),
        sources=options.get("from"),
        user_field=options.get("user"),
    )
