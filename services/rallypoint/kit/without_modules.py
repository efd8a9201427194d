"""Import a library without its optional heavy parts: they look as if not installed meanwhile."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def absent(*names: str) -> Iterator[None]:
    """Let `import` of these modules fail inside, unless they are loaded already."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # what makes `import` fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
