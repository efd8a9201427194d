"""A whole fleet for tests: operator and allocator as processes, pods on KWOK's nodes, real rooms.

In a pod of KWOK nothing runs. For each pod that is Running, `Troupe` runs our room-state here, with
the name that the pod's environment gives it: it registers, beats, agrees or refuses as in a pod.
"""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rallypoint.cli.brokers import Brokers
from rallypoint.fleet import resources
from rallypoint.fleet.domain.game_server import GameServer
from rallypoint.fleet.domain.game_server_set import GameServerSet
from rallypoint.fleet.domain.pods import SET
from rallypoint.fleet.domain.workload import Pod
from rallypoint.fleet.operator.kinds import PODS
from rallypoint.internal.v1 import allocation_pb2, allocation_pb2_grpc, events_pb2
from rallypoint.kit import rpc, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId
from rallypoint.kube.api import Api, Scope
from rallypoint.kube.domain.store import Change
from rallypoint.kube.informer import Informer, Informers
from rallypoint.kube.kinds import EVENTS
from rallypoint.kube.objects import Event
from rallypoint.kube.transport import Transport
from tests.integration.rooms_stack import RunningNode, room_node
from tests.kube.stack import connected, until
from tests.support.cluster.fakes import FOR_FAKES
from tests.support.cluster.places import die_with_parent
from tests.support.kubernetes import ApiServer

LEASE = {"RALLYPOINT_LEASE_S": "6", "RALLYPOINT_RENEW_S": "4", "RALLYPOINT_RETRY_S": "0.5"}
STOP_S = 30.0


@dataclass
class Process:
    """A service of ours as a process."""

    popen: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """End it without a word."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(STOP_S)


@contextmanager
def service(name: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Process]:
    """Run `rallypoint <name>`."""
    log = folder / f"{name}-{secrets.token_hex(2)}.log"
    given = {"RALLYPOINT_METRICS_PORT": "0", "RALLYPOINT_GRPC_PORT": "0", **environment}
    with log.open("wb") as sink:
        popen = subprocess.Popen(
            [sys.executable, "-m", "rallypoint", name],
            env={**os.environ, **given}, stdout=sink, stderr=sink, preexec_fn=die_with_parent,
        )  # fmt: skip
    process = Process(popen, log)
    try:
        yield process
    finally:
        popen.terminate()
        try:
            popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


@dataclass
class Fleet:
    """What a test sees of it, and does to it."""

    cluster: ApiServer
    transport: Transport
    brokers: Brokers
    namespace: str
    name: str
    kubeconfig: Path
    folder: Path
    sets: Api[GameServerSet]
    servers_api: Api[GameServer]
    servers: Informer[GameServer]
    pods: Informer[Pod]
    watched: Informer[GameServerSet]
    troupe: Troupe
    bus: Bus
    stack: AsyncExitStack
    allocator: str = ""

    @functools.cached_property
    def _client(self) -> Any:
        channel = rpc.channel(self.allocator, name="test")
        self.stack.push_async_callback(channel.close)
        return allocation_pb2_grpc.AllocationServiceStub(channel)

    def operator(self, *, kubeconfig: Path | None = None, **environment: str) -> Process:
        """Start an operator, which ends with the test."""
        given = self.operator_environment(kubeconfig or self.kubeconfig) | environment
        return self.stack.enter_context(service("operator", self.folder, given))

    def operator_environment(self, kubeconfig: Path) -> dict[str, str]:
        """What an operator of this fleet is told, wherever it runs."""
        return {
            "KUBECONFIG": str(kubeconfig),
            "RALLYPOINT_NATS_URL": self.brokers.nats.url,
            "RALLYPOINT_REDIS_URL": self.brokers.redis.url,
            "RALLYPOINT_WATCH_NAMESPACE": self.namespace,
            "RALLYPOINT_OWN_NAMESPACE": self.namespace,
            "RALLYPOINT_STATUS_PERIOD_S": "0.2",
            **LEASE,
        }

    async def apply(self, **spec: Any) -> None:
        """Have a person apply a set."""
        await Api(self.transport, resources.GAME_SERVER_SETS, manager="person").apply(
            self.name, {"spec": {"template": template(), **spec}},
            namespace=self.namespace, force=True,
        )  # fmt: skip

    async def scale(self, replicas: int) -> None:
        """Have a person scale the set."""
        await self.sets.set_scale(self.name, replicas, namespace=self.namespace)

    @property
    def set(self) -> GameServerSet:
        """The set as last seen."""
        found = self.watched.lister.get(self.name, namespace=self.namespace)
        assert found is not None
        return found

    def status(self, name: str) -> Any:
        """A field of the set's status."""
        found = self.watched.lister.get(self.name, namespace=self.namespace)
        return getattr(found.status, name) if found and found.status else None

    def condition(self, kind: str) -> str:
        """`True`, `False` or nothing."""
        known = self.status("conditions") or ()
        return next((one.status for one in known if one.type == kind), "")

    def phases(self) -> dict[str, str]:
        """The phase of each server."""
        return {
            one.metadata.name: one.status.phase if one.status else ""
            for one in self.servers.lister
            if one.metadata.deletion_timestamp is None
        }

    def uid(self, name: str) -> str:
        """Which very server has a name now."""
        found = self.servers.lister.get(name, namespace=self.namespace)
        return found.metadata.uid if found else ""

    async def ready(self, count: int) -> None:
        """Wait until so many servers are there and all are ready."""

        def done() -> bool:
            found = self.phases()
            return len(found) == count and set(found.values()) <= {"Ready", "Active", "Full"}

        await self.until(done, f"{count} ready servers")

    async def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for something; tell what is there when it does not come."""
        try:
            await until(true, what)
        except AssertionError:
            status = self.watched.lister.get(self.name, namespace=self.namespace)
            raise AssertionError(
                f"{what} did not come\n{self.phases()}\n{status and status.status}\n{self.logs()}"
            ) from None

    async def allocate(self, room: str) -> str:
        """Have a room placed; the server it runs on."""
        request = allocation_pb2.AllocateRequest(
            request_id=room,
            set=self.name,
            game="skirmish",
            players=[allocation_pb2.SeatRequest(player_id=name) for name in ("a", "b")],
        )
        async with rpc.calling():
            reply = await self._client.Allocate(request, timeout=20)
        return str(reply.node_id)

    async def release(self, room: str) -> None:
        """Give a room back."""
        async with rpc.calling():
            await self._client.Release(
                allocation_pb2.ReleaseRequest(set=self.name, room_id=room), timeout=20
            )

    async def owner(self, room: str) -> str:
        """The server that a room runs on, nothing when it has ended."""
        entry = await self.bus.kv(subjects.OWNERS.name).get(subjects.own(RoomId(room)))
        if entry is None or entry.value is None:
            return ""
        return events_pb2.OwnRecord.FromString(entry.value).node_id

    async def events(self) -> list[Event]:
        """What was told to people."""
        api = Api(self.transport, EVENTS, manager="test")
        return await api.list(Scope(self.namespace))

    def logs(self) -> str:
        """The end of every log."""
        known = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in known)


def template(image: str = "room-state:1", **more: Any) -> dict[str, Any]:
    """A template for KWOK's nodes."""
    container = {"name": "rooms", "image": image}
    pod = {"containers": [container], "terminationGracePeriodSeconds": 1, **FOR_FAKES, **more}
    return {"spec": {"pod": {"spec": pod}}}


@dataclass
class Part:
    """One process in a pod."""

    end: asyncio.Event
    images: tuple[str, ...]
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Troupe:
    """Runs room-state for every pod that is Running and that `plays`."""

    brokers: Brokers
    capacity: int = 4
    plays: Callable[[Pod], bool] = lambda _: True
    nodes: dict[str, RunningNode] = field(default_factory=dict)
    _parts: dict[str, Part] = field(default_factory=dict)
    _last: dict[str, Part] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def on_pod(self, change: Change[Pod]) -> None:
        """Start, replace or end a process, as the pod says."""
        pod, key = change.new, change.present.metadata.uid
        running = pod is not None and pod.status is not None and pod.status.phase == "Running"
        going = pod is None or pod.metadata.deletion_timestamp is not None
        images = () if pod is None else tuple(one.image for one in pod.spec.containers)
        known = self._parts.get(key)
        if known is not None and (going or images != known.images):
            known.end.set()
            del self._parts[key]
            known = None
        if pod is not None and running and not going and known is None and self.plays(pod):
            part = self._parts[key] = Part(asyncio.Event(), images)
            play = self._play(pod, part)
            self._tasks.append(asyncio.create_task(play, name=f"pod {pod.metadata.name}"))

    async def _play(self, pod: Pod, part: Part) -> None:
        name = pod.metadata.name
        before = self._last.get(name)
        if before is not None:  # a container ends before its next one begins
            await before.over.wait()
        self._last[name] = part
        try:
            async with room_node(
                self.brokers, node_id=name, set_name=pod.metadata.labels[SET],
                incarnation=secrets.token_hex(4), room_capacity=self.capacity,
                pod_uid=pod.metadata.uid,
            ) as node:  # fmt: skip
                self.nodes[name] = node
                await part.end.wait()
                del self.nodes[name]
                node.runtime.handing_over = True
        finally:
            part.over.set()

    async def close(self) -> None:
        """End all."""
        for part in self._parts.values():
            part.end.set()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def fleet(
    cluster: ApiServer, brokers: Brokers, namespace: str, folder: Path, *, capacity: int = 4
) -> AsyncIterator[Fleet]:
    """A namespace in which fleets can be played; no operator runs yet."""
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(connected(cluster))
        bus = await Bus.connect(brokers.nats.url, name="test")
        stack.push_async_callback(bus.close)
        await bus.ensure_topology()
        troupe = Troupe(brokers, capacity)
        stack.push_async_callback(troupe.close)
        informers = await stack.enter_async_context(Informers(transport, manager="test"))
        scope = Scope(namespace)
        pods = informers.informer(PODS, scope)
        pods.on_change(troupe.on_pod)
        made = Fleet(
            cluster=cluster,
            transport=transport,
            brokers=brokers,
            namespace=namespace,
            name=f"s{secrets.token_hex(3)}",
            kubeconfig=cluster.kubeconfig,
            folder=folder,
            sets=Api(transport, resources.GAME_SERVER_SETS, manager="person"),
            servers_api=Api(transport, resources.GAME_SERVERS, manager="person"),
            servers=informers.informer(resources.GAME_SERVERS, scope),
            pods=pods,
            watched=informers.informer(resources.GAME_SERVER_SETS, scope),
            troupe=troupe,
            bus=bus,
            stack=stack,
        )
        await informers.wait_synced()
        yield made
