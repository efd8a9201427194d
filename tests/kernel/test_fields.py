"""Other kernels' types, played by programs that ask this one for fields under other names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.kernel import rig
from tests.kernel.peer import Part
from tests.support.cgroups import container

from rallypoint.probe import build

pytestmark = pytest.mark.usefixtures("namespaces")
OLD_NAME = (("__parent", "__gone"), ("*parent;", "*__parent;"), ("old->parent", "old->__parent"))
"""Here the old name is the one that the kernel has, and the new one is what it lacks."""


def programs(folder: Path, *changes: tuple[str, str]) -> Path:
    """The object of changed sources."""
    sources, made = folder / "bpf", folder / "made"
    shutil.copytree(build.SOURCES, sources)
    made.mkdir()
    for file in sources.glob("*.bpf.h"):
        text = file.read_text()
        for old, new in changes:
            text = text.replace(old, new)
        file.write_text(text)
    out = str(made / "socket.bpf.o")
    subprocess.run(
        ["clang", *build.FLAGS, "-c", str(sources / "socket.bpf.c"), "-o", out], check=True
    )
    return made


def begin(objects: Path, port: int, **settings: str) -> subprocess.Popen[str]:
    """The probe with these programs."""
    told = {"OBJECTS": str(objects), "SCOPE": "all", **settings}
    command = [sys.executable, "-m", "rallypoint", "probe", "--once", "--json", "--port", str(port)]
    environ = {f"RALLYPOINT_PROBE_{name}": value for name, value in told.items()}
    return subprocess.Popen(
        [*command, "--seconds", settings.get("SECONDS", "0")],
        env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True, cwd=rig.ROOT,
    )  # fmt: skip


def test_a_field_is_found_by_the_name_that_older_kernels_have(
    pods: Path, port: int, tmp_path: Path
) -> None:
    changed = programs(tmp_path, *OLD_NAME)
    uid = str(uuid.uuid4())
    with (
        container(pods, uid, uuid.uuid4().hex * 2) as serving,
        rig.peer(Part("serve_echo", port=port, cgroup=str(serving))),
    ):
        settings = {"SCOPE": "pods", "CGROUP_ROOT": str(pods.parents[1]), "SECONDS": "4"}
        probe = begin(changed, port, **settings)
        with rig.peer(Part("ask", port=port, count=200, gap_ms=25)):
            report: dict[str, Any] = json.loads(probe.communicate(timeout=60)[0])
    assert report["mode"] == "full"
    (one,) = report["series"]  # who asks is in no pod
    assert (one["pod"], one["role"]) == (uid, "server")


def test_a_field_that_a_kernel_lacks_is_a_step_down_and_no_crash(port: int, tmp_path: Path) -> None:
    probe = begin(programs(tmp_path, ("rtt_us", "rtt_gone")), port)
    report = json.loads(probe.communicate(timeout=60)[0])
    assert probe.returncode == 0
    assert report["mode"] == "inet_diag"
    assert report["reason"].startswith("BPF_REFUSED")
