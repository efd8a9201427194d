"""Find whose cgroup an id is: the id is the inode of its directory.

The tree is walked at the start and again when an id is not in it, but at most for a twentieth of
the time. What was seen once is remembered after it is gone, so that a pod that lived for a second
keeps its name; an id that never was seen stays unknown.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rallypoint.probe.domain import cgroups

HOST_ROOT: Final = Path("/host/cgroup")
REWALK_S: Final = 0.1
REST: Final = 20
"""After a walk, as many times its duration nobody walks again."""
REMEMBERED: Final = 4096
_MOST_DEPTH: Final = 12
_UNIFIED: Final = "0::/"


def find_root(wanted: Path | None = None) -> Path | None:
    """Where the unified hierarchy is: what is wanted, the host's in a pod, or what is mounted."""
    for option in (wanted, HOST_ROOT):
        if option is not None and option.is_dir():
            return _unified(option)
    for line in Path("/proc/mounts").read_text().splitlines():
        _, target, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(target)
    return None


def _unified(root: Path) -> Path:
    """On a machine with both hierarchies the unified one is a folder in the other."""
    hybrid = root / "unified"
    return hybrid if (hybrid / "cgroup.controllers").exists() else root


def own_path() -> str:
    """This process's cgroup, below the root of the unified hierarchy as its namespace has it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith(_UNIFIED):
            return line.removeprefix(_UNIFIED)
    return ""


class Owners:
    """The cgroups of this machine by id; `own` is the path of ours."""

    def __init__(
        self,
        root: Path | None,
        clock: Callable[[], float] = time.monotonic,
        *,
        own: str | None = None,
    ) -> None:
        self._root = root
        self._own = own_path() if own is None else own
        self._pods: dict[str, tuple[int, Path]] = {}
        self._clock = clock
        self._next_walk = float("-inf")
        self._alive: dict[int, cgroups.Owner] = {}
        self._seen: OrderedDict[int, cgroups.Owner] = OrderedDict()
        self.pods_root = 0
        self.pods_folder: Path | None = None
        self.walks = 0

    @property
    def root(self) -> Path | None:
        """The folder of the whole tree."""
        return self._root

    def find(self, cgroup: int) -> cgroups.Owner:
        """Whose it is, or was."""
        if cgroup not in self._alive:
            self.refresh()
        return self._alive.get(cgroup) or self._seen.get(cgroup, cgroups.UNKNOWN)

    def exists(self, cgroup: int) -> bool:
        """Tell whether the cgroup was there at the last walk, as far as that can be known."""
        return self._root is None or cgroup == 0 or cgroup in self._alive

    def refresh(self, *, now: bool = False) -> None:
        """Walk the tree, unless we did just before; `now`: even then."""
        begun = self._clock()
        if self._root is None or (not now and begun < self._next_walk):
            return
        self.walks += 1
        self._pods.clear()
        self._alive = dict(self._walk(self._root, "", 0))
        if self._pods:
            chosen = cgroups.pods_root(list(self._pods), self._own)
            self.pods_root, self.pods_folder = self._pods[chosen]
        self._next_walk = begun + max(REWALK_S, REST * (self._clock() - begun))
        for cgroup, found in self._alive.items():
            self._seen[cgroup] = found
            self._seen.move_to_end(cgroup)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _walk(self, folder: Path, path: str, depth: int) -> Iterator[tuple[int, cgroups.Owner]]:
        try:
            yield folder.stat().st_ino, cgroups.owner(path)
            if folder.name in cgroups.PODS_ROOTS:
                self._pods[path] = folder.stat().st_ino, folder
            with os.scandir(folder) as entries:
                below = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:  # gone while we looked
            return
        for name in below if depth < _MOST_DEPTH else ():
            yield from self._walk(folder / name, f"{path}/{name}".lstrip("/"), depth + 1)
