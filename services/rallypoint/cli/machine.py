"""Where a bench's figures come from."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from pathlib import Path


def description() -> dict[str, object]:
    """CPU, cores, kernel and Python, for the report."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def idle_s(cpus: Collection[int]) -> float:
    """Seconds that these cores have been idle since the machine started, added up."""
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            ticks += int(fields[3]) + int(fields[4])  # idle, waiting for a disk
    return ticks / os.sysconf("SC_CLK_TCK")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
