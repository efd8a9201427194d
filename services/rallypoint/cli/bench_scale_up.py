"""The part of `rallypoint bench fleet` that scales: from no server to a thousand ready ones.

The operator is a process of its own with its own brokers, as in a cluster. Where the cluster has
nodes (KWOK's will do) they run the pods; where it has none, this process says that they run, as
kubelets would. In either case it plays the rooms' processes: it registers and beats for each pod.

scale_up_s      from `kubectl scale` to the last server being Ready
scale_up_made_s until the last GameServer was there
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rallypoint.cli.brokers import Brokers
from rallypoint.fleet import resources
from rallypoint.fleet.domain.game_server import GameServer
from rallypoint.fleet.domain.observed import time_text
from rallypoint.fleet.domain.pods import SET
from rallypoint.fleet.domain.workload import Pod
from rallypoint.fleet.operator.kinds import PODS
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import NodeId
from rallypoint.kube.api import Api, Scope
from rallypoint.kube.config import ClusterConfig
from rallypoint.kube.domain.store import Change
from rallypoint.kube.informer import Informers
from rallypoint.kube.kinds import Kind
from rallypoint.kube.objects import Object, Resource
from rallypoint.kube.transport import Transport

MANAGER = "rallypoint-bench"
NAME = "bench"
FAKE = "rallypoint.dev/fake"
"""The label of nodes that only say so (docs/cluster.md)."""
LIMIT_S = 600.0
STOP_S = 20.0
BEAT_S = 1.0
WORKERS = 16


class Condition(Object, frozen=True, kw_only=True):
    """What a kubelet says of its node."""

    type: str = ""
    status: str = ""


class MachineStatus(Object, frozen=True, kw_only=True):
    """A node, as its kubelet sees it."""

    conditions: tuple[Condition, ...] | None = None


class Machine(Resource, frozen=True, kw_only=True):
    """v1 Node."""

    status: MachineStatus = MachineStatus()

    @property
    def is_ready(self) -> bool:
        """Whether a kubelet, or KWOK, runs pods there."""
        known = self.status.conditions or ()
        return any((one.type, one.status) == ("Ready", "True") for one in known)


MACHINES = Kind("", "v1", "Node", "nodes", Machine, namespaced=False)


class Nodes:
    """Plays what runs in the pods, and the kubelets where there are none."""

    def __init__(self, pods: Api[Pod], bus: Bus, *, kubelets: bool) -> None:
        self._pods, self._bus, self._kubelets = pods, bus, kubelets
        self._started: asyncio.Queue[Pod] = asyncio.Queue()
        self._living: dict[str, str] = {}
        self._seen: set[str] = set()

    def on_pod(self, change: Change[Pod]) -> None:
        """Start a pod once its node runs it; at once where there are no nodes."""
        pod = change.new
        if pod is None or pod.metadata.deletion_timestamp:
            self._living.pop(change.present.metadata.name, None)
            return
        running = pod.status is not None and pod.status.phase == "Running"
        if (running or self._kubelets) and pod.metadata.uid not in self._seen:
            self._seen.add(pod.metadata.uid)
            self._started.put_nowait(pod)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            for _ in range(WORKERS):
                group.create_task(self._start())

    async def _start(self) -> None:
        while True:
            pod = await self._started.get()
            with contextlib.suppress(errors.RallypointError):
                if self._kubelets:
                    await self._say_running(pod)
                await self._register(pod)

    async def _say_running(self, pod: Pod) -> None:
        now = time_text(time.time())
        status = {"phase": "Running", "podIP": "10.0.0.1", "startTime": now}
        meta = pod.metadata
        await self._pods.merge_patch(
            meta.name, {"status": status}, namespace=meta.namespace, subresource="status"
        )

    async def _register(self, pod: Pod) -> None:
        name, nonce = pod.metadata.name, pod.metadata.uid[:8]
        record = events_pb2.NodeRecord(
            node_id=name, incarnation=nonce, address="127.0.0.1:9", capacity=8,
            set=pod.metadata.labels[SET], pod_uid=pod.metadata.uid,
        )  # fmt: skip
        key = subjects.node(NodeId(name))
        await self._bus.kv(subjects.NODES.name).put(key, record.SerializeToString())
        self._living[name] = nonce
        await self._say(name, nonce)

    async def _say(self, name: str, nonce: str) -> None:
        beat = events_pb2.Heartbeat(node_id=name, incarnation=nonce)
        await self._bus.publish(subjects.heartbeat(NodeId(name)), beat.SerializeToString())

    async def _beat(self) -> None:
        while True:
            for name, nonce in list(self._living.items()):
                await self._say(name, nonce)
            await asyncio.sleep(BEAT_S)


@dataclass(frozen=True, slots=True)
class Stage:
    """What operators work on: a namespace, brokers, and nodes that are played."""

    namespace: str
    folder: Path
    brokers: Brokers
    transport: Transport
    informers: Informers
    has_nodes: bool
    has_fakes: bool

    def operator(self, name: str) -> AbstractAsyncContextManager[subprocess.Popen[bytes]]:
        """Run an operator."""
        return _operator(self.folder, self.brokers, self.namespace, name)

    def on_server(self, told: Callable[[Change[GameServer]], None]) -> None:
        """Tell of each change of a server."""
        cache = self.informers.informer(resources.GAME_SERVERS, Scope(self.namespace))
        cache.on_change(told)

    async def make_set(self) -> None:
        """Make a set of no servers, and return when an operator has seen it."""
        known = asyncio.Event()
        self.informers.informer(resources.GAME_SERVER_SETS, Scope(self.namespace)).on_change(
            lambda change: known.set() if change.new and change.new.status else None
        )
        sets = Api(self.transport, resources.GAME_SERVER_SETS, manager=MANAGER)
        pod = {"containers": [{"name": "rooms", "image": "rooms"}], **self._where()}
        template = {"spec": {"pod": {"spec": pod}}}
        spec = {"replicas": 0, "scheduling": "Distributed", "template": template}
        await sets.apply(NAME, {"spec": spec}, namespace=self.namespace)
        async with asyncio.timeout(LIMIT_S):
            await known.wait()

    def _where(self) -> dict[str, Any]:
        """Pods that say they run belong on nodes that say so, if there are any."""
        anywhere = {"tolerations": [{"operator": "Exists"}]}
        return anywhere | ({"nodeSelector": {FAKE: "true"}} if self.has_fakes else {})

    async def scale(self, servers: int) -> None:
        """Want so many servers."""
        sets = Api(self.transport, resources.GAME_SERVER_SETS, manager=MANAGER)
        await sets.set_scale(NAME, servers, namespace=self.namespace)


@asynccontextmanager
async def stage(settings: ClusterConfig, namespace: str) -> AsyncIterator[Stage]:
    """Play the nodes of a namespace; no operator runs yet."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        brokers = Brokers(folder)
        brokers.start()
        stack.callback(brokers.stop)
        transport = await stack.enter_async_context(Transport(settings))
        bus = await Bus.connect(brokers.nats.url, name="bench")
        stack.push_async_callback(bus.close)
        await bus.ensure_topology()
        informers = await stack.enter_async_context(Informers(transport, manager=MANAGER))
        informers.informer(resources.GAME_SERVERS, Scope(namespace))
        pods = Api(transport, PODS, manager=MANAGER)
        machines = await Api(transport, MACHINES, manager=MANAGER).list()
        has_nodes = any(machine.is_ready for machine in machines)
        has_fakes = any(FAKE in machine.metadata.labels for machine in machines)
        nodes = Nodes(pods, bus, kubelets=not has_nodes)
        informers.informer(PODS, Scope(namespace)).on_change(nodes.on_pod)
        await informers.wait_synced()
        playing = asyncio.create_task(nodes.run(), name="nodes")
        try:
            yield Stage(namespace, folder, brokers, transport, informers, has_nodes, has_fakes)
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            await _clean_up(transport, namespace)


async def measure(settings: ClusterConfig, namespace: str, servers: int) -> dict[str, Any]:
    """Scale a set of a namespace from none to so many, and say how long it took."""
    async with stage(settings, namespace) as on, on.operator("bench") as operator:
        count = _Count(servers)
        on.on_server(count.on_server)
        await on.make_set()
        begin = time.monotonic()
        await on.scale(servers)
        async with asyncio.timeout(LIMIT_S):
            await count.done.wait()
        took_s = time.monotonic() - begin
        return {
            "scale_up_s": round(took_s, 2),
            "scale_up_made_s": round(count.made_at - begin, 2),
            "scale_up_per_s": round(servers / took_s, 1),
            "operator_cpu_s": _cpu_s(operator.pid),
            "scale_up_servers": servers,
            "scale_up_kubelets": not on.has_nodes,
        }


class _Count:
    """When all servers were there, and when all were ready."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._there: set[str] = set()
        self._ready: set[str] = set()
        self.made_at = 0.0
        self.done = asyncio.Event()

    def on_server(self, change: Change[GameServer]) -> None:
        """Count a server."""
        item = change.new
        if item is None:
            return
        self._there.add(change.key)
        if len(self._there) == self._wanted and not self.made_at:
            self.made_at = time.monotonic()
        if item.status is not None and item.status.phase == "Ready":
            self._ready.add(change.key)
        if len(self._ready) == self._wanted:
            self.done.set()


@asynccontextmanager
async def _operator(
    folder: Path, brokers: Brokers, namespace: str, name: str
) -> AsyncIterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "RALLYPOINT_NATS_URL": brokers.nats.url,
        "RALLYPOINT_REDIS_URL": brokers.redis.url,
        "RALLYPOINT_WATCH_NAMESPACE": namespace,
        "RALLYPOINT_OWN_NAMESPACE": namespace,
        "RALLYPOINT_INSTANCE": f"{name}-{secrets.token_hex(2)}",
        "RALLYPOINT_METRICS_PORT": "0",
        "RALLYPOINT_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "rallypoint", "operator"]
    with (folder / f"{name}.log").open("wb") as log:
        process = await asyncio.to_thread(
            subprocess.Popen, command, env=environment, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _cpu_s(pid: int) -> float:
    """Return what a process has used of a core so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return round((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), 2)


async def _clean_up(transport: Transport, namespace: str) -> None:
    """Remove what was made: without a controller manager nothing goes by itself."""
    sets = Api(transport, resources.GAME_SERVER_SETS, manager=MANAGER)
    servers = Api(transport, resources.GAME_SERVERS, manager=MANAGER)
    pods = Api(transport, PODS, manager=MANAGER)
    with contextlib.suppress(errors.RallypointError):
        await sets.delete(NAME, namespace=namespace)
    for api in (servers, pods):
        names = iter([one.metadata.name for one in await api.list(Scope(namespace))])

        async def some(api: Api[Any] = api, names: Any = names) -> None:
            for name in names:
                with contextlib.suppress(errors.RallypointError):
                    await api.delete(name, namespace=namespace, grace_s=0)

        await asyncio.gather(*(some() for _ in range(WORKERS)))
