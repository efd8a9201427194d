"""Files and functions stay small enough to be read at one sitting (design/style.md)."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("services", "tests", "protos", "helm", "images", "loadtest", "clients")
BRACED = (".c", ".go", ".h", ".mjs", ".ts")
READ = (".py", ".css", ".html", ".lua", *BRACED)
OPENS = re.compile(r"\s*(?:\{|(?!.*\b(?:class|interface)\b)\S.*[)>].*\{)$")
"""The line that opens a function's body, or a block in one, which is shorter anyway."""
CLOSES = re.compile(r"\s*\}")
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


def block_lengths(path: Path) -> Iterator[tuple[int, int]]:
    """Count lines from a block's opening brace to the one that is indented no deeper."""
    open_at: list[tuple[int, int]] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        indent = len(line) - len(line.lstrip())
        if CLOSES.match(line):
            while open_at and open_at[-1][1] >= indent:
                began, _ = open_at.pop()
                yield began, number - began + 1
        if OPENS.match(line):
            open_at.append((number, indent))


def body_lengths(path: Path) -> Iterator[int]:
    """Count lines without the docstring, as style.md's table does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) else None
            spent = (docstring.end_lineno - docstring.lineno + 1) if docstring else 0  # type: ignore[operator]
            yield (node.end_lineno or node.lineno) - node.lineno + 1 - spent


def test_no_file_is_over_500_lines() -> None:
    paths = sources(*CODE, suffixes=READ)
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


def test_no_function_in_braces_is_over_60_lines() -> None:
    lengths = [
        (f"{path.relative_to(ROOT)}:{line}", lines)
        for path in sources(*CODE, suffixes=BRACED)
        for line, lines in block_lengths(path)
    ]
    assert len(lengths) > 1000, "blocks are found at all"
    assert [found for found in lengths if found[1] > MOST_FUNCTION_LINES] == []


def test_the_median_function_is_short() -> None:
    lengths = [n for path in sources("services") for n in body_lengths(path)]
    assert statistics.median(lengths) <= MOST_MEDIAN_LINES
