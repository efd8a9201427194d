"""Metrics, subjects and Redis keys are each declared in one module (architecture §5)."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SERVICES = Path(__file__).resolve().parents[2] / "services" / "rallypoint"
METRIC = re.compile(r"rallypoint_[a-z0-9_]+\Z")
SUBJECT = re.compile(
    r"(ticket|match|room|result|replay|heartbeat|own|snap|code|info|queue|dead)\.[{<]\S*\Z"
)
REDIS_KEY = re.compile(r"(mm|fleet):\{")


def modules() -> Iterator[Path]:
    for path in sorted(SERVICES.rglob("*.py")):
        if path.relative_to(SERVICES).parts[0] not in ("v1", "internal"):
            yield path


def docstrings(tree: ast.AST) -> set[int]:
    """Return the ids of docstring nodes: prose may name what it likes."""
    return {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}


def strings(path: Path) -> Iterator[str]:
    """Yield the module's string literals; f-strings with `{}` where a value goes."""
    tree = ast.parse(path.read_text())
    prose = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "{" for p in node.values)
            yield "".join(str(p) for p in parts)


def modules_with(pattern: re.Pattern[str]) -> set[str]:
    found = (p for p in modules() if any(pattern.match(s) for s in strings(p)))
    return {p.relative_to(SERVICES).as_posix() for p in found}


def test_every_metric_is_declared_once_in_kit_metrics() -> None:
    assert modules_with(METRIC) <= {"kit/metrics.py"}
    names = Counter(s for s in strings(SERVICES / "kit" / "metrics.py") if METRIC.match(s))
    assert names
    assert [name for name, n in names.items() if n > 1] == []


def test_every_subject_is_declared_in_kit_subjects() -> None:
    assert modules_with(SUBJECT) == {"kit/subjects.py"}


def test_every_redis_key_is_declared_in_kit_keys() -> None:
    assert modules_with(REDIS_KEY) == {"kit/keys.py"}
