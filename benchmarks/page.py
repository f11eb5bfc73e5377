"""The figures in ``docs/``, each table between its own markers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks import scaling
from benchmarks.plots import bars, lines
from benchmarks.report import (
    dialects_table,
    figures_table,
    goals_table,
    growth_table,
    scaling_table,
    waits_table,
)

_WORTH_NAMING = re.compile(
    r"(twisted|klein|treq|msgspec|aiohttp|uvloop|fastapi|httpx|uvicorn|litellm)=", re.IGNORECASE
)


def write_docs(folder: Path, result: dict[str, Any]) -> None:
    """Put every table that was measured in its place; the others stay as they are."""
    about = _measured_with(result)
    of_each = {name: f"{about}\n\n{table}" for name, table in _tables(result).items()}
    _write(folder / "performance.md", of_each)
    if "scaling" in result:
        _write(folder / "scaling.md", {"machine": about, **scaling.tables(result["scaling"])})
    if "medians" in result:
        figures = result["medians"]
        (folder / "performance-cpu.svg").write_text(bars(figures), "utf-8")
        (folder / "performance-scaling.svg").write_text(lines(figures), "utf-8")


def _write(page: Path, tables: dict[str, str]) -> None:
    text = page.read_text("utf-8") if page.exists() else f"# {page.stem.capitalize()}\n"
    for name, table in tables.items():
        text = _put(text, name, table)
    page.write_text(text, "utf-8")


def _tables(result: dict[str, Any]) -> dict[str, str]:
    tables = {}
    if "medians" in result:
        figures = result["medians"]
        parts = [figures_table(figures)]
        if "infergate" in figures:
            parts = [goals_table(figures), *parts, scaling_table(figures["infergate"])]
        rounds = f"Medians of interleaved rounds, {len(result['rounds'])} in all."
        plots = "![CPU seconds](performance-cpu.svg)\n![Scaling](performance-scaling.svg)"
        tables["benchmarks"] = "\n\n".join((rounds, *parts, plots))
    if "dialects" in result:
        tables["dialects"] = dialects_table(result["dialects"])
    if "waits" in result:
        tables["waits"] = waits_table(result["waits"])
    if "growth" in result:
        tables["growth"] = growth_table(result["growth"])
    return tables


def _measured_with(result: dict[str, Any]) -> str:
    about = result["machine"]
    packages = {name for of_one in result["packages"].values() for name in of_one}
    versions = ", ".join(sorted(filter(_WORTH_NAMING.match, packages), key=str.lower))
    return (
        f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, "
        f"{about['interpreter'].partition(';')[0]}, {about['date']}; "
        f"{versions.replace('==', ' ')}."
    )


def _put(page: str, name: str, text: str) -> str:
    """`text` between the markers of `name`, which are added at the end where there are none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.partition(begin)
    after = rest.partition(end)[2] or "\n"
    return f"{before}{begin}\n{text}\n{end}{after}"
