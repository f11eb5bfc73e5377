"""What another program was to take away from a value, or to fill in, and has not."""

from __future__ import annotations

import re

# `"secret"`, and `alice:"secret"` among others: a shell would have taken these quotes away, but
# Docker's --env-file keeps them.
_QUOTED = re.compile(r"""(?:\A|[,:])\s*(["'])[^"']*\1\s*(?:\Z|,)|\A(["']).*\2\Z""", re.DOTALL)

# `${NAME}` and `${NAME:-default}`: nothing here expands them.
_UNEXPANDED = re.compile(r"\$\{\w+[^}]*\}", re.ASCII)


def check_meant(text: str) -> None:
    """Raise `ValueError`, which shows nothing of `text`, where it is not what was meant: a key
    that is still called ``${KEY}`` can be guessed by everybody."""
    if _QUOTED.search(text.strip()):
        raise ValueError("still has its quotes, which nobody takes off here")
    if _UNEXPANDED.search(text):
        raise ValueError("holds a ${NAME} that nobody has filled in")
