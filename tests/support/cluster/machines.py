"""A whole cluster: the control plane and its nodes, each in a host of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import go
from tests.support.cluster import cgroups, dns, images, network, node, plane
from tests.support.cluster.network import Network, Unavailable
from tests.support.cluster.node import Node
from tests.support.kubernetes import ApiServer, api_server

READY_S = 180.0
AGAIN_S = 45.0
"""A kubelet that is silent for so long is started again, as any supervisor would."""
PROGRAMS = (*plane.PROGRAMS, "coredns", "pause", *node.PROGRAMS)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster."""

    server: ApiServer
    network: Network
    nodes: tuple[Node, ...]


def refuse_missing() -> None:
    """Unavailable, with the reason, when this machine cannot run nodes."""
    if sys.platform != "linux":
        raise Unavailable("nodes are made of Linux's namespaces")
    if os.geteuid() != 0:
        raise Unavailable("nodes are made by root")
    network.refuse_missing()
    node.refuse_missing()
    cgroups.refuse_missing()


def build() -> None:
    """Have all programs in the cache."""
    for name in PROGRAMS:
        go.tool(name)


@contextmanager
def cluster(folder: Path, *, nodes: int = 2) -> Iterator[Cluster]:
    """Run a cluster whose files lie in `folder`; all of its nodes are ready."""
    refuse_missing()
    build()
    cgroups.sweep()
    with ExitStack() as stack:
        stack.callback(cgroups.remove, cgroups.mine())
        switch = stack.enter_context(Network(folder))
        place = switch.add("plane", pods=False).network
        hosts = [switch.add(f"node-{number + 1}") for number in range(nodes)]
        server = stack.enter_context(api_server(folder / "api", place=place, controlled=True))
        started = [Node(host, server, dns=place.host) for host in hosts]
        for one in started:
            one.start()
            stack.callback(one.stop)
        stack.enter_context(plane.controllers(server))
        stack.enter_context(dns.core_dns(server))
        pause = images.pause(folder)
        for one in started:
            one.wait_containerd()
            one.pull(pause)
        _wait_ready(server, started)
        for one in started:
            one.enforce()
        yield Cluster(server, switch, tuple(started))


def _wait_ready(server: ApiServer, nodes: list[Node]) -> None:
    begun = time.monotonic()
    give_up, again = begun + READY_S, begun + AGAIN_S
    ready = "{.metadata.name}={.status.conditions[?(@.type=='Ready')].status}"
    shown = f"jsonpath={{range .items[*]}}{ready} {{end}}"
    while True:
        seen = server.does("get", "nodes", "-o", shown).split()
        missing = [node for node in nodes if f"{node.name}=True" not in seen]
        if not missing:
            return
        assert time.monotonic() < give_up, f"{missing[0].name} is not ready\n{missing[0].said()}"
        if time.monotonic() > again:
            again += AGAIN_S
            for node in missing:
                node.kill_program("kubelet")
                node.start_program("kubelet")
        time.sleep(0.2)
