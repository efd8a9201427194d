"""Where a bench's figures come from."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def description() -> dict[str, object]:
    """CPU, cores, kernel and Python, for the report."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
