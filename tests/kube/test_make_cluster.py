"""`make cluster` gives a person a cluster, `make cluster-down` leaves nothing of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import go
from tests.support.cluster import cgroups

KINDS = ("net", "mnt", "pid")


def command(what: str, folder: Path) -> str:
    """Run it as the Makefile does; what it said."""
    words = [sys.executable, "-m", "tests.support.cluster", what]
    words += ["--nodes", "1", "--folder", str(folder)]
    done = subprocess.run(words, cwd=go.ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def namespaces(pid: int | str) -> set[str]:
    """The namespaces a process is in."""
    try:
        return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS}
    except OSError:
        return set()


def descendants(pid: int) -> set[int]:
    """A process, those that it started, and theirs."""
    found = {pid}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            found |= descendants(int(child))
    return found


def processes_in(spaces: set[str]) -> list[str]:
    """The processes of some namespaces."""
    return [each.name for each in Path("/proc").glob("[0-9]*") if namespaces(each.name) & spaces]


@pytest.mark.parametrize("end", ["asked", "killed"])
def test_nothing_is_left_behind(tmp_path: Path, end: str, can_run_nodes: None) -> None:
    folder = tmp_path / "cluster"
    assert "1 of 1 nodes ready" in command("up", folder)
    assert "1 of 1 nodes ready" in command("up", folder), "the second finds the first's"
    keeper = json.loads((folder / "keeper.json").read_text())["pid"]
    ours = namespaces("self")
    theirs = set().union(*(namespaces(pid) for pid in descendants(keeper))) - ours
    assert len(processes_in(theirs)) > 5
    if end == "killed":
        os.kill(keeper, signal.SIGKILL)
    assert "the cluster is gone" in command("down", folder)
    assert processes_in(theirs) == []
    assert not Path(f"/sys/class/net/rally{keeper}").exists()
    groups = [place / f"{cgroups.PREFIX}{keeper}" for place in cgroups.hierarchies()]
    assert not [group for group in groups if group.exists()]
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert not folder.exists()
    assert "no cluster runs" in command("down", folder)
