"""One server: its pod, its status, and whether its pod may be evicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rallypoint.fleet import resources
from rallypoint.fleet.domain import observed, pods, workload
from rallypoint.fleet.domain.game_server import GameServer, GameServerStatus
from rallypoint.fleet.domain.game_server_set import GameServerSet
from rallypoint.fleet.domain.observed import Sight
from rallypoint.fleet.domain.workload import Pod
from rallypoint.fleet.operator.acts import Acts
from rallypoint.fleet.operator.revising import Revising
from rallypoint.fleet.operator.world import World, set_key
from rallypoint.kit import errors as kit_errors
from rallypoint.kit import metrics
from rallypoint.kube import errors

LOOK_AGAIN_S = 1.0
FIRST_STATUS_S = 3.0


class Servers:
    """Reconciles servers, each by its key."""

    def __init__(self, world: World, acts: Acts, revising: Revising) -> None:
        self._world, self._acts, self._revising = world, acts, revising

    async def reconcile(self, key: str) -> float | None:
        """Bring one server nearer to what its spec says, and write what it is."""
        item = self._world.servers.lister.by_key(key)
        if item is None:
            return None
        owner = self._world.sets.lister.by_key(set_key(item))
        if owner is None or workload.controller_uid(item.metadata) != owner.metadata.uid:
            return None  # its set is gone: the garbage collector takes it
        sight = self._world.sight(item)
        if self._is_over(sight):
            await self._remove(item)
            return None
        if self._needs_pod(sight):
            await self._make_pod(item)
        found = observed.status(sight, owner.spec, epoch=self._acts.epochs.known(owner.key))
        if observed.worth_writing(item.status, found, sight.now) and not _is_coming(sight, found):
            await self._write(item, found)
        await self._protect(owner, sight)
        return LOOK_AGAIN_S if found.phase in ("Pending", "Starting") else None

    @staticmethod
    def _needs_pod(sight: Sight) -> bool:
        item = sight.server
        made = item.status is not None and item.status.pod_uid
        gone = item.metadata.deletion_timestamp or sight.before.phase == "Failed"
        return sight.pod is None and not made and not gone

    @staticmethod
    def _is_over(sight: Sight) -> bool:
        """Whether its pod was ended by others (an eviction, a node's end) and is gone by now."""
        going = sight.server.metadata.deletion_timestamp
        return sight.pod is None and sight.before.phase == "Terminating" and not going

    async def _remove(self, item: GameServer) -> None:
        meta = item.metadata
        try:
            await self._acts.servers.delete(meta.name, namespace=meta.namespace, uid=meta.uid)
        except (errors.NotFound, errors.Conflict):
            return
        self._acts.tell_server(item, "PodEnded", "its pod was ended by somebody else, and is gone")

    async def _make_pod(self, item: GameServer) -> None:
        meta = item.metadata
        body = pods.body(
            set_name=item.spec.set_name,
            server=meta.name,
            revision=item.spec.revision,
            data=self._revising.data(meta.namespace, item.spec.revision),
            owner=msgspec.to_builtins(resources.GAME_SERVERS.owner(item)),
        )
        try:
            await self._acts.pods.create_value(body, namespace=meta.namespace)
        except errors.AlreadyExists:
            await self._expect_ours(item)
        except (errors.Forbidden, errors.Invalid) as error:
            self._acts.tell_server(item, "PodRefused", str(error), warning=True)
            raise

    async def _expect_ours(self, item: GameServer) -> None:
        """An earlier try made it, or its name is still taken: then it is waited for."""
        meta = item.metadata
        pod = await self._acts.pods.get(meta.name, namespace=meta.namespace)
        if workload.controller_uid(pod.metadata) != meta.uid:
            raise kit_errors.Unavailable(
                "POD_NAME_TAKEN", f"a pod {item.key} of something else is there", retry_after_s=1.0
            )

    async def _write(self, item: GameServer, found: GameServerStatus) -> None:
        before = item.status.phase if item.status else ""
        await self._acts.servers.apply(
            item.metadata.name,
            {"status": {"phase": found.phase, **msgspec.to_builtins(found)}},
            namespace=item.metadata.namespace,
            subresource="status",
            force=True,
        )
        if found.phase != before:
            metrics.OPERATOR_PHASES.labels(item.spec.set_name, found.phase).inc()
            self._tell(item, found)

    def _tell(self, item: GameServer, found: GameServerStatus) -> None:
        if found.phase in ("Ready", "Unhealthy", "Failed"):
            healthy = next(c for c in found.conditions if c.type == "PodReady")
            note = {
                "Ready": f"hears of {found.address}",
                "Unhealthy": "its process is silent",
                "Failed": healthy.message or "its pod has ended",
            }[found.phase]
            warning = found.phase != "Ready"
            self._acts.tell_server(item, found.phase, note, warning=warning)

    async def _protect(self, owner: GameServerSet, sight: Sight) -> None:
        """Say on the pod whether somebody plays there."""
        pod = sight.pod
        if pod is None or pod.metadata.deletion_timestamp:
            return
        patch = protection(
            pod, protected=observed.protected(owner.spec.eviction, rooms=sight.rooms)
        )
        if patch:
            meta = pod.metadata
            change = {"metadata": {"uid": meta.uid, **patch}}
            try:
                await self._acts.pods.merge_patch(meta.name, change, namespace=meta.namespace)
            except errors.NotFound:
                return


def _is_coming(sight: Sight, found: GameServerStatus) -> bool:
    """Whether a server is so new that its first status can wait to say that it is ready."""
    created = pods.seconds(sight.server.metadata.creation_timestamp, sight.now)
    young = sight.now - created < FIRST_STATUS_S
    return sight.server.status is None and young and found.phase in ("Pending", "Starting")


def protection(pod: Pod, *, protected: bool) -> Mapping[str, Any]:
    """Return what to change in a pod's labels and annotations; nothing when they are right."""
    meta = pod.metadata
    labels = {pods.OCCUPIED: "true" if protected else None}
    notes = {name: value if protected else None for name, value in pods.PROTECTING.items()}
    patch = {
        "labels": {k: v for k, v in labels.items() if meta.labels.get(k) != v},
        "annotations": {k: v for k, v in notes.items() if meta.annotations.get(k) != v},
    }
    return {name: part for name, part in patch.items() if part}
