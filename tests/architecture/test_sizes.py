"""Files and functions stay small enough to be read at one sitting (design/style.md)."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("services", "tests", "protos", "helm", "images", "loadtest")
GENERATED = ("services/rallypoint/v1/", "services/rallypoint/internal/")
MOST_FILE_LINES = 500
MOST_FUNCTION_LINES = 60
MOST_MEDIAN_LINES = 8


def sources(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            skipped = name.startswith(GENERATED) or "node_modules" in name or "/gen/" in name
            if path.suffix in suffixes and not skipped and "/dist/" not in name:
                yield path


def function_lengths(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def body_lengths(path: Path) -> Iterator[int]:
    """Count lines without the docstring, as style.md's table does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) else None
            spent = (docstring.end_lineno - docstring.lineno + 1) if docstring else 0  # type: ignore[operator]
            yield (node.end_lineno or node.lineno) - node.lineno + 1 - spent


def test_no_file_is_over_500_lines() -> None:
    paths = sources(*CODE, "clients", suffixes=(".py", ".ts", ".css"))
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in paths}
    assert {name: n for name, n in lengths.items() if n > MOST_FILE_LINES} == {}


def test_no_function_is_over_60_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{name} {lines}"
        for path in sources(*CODE)
        for name, lines in function_lengths(path)
        if lines > MOST_FUNCTION_LINES
    ]
    assert long == []


def test_the_median_function_is_short() -> None:
    lengths = [n for path in sources("services") for n in body_lengths(path)]
    assert statistics.median(lengths) <= MOST_MEDIAN_LINES
