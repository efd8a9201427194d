"""Read pods and containers off the paths of cgroups, as kubelet and the runtimes name them.

…/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope
kubepods/burstable/pod<uid>/<id>
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_POD: Final = re.compile(
    r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})(?:\.slice)?$"
)
_CONTAINER: Final = re.compile(r"(?:^|-)([0-9a-f]{12,64})(?:\.scope)?$")
PODS_ROOTS: Final = frozenset(("kubepods", "kubepods.slice"))


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose sockets they are. Outside of pods only `path` is set; of the unknown nothing is."""

    path: str = ""
    pod_uid: str = ""
    container_id: str = ""

    @property
    def name(self) -> str:
        """A short name for people."""
        if self.pod_uid:
            return f"pod {self.pod_uid[:8]}"
        return self.path or "unknown"


UNKNOWN: Final = Owner()


def owner(path: str) -> Owner:
    """The owner of a cgroup whose path below the root is `path`."""
    pod = container = ""
    for part in path.split("/"):
        if found := _POD.search(part):
            pod = found[1].replace("_", "-")
        elif pod and (found := _CONTAINER.search(part)):
            container = found[1]
    return Owner(path or "/", pod, container)


def pods_root(roots: Sequence[str], own: str) -> str:
    """Which folder of pods is our kubelet's, by the path of a process's own cgroup.

    A machine may have several: nodes made of containers share one hierarchy. It is the innermost
    that we are in ourselves; else the first, which holds those that are in it.
    """
    around = [root for root in roots if own.startswith(f"{root}/")]
    return max(around, key=len) if around else next(iter(roots), "")
