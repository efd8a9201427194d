"""`rallypoint crd generate`: write the CustomResourceDefinitions of the chart from their types."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

CHART = Path("helm/rallypoint/crds")


def run(arguments: list[str]) -> int:
    """Write, print or compare the files; 1 when a comparison finds a difference."""
    from rallypoint.fleet import resources

    parsed = _parser().parse_args(arguments)
    files = resources.files()
    if parsed.stdout:
        sys.stdout.write("---\n".join(files.values()))
        return 0
    if parsed.check:
        return _check(parsed.directory, dict(files))
    parsed.directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (parsed.directory / name).write_text(text)
        print(f"wrote {parsed.directory / name}")
    return 0


def _check(directory: Path, files: dict[str, str]) -> int:
    different = [
        name
        for name, text in files.items()
        if not (directory / name).exists() or (directory / name).read_text() != text
    ]
    for name in different:
        print(f"{directory / name} differs from its type: rallypoint crd generate", file=sys.stderr)
    return 1 if different else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rallypoint crd", description=__doc__)
    parser.add_argument("action", choices=["generate"], help="make them from the types")
    parser.add_argument("--directory", type=Path, default=CHART, help=f"default {CHART}")
    parser.add_argument("--stdout", action="store_true", help="print them, for kubectl apply -f -")
    parser.add_argument("--check", action="store_true", help="write nothing, tell differences")
    return parser
