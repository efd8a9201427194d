"""Talk to the Kubernetes API: what the pods of this node are called, how their network is.

In a thread with a loop of its own, started after every capability is gone: it has none either. Only
who has a cluster pays for it (24 MB). What goes wrong here is told and tried again; figures go on
under ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from rallypoint.kube.api import Api, Scope
from rallypoint.kube.config import ClusterConfig
from rallypoint.kube.domain.store import Change
from rallypoint.kube.informer import Informer
from rallypoint.kube.kinds import Kind
from rallypoint.kube.objects import Object, Resource
from rallypoint.kube.transport import Transport
from rallypoint.probe.conditions import GROUP, MANAGER, Conditions
from rallypoint.probe.domain import health, metrics, own, pods

logger = logging.getLogger(__name__)

SERVICE_LABEL: Final = "app.kubernetes.io/name"
AGAIN_S: Final = 10.0
STOP_S: Final = 5.0
FAREWELL_S: Final = 3.0


class ContainerStatus(Object, frozen=True, kw_only=True):
    """A container that runs."""

    name: str = ""
    container_id: Annotated[str, "as containerd://<id>"] = msgspec.field(
        name="containerID", default=""
    )


class PodStatus(Object, frozen=True, kw_only=True):
    """What runs in a pod."""

    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Resource, frozen=True, kw_only=True):
    """A pod, as far as its name goes."""

    status: PodStatus = PodStatus()


PODS: Final = Kind("", "v1", "Pod", "pods", Pod)


def read(pod: Pod) -> pods.Pod:
    """In the words of the domain."""
    meta, status = pod.metadata, pod.status
    statuses = (
        *status.init_container_statuses,
        *status.ephemeral_container_statuses,
        *status.container_statuses,
    )
    server = next(
        (
            pods.Server(meta.namespace, owner.name, owner.uid)
            for owner in meta.owner_references
            if owner.kind == "GameServer" and owner.api_version.partition("/")[0] == GROUP
        ),
        None,
    )
    return pods.Pod(
        uid=_uid(pod),
        namespace=meta.namespace,
        name=meta.name,
        service=meta.labels.get(SERVICE_LABEL, ""),
        containers={_bare(s.container_id): s.name for s in statuses if s.container_id},
        server=server,
    )


def _uid(pod: Pod) -> str:
    """The uid that the kubelet names cgroups by: a static pod's is in an annotation."""
    return pod.metadata.annotations.get("kubernetes.io/config.hash") or pod.metadata.uid


def _bare(identity: str) -> str:
    return identity.rpartition("//")[2]


class Cluster:
    """The pods of one node, watched until `stop`."""

    def __init__(self, config: ClusterConfig, node: str) -> None:
        self.directory = pods.Directory()
        self.state = "waiting"
        self._config = config
        self._scope = Scope(fields=f"spec.nodeName={node}")
        self._conditions = Conditions()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="cluster")

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()
        self._begun.wait(STOP_S)

    def stop(self) -> None:
        """End; what does not within a moment is left to the end of the process."""
        if self._loop and self._main:
            self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(STOP_S)

    def points(self) -> list[own.Point]:
        """How it goes."""
        known = own.Point(metrics.PODS, len(self.directory), (("state", self.state),))
        return [known, *self._conditions.points()]

    def tell(self, uid: str, opinion: health.Opinion) -> bool:
        """Have the GameServer of a pod, if it is one's, say how its network is.

        False if nobody knows the pod, yet or any more.
        """
        pod = self.directory.alive(uid)
        if pod is None or self._loop is None:
            return False
        if pod.server is not None:
            self._loop.call_soon_threadsafe(self._conditions.want, pod.server, opinion)
        return True

    def _run(self) -> None:
        async def main() -> None:
            self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
            self._begun.set()
            while True:
                await self._attempt()
                self.state = "failed"
                await asyncio.sleep(AGAIN_S)

        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            self.state = "stopped"

    async def _attempt(self) -> None:
        """Until something breaks that the informer does not mend itself."""
        try:
            async with Transport(self._config) as transport:
                await self._watch(transport)
        except Exception as error:  # names are an extra: whatever it is, measuring goes on
            logger.warning("pods have no names: %s", error)

    async def _watch(self, transport: Transport) -> None:
        api = Api(transport, PODS, manager=MANAGER)
        async for _ in api.pages(self._scope, limit=1):  # who is refused learns of it
            break
        informer = Informer(api, self._scope)
        informer.on_change(self._changed)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(informer.run(), name="pods")
                group.create_task(self._conditions.run(transport), name="conditions")
                await informer.wait_synced()
                self.state = "synced"
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._conditions.farewell(transport)
            raise

    def _changed(self, change: Change[Pod]) -> None:
        old, new = change.old, change.new
        if old is not None and (new is None or _uid(old) != _uid(new)):
            gone = self.directory.remove(_uid(old))
            if gone is not None and gone.server is not None:
                self._conditions.forget(gone.server)
        if new is not None:
            self.directory.put(read(new))


def from_environment(environ: Mapping[str, str], node: str) -> Cluster:
    """The cluster that kubectl or this pod would talk to; SettingsError if there is none."""
    from rallypoint.kube import config

    return Cluster(config.detect(environ), node)
