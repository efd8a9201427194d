"""Who reaches whom: connections begun inside pods, and whether the nodes let them through."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.kube.chart_stack import Release
from tests.support.cluster.machines import Cluster
from tests.support.cluster.network import run
from tests.support.cluster.node import Node

STRANGER: Final = "probe"
"""Its pods belong to another namespace, and no policy is about them."""
API: Final = "api server"
BROKERS: Final = {"nats": {4222}, "redis": {6379}}
TOLD: Final = {"collector": {4317}}
METRICS: Final = 9400
REACHES: Final[Mapping[str, Mapping[str, set[int]]]] = {
    "gateway": {"matchmaking": {9090}, "fleet": {9090}, "rooms": {9090, 9091}, **BROKERS, **TOLD},
    "matchmaking": {"fleet": {9090}, "rooms": {9090}, **BROKERS, **TOLD},
    "fleet": {"rooms": {9090}, API: {6443}, **BROKERS, **TOLD},
    "rooms": {"rooms": {9090}, "nats": {4222}, **TOLD},
    "operator": {"rooms": {9090}, API: {6443}, **BROKERS, **TOLD},
    "nats": {"nats": {6222}},
    "redis": {},
    "collector": {},  # its backend is no pod
    STRANGER: {"collector": {4318}},
}
"""The picture, by its arrows (docs/kubernetes.md)."""
OPEN: Final = {"gateway": {8080, 8090}, "operator": {9443}}
"""Who listens to everybody: players come from outside, the API server from no pod."""
DIAL: Final = """
import asyncio, json, sys

async def answers(host, port):
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True

async def main():
    return await asyncio.gather(*(answers(*each) for each in json.loads(sys.argv[1])))

print(json.dumps(asyncio.run(main())))
"""


@dataclass(frozen=True, slots=True)
class Door:
    """A port that a pod listens on, or the API server."""

    component: str
    address: str
    port: int
    pod: str = ""


def expected(caller: str, door: Door) -> bool:
    """Whether the picture has this arrow."""
    drawn = door.port in REACHES.get(caller, {}).get(door.component, ())
    # Between the pods of one policy, kube-router asks only whether that lets somebody in.
    return drawn or (caller in (STRANGER, door.component) and _is_open(door))


def _is_open(door: Door) -> bool:
    """Whether anybody may come in; metrics may be scraped from any namespace."""
    watched = door.port == METRICS and door.component not in BROKERS
    return watched or door.component == API or door.port in OPEN.get(door.component, ())


def wrong(release: Release, cluster: Cluster) -> list[str]:
    """Return the connections that are let through against the picture, or stopped; none is good."""
    pods = release.items("pods") + release.probes()
    api = Door(API, cluster.server.place.host, 6443)
    doors = [door for pod in pods for door in _doors(pod)] + [api]
    found: set[str] = set()
    for node in cluster.nodes:
        here = [pod for pod in pods if pod["spec"]["nodeName"] == node.name]
        found |= _deaf(node, [door for pod in here for door in _doors(pod)])
        with ThreadPoolExecutor() as threads:  # what is dropped is waited for
            found |= set().union(*threads.map(partial(_unlike, node, doors), here))
    return sorted(found)


def _unlike(node: Node, all_doors: list[Door], pod: dict[str, Any]) -> set[str]:
    """Return where a pod's connections do not go as they are drawn."""
    caller, enter = _component(pod), node.within_pod(_container(pod))
    doors = [door for door in all_doors if door.pod != pod["metadata"]["name"]]
    return {
        f"{caller} {'reaches' if answered else 'does not reach'} {door.component}:{door.port}"
        for door, answered in zip(doors, _dial(enter, doors), strict=True)
        if answered != expected(caller, door)
    }


def _deaf(node: Node, doors: list[Door]) -> set[str]:
    """Return the ports that nobody listens on: a node may always reach its own pods."""
    heard = zip(doors, _dial(node.host.network.enter, doors), strict=True)
    return {f"{door.component}:{door.port} is deaf" for door, answered in heard if not answered}


def _dial(enter: Iterable[str], doors: list[Door]) -> list[bool]:
    asked = json.dumps([(door.address, door.port) for door in doors])
    answered: list[bool] = json.loads(run([*enter, sys.executable, "-c", DIAL, asked]))
    return answered


def _doors(pod: dict[str, Any]) -> list[Door]:
    meta, address = pod["metadata"], pod["status"]["podIP"]
    (container,) = pod["spec"]["containers"]
    ports = [port["containerPort"] for port in container["ports"]]
    return [Door(_component(pod), address, port, meta["name"]) for port in ports]


def _component(pod: dict[str, Any]) -> str:
    found: str = pod["metadata"]["labels"]["app.kubernetes.io/component"]
    return found


def _container(pod: dict[str, Any]) -> str:
    (status,) = pod["status"]["containerStatuses"]
    found: str = status["containerID"].rpartition("//")[2]
    return found
