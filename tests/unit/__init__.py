"""What works in memory: no socket, no sleep, no process.

Properties are tried on 30 examples each, the same in every run; `INFERGATE_EXAMPLES` sets another
number, for a search that takes its time.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "unit",
    max_examples=int(os.environ.get("INFERGATE_EXAMPLES", "30")),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("unit")
