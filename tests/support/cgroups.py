"""Cgroups as kubelet and containerd make them with systemd, in a part of the tree of our own."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path


def unified_root() -> Path | None:
    """Where the unified cgroup hierarchy is mounted."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, target, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(target)
    return None


@contextlib.contextmanager
def pods_folder(root: Path) -> Iterator[Path]:
    """`kubepods.slice/kubepods-burstable.slice` two below a folder that goes afterwards."""
    top = root / f"probe-test-{uuid.uuid4().hex[:8]}"
    below = top / "kubepods.slice" / "kubepods-burstable.slice"
    below.mkdir(parents=True)
    try:
        yield below
    finally:
        for folder in (below, below.parent, top):
            folder.rmdir()


@contextlib.contextmanager
def container(parent: Path, pod: str, identity: str) -> Iterator[Path]:
    """The cgroup of a container; gone afterwards."""
    folder = parent / f"kubepods-burstable-pod{pod.replace('-', '_')}.slice"
    inner = folder / f"cri-containerd-{identity}.scope"
    inner.mkdir(parents=True)
    try:
        yield inner
    finally:
        inner.rmdir()
        if not [entry for entry in folder.iterdir() if entry.is_dir()]:
            folder.rmdir()
