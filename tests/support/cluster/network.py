"""Hosts of a cluster: namespaces at a switch of their own, without a route out.

Each host is held by one process, its anchor, pid 1 of a pid namespace: when it is killed the kernel
ends every process, mount, table of nft and cable of that host. The anchors end with us.

    machine (this one) ── switch ┬─ plane      10.214.n.2     no pods
         10.214.n.1              ├─ node-1     10.214.n.11    pods 10.244.1.0/24
                                 └─ node-2     10.214.n.12    pods 10.244.2.0/24
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.cluster.places import STOP_S, Place, die_with_parent
from tests.support.kubernetes import SERVICES

START_S: Final = 20.0
RUN_S: Final = 180.0
"""An import of an image on a crowded disk takes a minute."""
PODS: Final = "10.244.0.0/16"
# What is written by the host's programs at places that cannot be set lies in its own folder.
ANCHOR: Final = """
set -e
folder=$1; shift
mount --make-rshared /
mount -t proc proc /proc
for place in "$@"; do mkdir -p "$folder$place"; mount --bind "$folder$place" "$place"; done
ip link set lo up
: > "$folder/anchored"
sleep infinity & wait
"""
OWN_PLACES: Final = ("/run", "/var/log", "/var/lib/cni")


class Unavailable(Exception):
    """This machine or this user cannot run a cluster; the text says what is missing."""


def refuse_missing() -> None:
    """Unavailable when hosts cannot be made here."""
    for program in ("bash", "ip", "nsenter", "unshare"):
        if shutil.which(program) is None:
            raise Unavailable(f"`{program}` is not installed")
    run("unshare -n -m -p --fork true")


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the cluster."""

    name: str
    number: int
    address: str
    pods: str
    """The range of its pods' addresses; empty: it has none."""
    anchor: int
    folder: Path

    def written(self) -> dict[str, object]:
        """As JSON has it, for another process."""
        return {**asdict(self), "folder": str(self.folder)}

    @classmethod
    def read(cls, written: dict[str, Any]) -> Self:
        """Undo `written`."""
        return cls(**{**written, "folder": Path(written["folder"])})

    @property
    def network(self) -> Place:
        """Where programs use its network and nothing else of it."""
        return Place(self.address, ("nsenter", f"--net=/proc/{self.anchor}/ns/net", "--"))

    @property
    def whole(self) -> Place:
        """Where programs see its network, mounts and processes, and end with it."""
        return Place(self.address, ("nsenter", "-t", str(self.anchor), "-n", "-m", "-p", "--"))

    @property
    def port(self) -> str:
        """The switch's end of its cable."""
        return f"port{self.number}"


class Network:
    """The switch and its hosts. Use as a context manager; hosts are added."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._subnet = ""
        self._anchors: list[subprocess.Popen[bytes]] = []
        self._switch: Host | None = None
        self._made: list[Path] = []
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        self._subnet = _free_subnet()
        try:
            for place in map(Path, OWN_PLACES):
                if not place.exists():
                    place.mkdir(parents=True)
                    self._made.append(place)
            self._switch = switch = self._anchored("switch", 0)
            within(switch, "ip link add switch type bridge")
            within(switch, "ip link set switch up")
            ours = self.cable
            run(f"ip link add {ours} type veth peer name machine netns {switch.anchor}")
            within(switch, "ip link set machine master switch up")
            run(f"ip address add {self._subnet}.1/24 dev {ours}")
            run(f"ip link set {ours} up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def cable(self) -> str:
        """This machine's end of the cable to the switch."""
        return f"rally{os.getpid()}"

    def add(self, name: str, *, pods: bool = True) -> Host:
        """Add a host, whose pods all others reach."""
        number = (11 if pods else 2) + sum(bool(host.pods) for host in self.hosts.values())
        host = self._anchored(name, number, pods=pods)
        assert self._switch is not None
        switch = self._switch.anchor
        run(f"ip link add eth0 netns {host.anchor} type veth peer name {host.port} netns {switch}")
        within(self._switch, f"ip link set {host.port} master switch up")
        within(host, f"ip address add {host.address}/24 dev eth0")
        within(host, "ip link set eth0 up")
        # Nothing is beyond these: a packet to anywhere else cannot leave.
        for other in self.hosts.values():
            _route(other, host)
            _route(host, other)
        if pods:
            self._serve_from(host)
            run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], place=host.network)
            within(host, f"ip route add {SERVICES} dev eth0")
        self.hosts[name] = host
        return host

    def _serve_from(self, host: Host) -> None:
        """Let hosts without pods reach services: the first node passes their packets on."""
        if not any(other.pods for other in self.hosts.values()):
            for other in self.hosts.values():
                within(other, f"ip route add {SERVICES} via {host.address}")

    def cut(self, host: Host) -> None:
        """No packet goes between this host and the others."""
        assert self._switch is not None
        within(self._switch, f"ip link set {host.port} down")

    def heal(self, host: Host) -> None:
        """Undo a cut."""
        assert self._switch is not None
        within(self._switch, f"ip link set {host.port} up")

    def _anchored(self, name: str, number: int, *, pods: bool = False) -> Host:
        folder = self._folder / name
        folder.mkdir(parents=True)
        words = ["unshare", "-n", "-m", "-p", "--fork", "--kill-child=KILL"]
        words += ["--propagation", "private", "bash", "-c", ANCHOR, "anchor", str(folder)]
        log = folder / "anchor.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*words, *OWN_PLACES],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._anchors.append(process)
        give_up = time.monotonic() + START_S
        while not (folder / "anchored").exists():
            if process.poll() is not None or time.monotonic() > give_up:
                raise Unavailable(f"no namespaces for a host: {log.read_text().strip()}")
            time.sleep(0.01)
        (anchor,) = children(process.pid)
        address = f"{self._subnet}.{number}"
        return Host(
            name, number, address, f"10.244.{number - 10}.0/24" if pods else "", anchor, folder
        )

    def close(self) -> None:
        """End every host."""
        for process in self._anchors:
            for anchor in children(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(anchor, signal.SIGKILL)
        for process in self._anchors:
            process.wait(timeout=STOP_S)
        self._anchors.clear()
        self.hosts.clear()
        for place in self._made:
            with contextlib.suppress(OSError):
                place.rmdir()
        self._made.clear()


def children(pid: int) -> list[int]:
    """Return the processes that a process of one thread started."""
    with contextlib.suppress(FileNotFoundError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def within(host: Host, words: str) -> str:
    """Run a command in a host's network."""
    return run(words, place=host.network)


def run(words: str | Sequence[str], *, place: Place | None = None) -> str:
    """Run a command, and return what it printed; Unavailable when it fails."""
    command = words.split() if isinstance(words, str) else words
    whole = [*(place.enter if place else ()), *command]
    done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=RUN_S)
    if done.returncode:
        raise Unavailable(f"`{' '.join(command)}`: {done.stderr.strip()}")
    return done.stdout


def _route(host: Host, other: Host) -> None:
    """Let a host reach the pods of another."""
    if other.pods:
        within(host, f"ip route add {other.pods} via {other.address}")


def _free_subnet() -> str:
    """Return three numbers of a network that this machine has no address in."""
    taken = {
        address["local"]
        for link in json.loads(run("ip -j -4 address"))
        for address in link["addr_info"]
    }
    for last in range(250):
        subnet = f"10.214.{(os.getpid() + last) % 250}"
        if not any(address.startswith(f"{subnet}.") for address in taken):
            return subnet
    raise Unavailable("no network 10.214.n.0/24 is free")
