"""What works in memory: no socket, no sleep, no process.

Properties are tried on 5 examples each, the same in every run; `INFERGATE_EXAMPLES` sets another
number, for a search that takes its time, in which vectors are cut at more places too. ``.ci/run``
tries 200.
"""

import gc
import os
import sys

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SEARCH = "INFERGATE_EXAMPLES" in os.environ

_SPECIAL = (
    " !\"$'(),-./09:;=@AZ[\\]_az{}\0\t\n\r\x1f\x7f\x85\xa0é\u0e1f\u2028\ufeff\uffff\U0001f600"
)
LETTERS = st.characters(exclude_categories=("Cs",)) if SEARCH else _SPECIAL
"""What texts are made of: all letters in a search, else those that are special anywhere. Hypothesis
makes its table of all letters in the first run in a folder, which takes a second."""

settings.register_profile(
    "unit",
    max_examples=int(os.environ.get("INFERGATE_EXAMPLES", "5")),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("unit")
providers = sys.modules.get("hypothesis.internal.conjecture.providers")
if providers is not None and not SEARCH:
    # Hypothesis takes some values out of the sources of all modules. That helps a search; here the
    # examples would be others after each change, and to read the sources takes a second. The name
    # is private: where it is another one this does nothing.
    vars(providers)["_get_local_constants"] = lambda: vars(providers)["_local_constants"]
# What is loaded by now stays, and the tests leave little: to look for it less often is enough.
gc.freeze()
gc.set_threshold(50_000, 20, 100)
