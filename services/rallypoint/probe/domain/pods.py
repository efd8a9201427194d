"""The pods of this node by uid: what they are called, and which game server one is.

A pod that is gone keeps its name while its series is still told, a bounded number of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rallypoint.probe.domain.cgroups import Owner

REMEMBERED: Final = 1024
CONTAINERS_OF_POD: Final = 32


class Server(NamedTuple):
    """The GameServer that a pod belongs to."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Pod:
    """What the API server says of one."""

    uid: str
    namespace: str
    name: str
    service: str = ""
    containers: Mapping[str, str] = field(default_factory=dict)
    """Their names by id."""
    server: Server | None = None


class Named(NamedTuple):
    """What the owner of a series is called; empty while nobody said."""

    namespace: str = ""
    pod: str = ""
    container: str = ""
    service: str = ""

    @property
    def title(self) -> str:
        """For people."""
        return "/".join(part for part in (self.namespace, self.pod, self.container) if part)


NAMELESS: Final = Named()
Names = Callable[[Owner], Named]


def nobody(_: Owner) -> Named:
    """The names where there is no cluster to ask."""
    return NAMELESS


class Directory:
    """Pods as they come and go. One thread writes, another may read."""

    def __init__(self) -> None:
        self._alive: dict[str, Pod] = {}
        self._gone: OrderedDict[str, Pod] = OrderedDict()

    def __len__(self) -> int:
        return len(self._alive)

    def put(self, pod: Pod) -> None:
        """A pod is there or has changed; the ids of containers that ended stay known."""
        known = self._alive.get(pod.uid)
        ended = dict(list(known.containers.items())[-CONTAINERS_OF_POD:]) if known else {}
        containers = {**ended, **pod.containers}
        self._alive[pod.uid] = Pod(
            pod.uid, pod.namespace, pod.name, pod.service, containers, pod.server
        )

    def remove(self, uid: str) -> Pod | None:
        """A pod is no more; what it was."""
        if (pod := self._alive.pop(uid, None)) is not None:
            self._gone[uid] = pod
        while len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)
        return pod

    def alive(self, uid: str) -> Pod | None:
        """The pod, while it is there."""
        return self._alive.get(uid)

    def of(self, owner: Owner) -> Named:
        """What an owner is called."""
        if not owner.pod_uid:
            return NAMELESS
        pod = self._alive.get(owner.pod_uid) or self._gone.get(owner.pod_uid)
        if pod is None:
            return NAMELESS
        container = pod.containers.get(owner.container_id, "")
        return Named(pod.namespace, pod.name, container, pod.service)
