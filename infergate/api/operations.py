"""The table of operations: what a backend can be asked to do.

One table for the gateway's routes, the paths at the backend, and the labels in logs, metrics
and the ledger, so that no two of them can differ.
"""

from __future__ import annotations

from infergate.api.anthropic import MESSAGES
from infergate.api.chat import CHAT
from infergate.api.completions import COMPLETIONS
from infergate.api.embeddings import EMBEDDINGS
from infergate.api.infill import INFILL
from infergate.api.operation import Operation, Route
from infergate.api.rerank import RERANK
from infergate.api.responses import RESPONSES
from infergate.api.tokenize import TOKENIZE

OPERATIONS: tuple[Operation, ...] = (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    RESPONSES,
    MESSAGES,
    RERANK,
    TOKENIZE,
    INFILL,
)

NAMES = tuple(operation.name for operation in OPERATIONS)

ROUTES: dict[str, tuple[Operation, Route]] = {
    route.path: (operation, route) for operation in OPERATIONS for route in operation.routes
}
"""By its path here, each route and its operation."""

MODELS_PATH = "/v1/models"
"""The list of models: no operation, since it costs nothing and is not accounted for."""
