"""Namespaces, the relay between them, the peers in them, and hand-made cgroups of pods."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.kernel.peer import Part

ROOT = Path(__file__).resolve().parents[2]
A_ADDRESS, B_ADDRESS = "10.77.0.1", "10.77.0.2"
PEER_S = 60.0
FAREWELL_S = 0.4
"""The last segments are still under way when both peers have ended."""
_numbers = itertools.count()
_ports = itertools.count(7001)


def free_port() -> int:
    """A port of its own for every test; below the ones that the kernel hands out."""
    return next(_ports)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def namespace() -> Iterator[str]:
    """A network namespace with a loopback."""
    name = f"rp{os.getpid()}-{next(_numbers)}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "del", name)


class Running:
    """A peer or a relay at work."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def wait_ready(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def result(self) -> dict[str, Any]:
        """Close its standard input, wait, return what it reported."""
        out, _ = self.process.communicate(timeout=PEER_S)
        assert self.process.returncode == 0
        found: dict[str, Any] = json.loads(out)
        return found

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def peer(part: Part) -> Iterator[Running]:
    running = Running("tests.kernel.peer", part.dump())
    try:
        if part.play.startswith("serve"):
            running.wait_ready()
        yield running
    finally:
        running.stop()


def talk(server: Part, client: Part) -> tuple[dict[str, Any], dict[str, Any]]:
    """Have two peers talk until the client is done; what server and client saw."""
    with peer(server) as serving, peer(client) as asking:
        asked = asking.result()
        return serving.result(), asked


@dataclass(slots=True)
class Cable:
    """Two namespaces joined by a relay. `there` is from the client's to the server's."""

    client: str
    server: str
    relay: Running
    report: dict[str, Any] = field(default_factory=dict)

    def talk(self, server: Part, client: Part) -> tuple[dict[str, Any], dict[str, Any]]:
        """Have two peers talk over it, then stop it and keep what it did."""
        there = {"address": B_ADDRESS}
        seen = talk(
            replace(server, netns=self.server, **there), replace(client, netns=self.client, **there)
        )
        time.sleep(FAREWELL_S)
        self.report = self.relay.result()
        return seen


@contextlib.contextmanager
def cable(there_ms: float, back_ms: float, *, drop_every: int = 0) -> Iterator[Cable]:
    with namespace() as client, namespace() as server:
        words = (client, server, str(there_ms), str(back_ms), str(drop_every))
        relay = Running("tests.kernel.relay", *words)
        try:
            relay.wait_ready()
            for name, address in ((client, A_ADDRESS), (server, B_ADDRESS)):
                ip("-n", name, "addr", "add", f"{address}/24", "dev", "tun0")
                ip("-n", name, "link", "set", "tun0", "up")
            yield Cable(client, server, relay)
        finally:
            relay.stop()


def snmp(name: str, protocol: str) -> dict[str, int]:
    """The kernel's own counters of one namespace."""
    shown = subprocess.run(
        ["ip", "netns", "exec", name, "cat", "/proc/net/snmp"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    names, values = (
        line.split()[1:] for line in shown.splitlines() if line.startswith(f"{protocol}:")
    )
    return dict(zip(names, map(int, values), strict=True))
