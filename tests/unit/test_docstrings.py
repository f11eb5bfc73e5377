"""What the package's docstring promises of all others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from twisted.trial.unittest import SynchronousTestCase

import infergate

PACKAGE = Path(infergate.__file__).parent

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"

PRIVATE = re.compile(r"^ *from infergate\S* import [^)\n]*(?:\([^)]*)?\b_[a-zA-Z]\w*", re.MULTILINE)

SAYS_SO = re.compile(r"[Rr]ais|[Ee]rror|[Ff]ail|[Rr]efuse")


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """The statements right below another, or below a clause of one: no expression holds any."""
    for name in ("body", "orelse", "handlers", "finalbody", "cases"):
        yield from getattr(node, name, ())


def functions(node: ast.AST, around: str = "") -> Iterator[tuple[Function, str]]:
    """Every function of a module, with its docstring and those of the functions around it."""
    for child in statements(node):
        said = around
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            said += ast.get_docstring(child) or ""
            yield child, said
        yield from functions(child, said)


def raises(node: ast.AST) -> bool:
    """Whether it raises something of its own, nested functions aside; one that passes on what it
    caught does not."""
    return any(
        (isinstance(child, ast.Raise) and child.exc is not None)
        or (not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and raises(child))
        for child in statements(node)
    )


class Docstrings(SynchronousTestCase):
    def test_function_that_raises_says_so(self) -> None:
        """Where a docstring names no error, none is raised."""
        silent = [
            f"{path.relative_to(PACKAGE)}:{function.lineno} {function.name}"
            for path in sorted(PACKAGE.rglob("*.py"))
            if "raise " in (source := path.read_text())
            for function, said in functions(ast.parse(source))
            if raises(function) and not SAYS_SO.search(said)
        ]
        self.assertEqual(silent, [])

    def test_private_names_are_their_modules_own(self) -> None:
        """No module takes a name with an underscore out of another."""
        taken = [
            f"{path.relative_to(PACKAGE)}: {found}"
            for path in sorted(PACKAGE.rglob("*.py"))
            for found in PRIVATE.findall(path.read_text())
        ]
        self.assertEqual(taken, [])
