"""Broken requests, made at random out of the vectors, that must break nothing else.

    python -m tests.fuzz_framing --seed 1 --rounds 200000

Each round alters some vectors, half of the time behind the same ones unaltered, as a client
repeats itself. It reads the result whole, in pieces, and with a parser that remembers no head: the
readings must be one, and nothing but a `GatewayError` may ever be raised. A round depends on the
seed and its own number alone, so the one that is named in a failure can be run again by itself
(`--first`).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.unit.server.parser_vectors import VECTORS, Forgetful, read

SEEDS = [vector.raw for vector in VECTORS]

_TELLING = [
    *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b"\x0b", b"\x7f", b"\x80", b"\xff"),
    *(b":", b",", b";", b'"', b"\\", b"=", b"_", b"-", b"+", b"#", b"/", b"%", b"0", b"1", b"f"),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: a\r\n", b"0\r\n\r\n"),
    *(b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"GET / HTTP/1.1\r\n", b"chunked"),
]


def mutate(rng: random.Random, raws: Sequence[bytes]) -> bytes:
    """One of `raws`, altered in one to four places, perhaps behind itself unaltered."""
    raw = rng.choice(raws)
    before = raw * rng.choice((0, 0, 1, 2))
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(raw))
        end = min(len(raw), at + rng.choice((1, 1, 2, 4, 16)))
        match rng.randrange(5):
            case 0 if at < len(raw):  # flip a bit
                raw = b"%b%c%b" % (raw[:at], raw[at] ^ 1 << rng.randrange(8), raw[at + 1 :])
            case 1:  # insert
                raw = raw[:at] + rng.choice(_TELLING) + raw[at:]
            case 2:  # delete
                raw = raw[:at] + raw[end:]
            case 3:  # splice
                other = rng.choice(raws)
                raw = raw[:at] + other[rng.randint(0, len(other)) :]
            case _:  # double a line
                lines = raw.splitlines(keepends=True) or [b""]
                number = rng.randrange(len(lines))
                lines.insert(rng.randint(0, len(lines)), lines[number])
                raw = b"".join(lines)
    return before + raw


def cut(rng: random.Random, raw: bytes) -> list[bytes]:
    """`raw` in pieces: a few at random places, or one for each byte."""
    if rng.random() < 0.1:
        places = list(range(1, len(raw)))
    else:
        places = sorted(rng.randint(0, len(raw)) for _ in range(rng.randint(1, 6)))
    return [raw[start:end] for start, end in zip([0, *places], [*places, None], strict=True)]


def attempt(seed: int, number: int) -> int | None:
    """Run one round; the status of its refusal."""
    rng = random.Random(f"{seed}/{number}")
    raw = mutate(rng, SEEDS)
    pieces = cut(rng, raw)
    try:
        whole = read([raw])
        assert read(pieces) == whole, "the pieces change the outcome"
        assert read(pieces, kind=Forgetful) == whole, "a kept head changes the outcome"
    except Exception as error:
        raise AssertionError(f"seed {seed}, round {number}, {pieces!r}: {error!r}") from error
    return whole.status


def run(seed: int, rounds: int, first: int = 0) -> Counter[int | None]:
    """Run `rounds` rounds; how often each status came out, None being no refusal."""
    return Counter(attempt(seed, number) for number in range(first, first + rounds))


def options(about: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first round")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    given = options("Fuzz infergate's framing.", arguments)
    began = time.perf_counter()
    outcomes = run(given.seed, given.rounds, given.first)
    seconds = time.perf_counter() - began
    counts = ", ".join(f"{status or 'good'}: {n}" for status, n in outcomes.most_common())
    sys.stdout.write(f"{given.rounds} rounds in {seconds:.1f} s; {counts}\n")


if __name__ == "__main__":
    main()
