"""Byte code in the place of sources: half the bytes, and nothing to compile at a start.

Run with PYTHONNODEBUGRANGES=1: it leaves out the columns that a traceback underlines, in a source
that is not there. Docstrings stay: `email` and others read theirs.
"""

from __future__ import annotations

import compileall
import py_compile
import sys
from pathlib import Path


def only(folder: Path, shown: str) -> None:
    """Leave byte code alone of a tree whose files will lie in `shown`."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    done = compileall.compile_dir(
        folder, quiet=1, force=True, legacy=True, stripdir=str(folder), prependdir=shown,
        invalidation_mode=mode,
    )  # fmt: skip
    if not done:
        sys.exit(f"{folder} does not compile")
    for source in folder.rglob("*.py"):
        source.unlink()
