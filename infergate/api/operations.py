"""What a backend can be asked to do: the names and the paths.

One table for the gateway's routes, the paths at the backend, and the labels in logs, metrics
and the ledger, so that no two of them can differ.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Operation:
    """One operation. `name` is its name in logs, metrics and settings; `path` is its route here,
    and below the backend's base URL."""

    name: str
    path: str


CHAT = Operation("chat", "/v1/chat/completions")

OPERATIONS = (CHAT,)

MODELS_PATH = "/v1/models"
"""The list of models: no operation, since it costs nothing and is not accounted for."""
