"""What another program was to take away from a value, or to fill in, and has not: the quotes of a
shell (``"secret"``), and ``${NAME}`` in place of the variable's value."""

from __future__ import annotations

import re

# `"secret"`, and `alice:"secret"` among others: a shell would have taken these quotes away, but
# Docker's --env-file keeps them.
_QUOTED = re.compile(r"""(?:\A|[,:])\s*(["'])[^"']*\1\s*(?:\Z|,)|\A(["']).*\2\Z""", re.DOTALL)

# `${NAME}` and `${NAME:-default}`: nothing here expands them.
_UNEXPANDED = re.compile(r"\$\{\w+[^}]*\}", re.ASCII)


def check_meant(text: str) -> None:
    """Check that nothing was left in `text` that another program should have replaced. Called for
    each setting where it is read, and for each plain key of `API_KEYS_FILE`. Raises `ValueError`,
    which shows nothing of `text`: a key that is still called ``${KEY}`` can be guessed by
    everybody."""
    if _QUOTED.search(text.strip()):
        raise ValueError("still has its quotes, which nobody takes off here")
    if _UNEXPANDED.search(text):
        raise ValueError("holds a ${NAME} that nobody has filled in")
