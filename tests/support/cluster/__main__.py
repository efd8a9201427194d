"""`make cluster` and `make cluster-down`: a cluster for a person, kept by a process of its own.

python -m tests.support.cluster build              # have the programs, before tests need them
python -m tests.support.cluster up [--nodes 2]     # prints the kubeconfig's path
python -m tests.support.cluster install            # the chart on it, with this checkout's images
python -m tests.support.cluster down               # leaves nothing behind
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support import go
from tests.support.cluster import cgroups, machines, plane, release
from tests.support.cluster.network import Host, Unavailable

KEEPER = "keeper.json"
HOSTS = "hosts.json"
READY = "ready"
START_S = 180.0
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Keeper:
    """The process that keeps the cluster, told apart from another that got its number later."""

    pid: int
    since: str

    @property
    def lives(self) -> bool:
        return _since(self.pid) == self.since


def build() -> int:
    """Have all programs that tests need, so that no test pays for them."""
    for name in (*plane.PROGRAMS, "kwok", *(machines.PROGRAMS if _can() else ())):
        go.tool(name)
    return 0


def _can() -> bool:
    try:
        machines.refuse_missing()
    except Unavailable:
        return False
    return True


def up(folder: Path, nodes: int) -> int:
    """Start a cluster unless there is one, and say how to use it."""
    if (keeper := _keeper(folder)) is None or not keeper.lives:
        try:
            machines.refuse_missing()
        except Unavailable as reason:
            print(f"no cluster here: {reason}", file=sys.stderr)
            return 1
        machines.build()
        _start(folder, nodes)
    kubeconfig = folder / "api" / "kubeconfig"
    print(f"export KUBECONFIG={kubeconfig}")
    names = subprocess.run(
        [go.tool("kubectl"), "--kubeconfig", kubeconfig, "get", "nodes", "--no-headers"],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    ready = sum(line.split()[1] == "Ready" for line in names)
    print(f"cluster of Kubernetes {go.KUBERNETES}: {ready} of {len(names)} nodes ready")
    return 0


def _start(folder: Path, nodes: int) -> None:
    down(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SystemExit(f"{folder} is not empty: it would be removed with the cluster")
    log = folder / "keeper.log"
    command = [sys.executable, "-m", "tests.support.cluster", "keep"]
    command += ["--folder", str(folder), "--nodes", str(nodes)]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=go.ROOT, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            start_new_session=True,
        )  # fmt: skip
    keeper = {"pid": process.pid, "since": _since(process.pid)}
    (folder / KEEPER).write_text(json.dumps(keeper))
    give_up = time.monotonic() + START_S
    while not (folder / READY).exists():
        if process.poll() is not None or time.monotonic() > give_up:
            said = log.read_text()[-4000:]
            down(folder)
            raise SystemExit(f"the cluster did not start:\n{said}")
        time.sleep(0.1)


def keep(folder: Path, nodes: int) -> int:
    """Be the process that keeps it, until somebody asks for the end."""
    signal.signal(signal.SIGTERM, _end)
    with machines.cluster(folder, nodes=nodes) as running:
        (folder / HOSTS).write_text(json.dumps([node.host.written() for node in running.nodes]))
        (folder / READY).touch()
        while True:
            signal.pause()


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def install(folder: Path) -> int:
    """Install the chart on the cluster, or bring it up to this checkout."""
    keeper = _keeper(folder)
    if keeper is None or not keeper.lives:
        print("no cluster runs: `make cluster` first", file=sys.stderr)
        return 1
    hosts = [Host.read(written) for written in json.loads((folder / HOSTS).read_text())]
    try:
        release.install(folder / "api" / "kubeconfig", hosts)
    except Unavailable as reason:
        print(f"not installed: {reason}", file=sys.stderr)
        return 1
    return 0


def down(folder: Path) -> bool:
    """End the cluster, also one whose keeper was killed; whether there was one."""
    if (keeper := _keeper(folder)) is not None:
        if keeper.lives:
            os.kill(keeper.pid, signal.SIGTERM)
        give_up = time.monotonic() + STOP_S
        while keeper.lives:
            if time.monotonic() > give_up:
                os.kill(keeper.pid, signal.SIGKILL)  # its anchors end with it
            time.sleep(0.05)
        cgroups.remove(f"{cgroups.PREFIX}{keeper.pid}")
        shutil.rmtree(folder, ignore_errors=True)
    return keeper is not None


def _keeper(folder: Path) -> Keeper | None:
    try:
        return Keeper(**json.loads((folder / KEEPER).read_text()))
    except (FileNotFoundError, ValueError):
        return None


def _since(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; nothing when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def main() -> int:
    """Do what the first word says."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.cluster")
    parser.add_argument("what", choices=("build", "up", "install", "keep", "down"))
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=go.cache() / "cluster")
    wish = parser.parse_args()
    folder = wish.folder.absolute()
    match wish.what:
        case "build":
            return build()
        case "up":
            return up(folder, wish.nodes)
        case "install":
            return install(folder)
        case "keep":
            return keep(folder, wish.nodes)
    print("the cluster is gone" if down(folder) else "no cluster runs")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
