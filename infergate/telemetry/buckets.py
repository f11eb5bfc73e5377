"""The upper ends of the histograms' buckets: in seconds, and in tokens."""

from __future__ import annotations

REQUEST_SECONDS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75,
    1, 2.5, 5, 7.5, 10, 30, 60, 120, 300, 600, 1200,
)  # fmt: skip
"""Of a whole request: those of OpenTelemetry's HTTP conventions, and on to the default of
REQUEST_TIMEOUT and over, since a model may answer that long."""

OPERATION_SECONDS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    163.84, 327.68, 655.36,
)  # fmt: skip
"""Of an operation: those of the GenAI conventions, and on by the same factor."""

FIRST_TOKEN_SECONDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
    30, 60, 120, 300, 600,
)  # fmt: skip
"""To the first token: those of the GenAI conventions, and on, since a long prompt may be read for
minutes."""

TOKEN_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5,
    5, 10,
)  # fmt: skip
"""Of one token: those of the GenAI conventions, and on, since a small machine is slow."""

TOKENS = tuple(4**power for power in range(14))
"""Of a request: those of the GenAI conventions."""

OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1, 10)
"""Of the gateway's own part of an exchange."""

LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Of a timer that is late."""
