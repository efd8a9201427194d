"""How a server is let go: the fence, its own agreement, then the delete (`domain.retiring`).

    fence (Redis)  refuses while a slot is claimed or a room runs
    retire (node)  refuses while a room runs, whatever Redis forgot
    delete (API)   refuses when the object is not the one that was looked at

Every step may be repeated, by us or by the next leader. A server that was fenced and is wanted
after all is given back: it takes its agreement back first, then the fence is lifted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rallypoint.fleet.domain import pods, revisions
from rallypoint.fleet.domain.game_server import GameServer
from rallypoint.fleet.domain.game_server_set import GameServerSet
from rallypoint.fleet.domain.nodes import Node
from rallypoint.fleet.domain.observed import Sight
from rallypoint.fleet.fences import Deposed
from rallypoint.fleet.operator.acts import Acts
from rallypoint.fleet.operator.slots import node_of
from rallypoint.fleet.operator.world import World
from rallypoint.kit import errors as kit_errors
from rallypoint.kit import metrics
from rallypoint.kit.names import SetName
from rallypoint.kube import errors
from rallypoint.kube.domain.patches import JsonPatch

log = logging.getLogger(__name__)

WORDS: Mapping[str, str] = {
    "ScaledIn": "fewer servers are wanted",
    "Superseded": "it is of an older revision",
    "Failed": "it failed",
    "NodeLeaving": "its node is going away",
    "Drained": "it was to end its rooms, and has none",
}


class Leaving:
    """Lets servers go, one step after the other."""

    def __init__(self, world: World, acts: Acts, *, gone_after_s: float) -> None:
        self._world, self._acts, self._gone_after_s = world, acts, gone_after_s

    async def retire(self, owner: GameServerSet, item: GameServer, reason: str) -> bool:
        """Let an empty server go; False when somebody refused, which is told."""
        sight = self._world.sight(item)
        if sight.blind:
            return False  # who is silent may be playing
        if not await self._agreed(owner, sight):
            return False
        return await self._delete(owner, item, reason)

    async def swap(
        self, owner: GameServerSet, item: GameServer, name: str, data: Mapping[str, Any]
    ) -> bool:
        """Give an empty server the images of another revision, in the pod that it has.

        True when its process goes for that.
        """
        sight = self._world.sight(item)
        if sight.blind or sight.pod is None:
            return False
        meta = item.metadata
        patch = _images(sight, name, data)
        # A pass that ended between our two writes left a pod with the images already. Its process
        # stays: fenced, it would take no room for ever.
        goes = any(one["op"] == "replace" for one in patch)
        if goes and not await self._agreed(owner, sight):
            return False
        try:
            await self._acts.pods.json_patch(meta.name, patch, namespace=meta.namespace)
            change = {"metadata": {"uid": meta.uid}, "spec": {"revision": name}}
            await self._acts.servers.merge_patch(meta.name, change, namespace=meta.namespace)
        except (errors.NotFound, errors.Conflict, errors.Invalid) as error:
            log.info("swap waits: %s", error)
            return False
        self._acts.tell_server(item, "UpdatedInPlace", f"now runs the images of {name}")
        metrics.OPERATOR_ACTIONS.labels(owner.metadata.name, "updated_in_place").inc()
        return goes

    async def _agreed(self, owner: GameServerSet, sight: Sight) -> bool:
        """Ask Redis, then the server."""
        item, heard = sight.server, sight.heard
        name = SetName(owner.metadata.name)
        if heard is None:
            return await self._unheard(owner, sight)
        place, epoch = heard.node.place, await self._acts.epochs.of(owner.key)
        try:
            if await self._acts.fences.fence(name, place, epoch=epoch) == "used":
                self._refused(owner, item, "a slot of it is claimed")
                return False
            if not await self._word(sight, heard.node, epoch):
                self._refused(owner, item, "it has rooms that Redis did not know of")
                await self._acts.fences.lift(name, place, epoch=epoch)
                return False
        except Deposed:
            # If we lead after all (Redis came back from a copy), we do so above that epoch.
            self._acts.epochs.forget(owner.key)
            raise
        return True

    async def _unheard(self, owner: GameServerSet, sight: Sight) -> bool:
        """Judge a server that has no fence, since nobody knows its process.

        Nothing can be claimed on a process that has not registered, and one that registers at this
        very moment refuses the room: it is told to end, and the allocator goes elsewhere. But one
        that a leader before us has heard may be cut off, with its players.
        """
        name, item = SetName(owner.metadata.name), sight.server
        if sight.before.occupancy is None or sight.before.phase == "Failed":
            return True
        if await self._acts.fences.may_have_rooms(name, item.metadata.name):
            self._refused(owner, item, "it is silent, and may have rooms")
            return False
        return True

    async def _word(self, sight: Sight, node: Node, epoch: int) -> bool:
        """Return whether the server agrees; one that is gone for long need not."""
        try:
            await self._acts.hosts.retire(node, epoch=epoch)
        except (kit_errors.Unavailable, kit_errors.DeadlineExceeded):
            age = sight.beat_age_s
            ended = sight.before.phase == "Failed"
            if ended or (age is not None and age > self._gone_after_s):
                return True
            raise
        except kit_errors.FailedPrecondition as error:
            if error.reason == "NODE_OCCUPIED":
                return False
            raise
        return True

    def _refused(self, owner: GameServerSet, item: GameServer, why: str) -> None:
        metrics.OPERATOR_ACTIONS.labels(owner.metadata.name, "refused").inc()
        self._acts.tell_server(item, "StaysOccupied", f"was to go, and stays: {why}")

    async def _delete(self, owner: GameServerSet, item: GameServer, reason: str) -> bool:
        meta = item.metadata
        try:
            await self._acts.servers.delete(
                meta.name, namespace=meta.namespace, uid=meta.uid,
                version=meta.resource_version, propagation="Foreground",
            )  # fmt: skip
        except errors.NotFound:
            return True
        except errors.Conflict:
            return False  # it changed meanwhile: it is looked at again
        metrics.OPERATOR_ACTIONS.labels(owner.metadata.name, "retired").inc()
        self._acts.tell_set(owner, "ServerRetired", f"{meta.name}: {WORDS[reason]}")
        return True

    async def force(self, owner: GameServerSet, item: GameServer) -> bool:
        """End a server whose time to drain is over, with the rooms it has."""
        rooms = self._world.sight(item).rooms
        note = f"its time to drain is over: ended with {rooms} rooms"
        self._acts.tell_server(item, "DrainForced", note, warning=True)
        metrics.OPERATOR_ACTIONS.labels(owner.metadata.name, "forced").inc()
        return await self._delete(owner, item, "Drained")

    async def drain(self, owner: GameServerSet, item: GameServer, *, within_s: float) -> None:
        """Have a server end its rooms or hand them over, and take no more."""
        meta = item.metadata
        if not item.spec.drain:
            patch = {"metadata": {"uid": meta.uid}, "spec": {"drain": True}}
            await self._acts.servers.merge_patch(meta.name, patch, namespace=meta.namespace)
            self._acts.tell_server(item, "Draining", "its rooms end or move, it takes no more")
            metrics.OPERATOR_ACTIONS.labels(owner.metadata.name, "drained").inc()
        heard = self._world.sight(item).heard
        if heard is None or heard.node.draining:
            return
        try:
            await self._acts.hosts.set_draining(
                heard.node, draining=True, within_ms=int(within_s * 1000)
            )
        except kit_errors.RallypointError as error:
            log.info("drain waits: %s", error, extra={"server": item.key})

    async def keep(self, owner: GameServerSet, place: str) -> None:
        """Give back a place that is fenced, by us or by who led before, and shall not go."""
        name, epoch = SetName(owner.metadata.name), await self._acts.epochs.of(owner.key)
        heard = self._world.registry.sighting(node_of(place))
        try:
            if heard is not None and heard.node.place == place:
                await self._acts.hosts.unretire(heard.node, epoch=epoch)
            await self._acts.fences.lift(name, place, epoch=epoch)
        except Deposed:
            self._acts.epochs.forget(owner.key)
            raise
        except kit_errors.RallypointError as error:
            log.info("fence stays: %s", error, extra={"place": place})


def _images(sight: Sight, name: str, data: Mapping[str, Any]) -> JsonPatch:
    """Return the operations that change a very pod's images."""
    assert sight.pod is not None
    wanted = revisions.images(data)
    label = pods.REVISION.replace("/", "~1")
    patch: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/uid", "value": sight.pod.metadata.uid},
        {"op": "add", "path": f"/metadata/labels/{label}", "value": name},
    ]
    for index, container in enumerate(sight.pod.spec.containers):
        image = wanted.get(container.name, container.image)
        if image != container.image:
            path = f"/spec/containers/{index}"
            patch.append({"op": "test", "path": f"{path}/name", "value": container.name})
            patch.append({"op": "replace", "path": f"{path}/image", "value": image})
    return tuple(patch)
