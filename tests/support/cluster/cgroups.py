"""Control groups for a node's pods: one folder of ours in every hierarchy.

The only thing of a cluster that the kernel does not take away with its processes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.cluster.network import Unavailable

PREFIX = "rallypoint-"
NEEDED = ("cpu", "memory", "pids")
REMOVE_S = 10.0
SHARES = 4 * 1024
"""The weight of all pods together. By itself a folder weighs as much as one session of this
machine, whatever runs in it: beside a crowd a match had a tenth of a core, no frame for seconds."""


def mine() -> str:
    """Return the name of this process's folders: whose process is gone, they are litter."""
    return f"{PREFIX}{os.getpid()}"


def hierarchies() -> list[Path]:
    """Return where all hierarchies are mounted, the unified one too."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(where) for _, where, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


def refuse_missing() -> None:
    """Unavailable when pods could not be limited here."""
    places = hierarchies()
    controllers = {place.name for place in places if place.is_dir()}
    controllers |= {word for name in controllers for word in name.split(",")}
    missing = [name for name in NEEDED if name not in controllers]
    if missing:
        raise Unavailable(f"no cgroup v1 hierarchy of {', '.join(missing)}")
    if not all(os.access(place, os.W_OK) for place in places):
        raise Unavailable("no right to make control groups")


def make(name: str) -> None:
    """Make a folder in every hierarchy; a set of CPUs must be filled in at each level."""
    for place in hierarchies():
        folder = place
        for part in Path(name).parts:
            above, folder = folder, folder / part
            folder.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                with contextlib.suppress(OSError):
                    if not (folder / setting).read_text().strip():
                        (folder / setting).write_text((above / setting).read_text())
        shares = place / Path(name).parts[0] / "cpu.shares"
        if shares.exists():
            shares.write_text(str(SHARES))


def remove(name: str) -> None:
    """Remove a folder and what is in it from every hierarchy, as soon as its processes are gone."""
    give_up = time.monotonic() + REMOVE_S
    for place in hierarchies():
        while not _removed(place / name) and time.monotonic() < give_up:
            time.sleep(0.05)


def sweep() -> None:
    """Remove what clusters left whose process is gone."""
    for name in {folder.name for folder in _ours()}:
        if not Path(f"/proc/{name.removeprefix(PREFIX)}").exists():
            remove(name)


def _ours() -> Iterator[Path]:
    for place in hierarchies():
        yield from place.glob(f"{PREFIX}[0-9]*")


def _removed(folder: Path) -> bool:
    for here, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(here).rmdir()
    return not folder.exists()
