"""The whole game on a real cluster, by the manifests beside this: to be played, and to be broken.

Brokers, fleet, operator, matchmaking and the gateway stand on the first node, servers that the
operator makes on all. Everything is reached as from outside, through NodePorts of the first node.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rallypoint.fleet import resources
from rallypoint.fleet.domain import claims
from rallypoint.fleet.domain.game_server import GameServer
from rallypoint.internal.v1 import events_pb2, fleet_admin_pb2, fleet_admin_pb2_grpc
from rallypoint.kit import keys, rpc, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId, SetName
from rallypoint.kit.store import Store
from rallypoint.kube.api import Scope
from rallypoint.kube.domain.store import Change
from rallypoint.kube.informer import Informers
from tests.kube.stack import connected
from tests.support import waiting
from tests.support.kubernetes import ApiServer
from tests.support.players import Player

MANIFESTS: Final = Path(__file__).parent / "manifests"
CORE: Final = "rallypoint.dev/core"
SET: Final = SetName("arena")
WAIT_S: Final = 60.0
TAKING: Final = {"Ready", "Active"}
"""Phases of servers that take rooms."""

until = functools.partial(waiting.wait_until, within_s=WAIT_S, every_s=0.2)


@dataclass(frozen=True, slots=True)
class Game:
    """What runs in one namespace."""

    server: ApiServer
    namespace: str
    address: str
    """Of the node whose ports are used."""
    ports: dict[str, int]
    """The services that are reached from outside."""

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl in the game's namespace."""
        return self.server.does("-n", self.namespace, *words, stdin=stdin)

    @property
    def url(self) -> str:
        """The gateway, as players reach it."""
        return f"http://{self.address}:{self.ports['gateway']}"

    def told(self) -> str:
        """What is there, for a test that failed."""
        shown = [
            ("get", "pods,rgs,rgss", "-o", "wide"),
            ("logs", "deployment/operator", "--tail=20"),
        ]
        return "\n".join(
            self.server.kubectl("-n", self.namespace, *words).stdout for words in shown
        )

    def room_pods(self) -> dict[str, str]:
        """The room nodes that are ready, with the cluster's node of each."""
        found = json.loads(self.kubectl("get", "pods", "-l", "app=rooms", "-o", "json"))
        return {
            pod["metadata"]["name"]: pod["spec"]["nodeName"]
            for pod in found["items"]
            if "deletionTimestamp" not in pod["metadata"] and _is_ready(pod)
        }

    def servers(self) -> dict[str, tuple[str, str]]:
        """The uid and the phase of each GameServer, those that go included."""
        found = json.loads(self.kubectl("get", "gameservers", "-o", "json"))
        return {
            one["metadata"]["name"]: (
                one["metadata"]["uid"],
                "Terminating"
                if "deletionTimestamp" in one["metadata"]
                else one.get("status", {}).get("phase", ""),
            )
            for one in found["items"]
        }

    def has_capacity(self, count: int) -> bool:
        """Whether so many servers take rooms, in pods that are ready, and there are no others."""
        phases = {phase for _, phase in self.servers().values()}
        return len(self.room_pods()) == len(self.servers()) == count and phases <= TAKING

    def spread(self, names: list[str]) -> None:
        """Have a room node on each of the cluster's nodes."""

        def takes_pods() -> bool:
            nodes = json.loads(self.server.does("get", "nodes", *names, "-o", "json"))["items"]
            return not any(node["spec"].get("taints") for node in nodes)

        def is_spread() -> bool:
            pods = self.room_pods()
            if len(pods) != len(names) or set(pods.values()) == set(names):
                return len(pods) == len(names)
            self.kubectl("delete", "gameserver", next(iter(pods)))
            return False

        # One that was cut off has its taint for a while: its pods would begin elsewhere.
        until(takes_pods, "every node takes pods")
        until(is_spread, "room nodes on every node")

    @contextlib.asynccontextmanager
    async def deletions(self) -> AsyncIterator[dict[str, list[RoomId]]]:
        """The GameServers that are deleted meanwhile, by name, with the rooms each still owned."""
        deleted: dict[str, list[RoomId]] = {}
        async with (
            connected(self.server) as transport,
            Informers(transport, manager="test") as informers,
            self.bus() as bus,
            asyncio.TaskGroup() as looks,
        ):

            async def look(name: str) -> None:
                """Ask who owns what, now that it is deleted: before its process could hand over."""
                owned = (await owners(bus)).items()
                left = [room for room, record in owned if record.node_id == name]
                deleted[name] = deleted.get(name, []) + left

            def on_server(change: Change[GameServer]) -> None:
                if _goes(change.new) and not _goes(change.old):
                    looks.create_task(look(change.present.metadata.name))

            cache = informers.informer(resources.GAME_SERVERS, Scope(self.namespace))
            await informers.wait_synced()
            cache.on_change(on_server)
            yield deleted

    @contextlib.asynccontextmanager
    async def bus(self) -> AsyncIterator[Bus]:
        """The game's NATS."""
        url = f"nats://{self.address}:{self.ports['nats']}"
        bus = await Bus.connect(url, name="test")
        try:
            yield bus
        finally:
            await bus.close()

    async def owners(self) -> dict[RoomId, events_pb2.OwnRecord]:
        """Who runs which room."""
        async with self.bus() as bus:
            return await owners(bus)

    async def claims(self) -> dict[RoomId, claims.Claim]:
        """What fleet counts as used."""
        url = f"redis://{self.address}:{self.ports['redis']}/0"
        store = await Store.connect(url)
        try:
            found = await store.hgetall(keys.fleet_claims(SET))
        finally:
            await store.close()
        return {RoomId(room.decode()): claims.parse(text.decode()) for room, text in found.items()}

    async def wait_accounted(self) -> None:
        """Wait until each room has a confirmed claim where it runs, and there is no other."""
        give_up = time.monotonic() + WAIT_S
        while True:
            used, own = await self.claims(), await self.owners()
            at = {room: f"{it.node_id}|{it.incarnation}|{it.epoch}" for room, it in own.items()}
            if {room: claim.text for room, claim in used.items()} == {
                room: f"R|{place}" for room, place in at.items()
            }:
                return
            assert time.monotonic() < give_up, (used, at)
            await asyncio.sleep(0.2)

    async def bring(self, player: Player, pod: str) -> None:
        """Have the player's room run on a room node."""
        room_id = RoomId(player.room.seat.room_id)
        if (await self.owners())[room_id].node_id == pod:
            return
        address = f"{self.address}:{self.ports['fleet']}"
        async with rpc.channel(address, name="test") as channel, rpc.calling():
            stub: Any = fleet_admin_pb2_grpc.FleetAdminServiceStub(channel)
            await stub.MoveRoom(
                fleet_admin_pb2.MoveRoomRequest(room_id=room_id, node_id=pod), timeout=WAIT_S
            )


async def owners(bus: Bus) -> dict[RoomId, events_pb2.OwnRecord]:
    """Who runs which room, as a bus knows it."""
    return {
        RoomId(entry.key.removeprefix("own.")): events_pb2.OwnRecord.FromString(entry.value)
        for entry in await bus.kv("rooms").entries(subjects.ALL_OWN)
        if entry.value
    }


def _goes(item: GameServer | None) -> bool:
    """Whether a server is gone or going."""
    return item is None or item.metadata.deletion_timestamp is not None


def deploy(server: ApiServer, namespace: str, *, core: str, address: str) -> Game:
    """Have everything run."""
    server.does("label", "--overwrite", "node", core, f"{CORE}=true")
    kinds = "---\n".join(resources.files().values())
    server.does("apply", "--server-side", "-f", "-", stdin=kinds)
    names = [f"crd/{custom.name}" for custom in resources.ALL]
    server.does("wait", "--for=condition=Established", "--timeout=30s", *names)
    game = Game(server, namespace, address, {})
    for file in ("brokers", "services", "operator", "rooms"):
        game.kubectl("apply", "-f", str(MANIFESTS / f"{file}.yaml"))
    try:
        game.kubectl("wait", "--for=condition=Available", "rgss/arena", "--timeout=90s")
        for name in ("fleet", "matchmaking", "gateway"):
            game.kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{game.told()}") from None
    for service in json.loads(game.kubectl("get", "services", "-o", "json"))["items"]:
        if port := service["spec"]["ports"][0].get("nodePort"):
            game.ports[service["metadata"]["name"]] = port
    return game


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
