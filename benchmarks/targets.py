"""What is compared: how each is installed and started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.processes import Unavailable, scratch
from benchmarks.question import EVERY_LIMIT, KEY

ROOT = Path(__file__).resolve().parent.parent
BASELINES = Path(__file__).resolve().parent / "baselines"

INSTALL_SECONDS = 300


@dataclass(frozen=True)
class Launch:
    """What a target is started with."""

    python: str
    unpacked: Path
    port: int
    backend: int
    directory: Path
    root: Path
    """Where the gateway's code is."""

    def filled(self, name: str) -> Path:
        """A file of ``baselines/`` with the ports written in."""
        text = (BASELINES / name).read_text()
        path = self.directory / name
        path.write_text(text.replace("PORT", str(self.port)).replace("BACKEND", str(self.backend)))
        return path


@dataclass(frozen=True)
class Target:
    """Something that answers chat requests; its `packages` of Python, or the one of Debian's, go
    into an environment of its own.

    `slow`: not worth its time where only the close ones are compared.
    """

    name: str
    title: str
    command: Callable[[Launch], list[str]]
    packages: tuple[str, ...] = ()
    debian: str = ""
    environment: Callable[[Launch], dict[str, str]] = lambda launch: {}
    slow: bool = False


def _gateway(launch: Launch) -> list[str]:
    log = f"--logfile={launch.directory / 'requests.log'}"
    command = [launch.python, "-c", "from infergate.commands.console import main; main()"]
    return [*command, log, f"--port={launch.port}"]


def _requirements() -> tuple[str, ...]:
    """What is installed with the gateway and its extra ``redis``. The environment that runs the
    benchmark has much else, and Twisted imports some of that, such as `h2`, where it finds it."""
    lines = (line.partition(";") for line in metadata.requires("infergate-gateway") or ())
    return tuple(name for name, _, marker in lines if not marker or "redis" in marker)


def _everything_on(launch: Launch) -> dict[str, str]:
    """Every feature that costs something for each request: a key with every limit, the ledger, the
    log, the metrics."""
    keys = launch.directory / "keys"
    keys.write_text(f"bench:{KEY} {EVERY_LIMIT}\n")
    return {
        "PYTHONPATH": str(launch.root),
        "BACKEND_URL": f"http://127.0.0.1:{launch.backend}",
        "API_KEYS_FILE": str(keys),
        "DEFAULT_MODEL": "bench",
        "MAX_CONCURRENT_REQUESTS": "100000",
        "USAGE_DB": str(launch.directory / "usage.db"),
        "MAX_CONNECTIONS": "100000",
        "MAX_REQUESTS_PER_CONNECTION": "1000000000",
    }


def _nginx(launch: Launch) -> list[str]:
    program = launch.unpacked / "usr" / "sbin" / "nginx"
    if not program.exists():
        raise Unavailable("there is no program in its package")
    return [str(program), "-p", str(launch.directory), "-c", str(launch.filled("nginx.conf"))]


def _by_hand(name: str) -> Callable[[Launch], list[str]]:
    return lambda launch: [
        launch.python,
        str(BASELINES / name),
        str(launch.port),
        f"http://127.0.0.1:{launch.backend}",
    ]


def _litellm(launch: Launch) -> list[str]:
    config = str(launch.filled("litellm.yaml"))
    program = str(Path(launch.python).with_name("litellm"))
    return [program, "--config", config, "--host", "127.0.0.1", "--port", str(launch.port)]


TARGETS = {
    target.name: target
    for target in (
        Target("infergate", "infergate", _gateway, _requirements(), environment=_everything_on),
        Target("nginx", "nginx", _nginx, debian="nginx"),
        Target(
            "aiohttp",
            "aiohttp by hand",
            _by_hand("aiohttp_gateway.py"),
            ("aiohttp>=3.11", "uvloop>=0.21"),
        ),
        Target(
            "fastapi",
            "FastAPI + httpx",
            _by_hand("fastapi_gateway.py"),
            ("fastapi>=0.115", "httpx>=0.28", "uvicorn>=0.34", "uvloop>=0.21", "httptools>=0.6"),
            slow=True,
        ),
        Target(
            "litellm",
            "LiteLLM proxy",
            _litellm,
            ("litellm[proxy]>=1.60",),
            # It does not start without a key, and would fetch prices from the network.
            environment=lambda launch: {
                "LITELLM_MASTER_KEY": KEY,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
            slow=True,
        ),
    )
}


@dataclass(frozen=True)
class Environments:
    """What the targets need, in a cache, each made once."""

    cache: Path

    def python(self, name: str, packages: Sequence[str]) -> str:
        """The interpreter of the environment with these packages; `Unavailable` if they cannot
        be installed."""
        if not packages:
            return sys.executable
        place = self.cache / name
        python = str(place / "bin" / "python")
        done = place / "installed"
        wanted = " ".join(packages)
        if not done.exists() or done.read_text() != wanted:
            print(f"installing {wanted}", file=sys.stderr, flush=True)
            _run([sys.executable, "-m", "venv", "--clear", str(place)])
            _run([python, "-m", "pip", "install", "--quiet", *packages])
            done.write_text(wanted)
        return python

    def unpacked(self, package: str) -> Path:
        """The files of a package of Debian's; its libraries are those that any Debian has."""
        place = self.cache / package
        if package and not place.exists():
            print(f"unpacking {package}", file=sys.stderr, flush=True)
            with scratch() as directory:
                fetch = ["apt-get", "download", "--quiet", package]
                try:
                    _run(fetch, directory)
                except Unavailable:  # for want of a list of packages, perhaps
                    _run(["apt-get", "update", "--quiet"])
                    _run(fetch, directory)
                (file,) = Path(directory).glob("*.deb")
                half = f"{place}.half"
                _run(["dpkg-deb", "--extract", str(file), half])
                Path(half).rename(place)
        return place

    def packages(self) -> dict[str, list[str]]:
        """Name and version of all that is in each."""
        return {
            place.parent.parent.name: _run(
                [str(place), "-m", "pip", "list", "--format=freeze"]
            ).split()
            for place in sorted(self.cache.glob("*/bin/python"))
        }


def _run(command: list[str], directory: str | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
            cwd=directory,
        )
    except FileNotFoundError:
        raise Unavailable(f"could not be installed: there is no {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"could not be installed in {INSTALL_SECONDS} s") from None
    if done.returncode:
        raise Unavailable(f"could not be installed: {done.stderr.strip()[-300:]}")
    return done.stdout
