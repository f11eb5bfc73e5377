"""How often a caller may come: one token bucket for each, in a bounded memory.

A token bucket lets `count` requests through at once and is filled again evenly: with ``60/minute``
a caller that has used all 60 gets one more each second. A `Rate` is what is allowed, a `Decision`
what one bucket says of one request. The tokens of such a bucket are requests, and have nothing to
do with the tokens of a model, which `spending` counts.

But for `parse_rate` nothing here raises.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from functools import lru_cache

from msgspec import Struct

CAPACITY = 170_000
"""Buckets kept at once: at about 170 bytes each, under 32 MiB."""

MAX_KEY_LENGTH = 40
"""Characters of the longest key kept as it is: any address. Longer ones are kept as a digest."""

_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")
_MICROSECONDS = 1_000_000


class Rate(Struct, frozen=True, gc=False):
    """`count` requests in each `period` of seconds; the burst is `count` too."""

    count: int
    period: int

    def __str__(self) -> str:
        """Return the rate as it is written in a setting, such as ``60/minute``."""
        return f"{self.count}/{next(name for name, s in _PERIODS.items() if s == self.period)}"


class Decision(Struct, frozen=True, gc=False):
    """What a limiter says: `remaining` requests could follow at once, all `limit` of them
    after `reset` seconds. A refused caller comes back after `retry_after` whole seconds,
    which is 0 for one that was let in."""

    allowed: bool
    limit: int
    remaining: int
    reset: float
    retry_after: int


def kept_key(key: str) -> str:
    """Return a name or an address as it is kept in memory and in Redis: what is long, or not ASCII,
    as a digest of 32 hex digits. A token's ``sub`` may be of any length. Called where an `Account`
    is made, and by `shared` for the keys in Redis; raises nothing, also for half a surrogate
    pair."""
    if len(key) > MAX_KEY_LENGTH or not key.isascii():
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return key


def parse_rate(text: str) -> Rate:
    """Convert ``60/minute`` into a `Rate`. Called for `RATE_LIMIT` and for each option ``rate=``.
    Raises `ValueError`, with what is allowed, for anything else."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError("a rate is N/second, N/minute, N/hour or N/day, N from 1 to 999999999")
    return Rate(int(match[1]), _PERIODS[match[2]])


def rate_fields(decision: Decision) -> bytes:
    """Return the header fields that OpenAI's clients read a rate limit from, as lines without the
    last line end: all in one go, since every answer has them. Called by `Admission`. Raises
    nothing."""
    return (
        b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
        b"x-ratelimit-reset-requests: %b"
    ) % (decision.limit, decision.remaining, duration(decision.reset).encode())


def duration(seconds: float) -> str:
    """Return a time as OpenAI writes it, rounded up: ``20ms``, ``1s``, ``6m0s``, ``1h0m3s``. For
    the header fields of limits, and for ``/v1/usage``."""
    milliseconds = math.ceil(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    return _written(-(-milliseconds // 1000))


@lru_cache(1024)
def _written(seconds: int) -> str:
    """Return whole seconds as `duration` writes them. Kept in a cache, since the requests of one
    second say the same. Called by `duration`."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minute}m{second}s"
    return f"{minute}m{second}s" if minute else f"{second}s"


class TokenBuckets:
    """Token buckets on the monotonic clock `seconds`, in the memory of one process.

    A bucket is one number, the timestamp at which it will be full again (the generic cell rate
    algorithm, ITU-T I.371). Timestamps are whole units of 1/count microseconds: a request then
    costs a whole number of them, and no rounding ever adds up.

    With 60/minute a request moves that timestamp by a second, and it may not be more than a minute
    away. So a caller that never came has 60 requests at once; then one each second, and after
    ten seconds of silence ten at once. In units of 1/60 microsecond a request costs 60,000,000:
    `_cost` is the period in microseconds, `_full` the count times that, `_second` how many units
    a second has.

    The key of a bucket is that of an account, no longer than `MAX_KEY_LENGTH`, so that long names
    take no more memory.

    The buckets are in two generations, the newer of which takes every bucket that is asked
    for. When it is a period old or half of `capacity`, it becomes the older, and the older is
    forgotten: by age these are full buckets only, and in a flood those unused the longest.
    """

    def __init__(self, rate: Rate, seconds: Callable[[], float], capacity: int = CAPACITY) -> None:
        self._rate = rate
        self._seconds = seconds
        self._half = max(1, capacity // 2)
        self._second = rate.count * _MICROSECONDS
        self._cost = rate.period * _MICROSECONDS
        self._full = rate.count * self._cost
        # Timestamps count from here, since small integers take less memory than large ones.
        self._start = seconds()
        self._newer: dict[str, int] = {}
        self._older: dict[str, int] = {}
        self._born = 0

    def __len__(self) -> int:
        """Return the number of buckets kept; one that is in both generations counts twice."""
        return len(self._newer) + len(self._older)

    @property
    def all_full(self) -> bool:
        """Whether every bucket is full by now, so that they may all be forgotten: the last of the
        newer generation was asked for within a period of its beginning, and has had another one.
        Read by `LocalLimits`, where there is another rate."""
        now, _ = self._look("")
        return now - self._born >= 2 * self._full

    def ask(self, key: str) -> Decision:
        """Take one request from the bucket of `key`, and return what it says: whether the request
        is allowed, and how the bucket stands after it. One that is refused costs nothing. Called by
        `LocalLimits` for each request that is limited; raises nothing."""
        now, used = self._look(key)
        if now - self._born >= self._full or len(self._newer) >= self._half:
            self._older, self._newer, self._born = self._newer, {}, now
        allowed = used + self._cost <= self._full
        if allowed:
            used += self._cost
        # Also where it is unchanged: a caller that is refused must not be forgotten meanwhile.
        self._newer[key] = now + used
        return self._decision(used, allowed)

    def peek(self, key: str) -> Decision:
        """Return whether `ask` would let in now, and how the bucket stands; takes nothing, and
        remembers nobody who has not come yet. Called by `LocalLimits` for a look, and for a request
        that a budget refuses already; raises nothing."""
        _, used = self._look(key)
        return self._decision(used, used + self._cost <= self._full)

    def _look(self, key: str) -> tuple[int, int]:
        """Return now, in the units of the bucket, and how much of the bucket of `key` is used, in
        the same units: nothing where it would be full by now, or was never asked for. A clock that
        went backwards would give nothing back. Called by `ask` and `peek`."""
        now = round((self._seconds() - self._start) * _MICROSECONDS) * self._rate.count
        full_at = self._newer.get(key)
        if full_at is None:
            full_at = self._older.get(key, now)
        return now, full_at - now if full_at > now else 0

    def _decision(self, used: int, allowed: bool) -> Decision:
        """Return a `Decision` in requests and seconds, out of how many units of the bucket are
        `used`. A caller that is not `allowed` is told when the bucket will have room for one more
        request, in whole seconds, rounded up. Called by `ask` and `peek`."""
        retry_after = 0 if allowed else -((self._full - used - self._cost) // self._second)
        remaining = (self._full - used) // self._cost
        return Decision(allowed, self._rate.count, remaining, used / self._second, retry_after)
