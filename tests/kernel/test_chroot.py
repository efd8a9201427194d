"""An image without a shell, a compiler or LLVM is enough: interpreter, libbpf and the object."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kernel import rig

from rallypoint.probe import build

pytestmark = pytest.mark.usefixtures("allowed")
SCRIPT = """
set -e
root=$1; shift
mount -t tmpfs none "$root"
mkdir -p "$root/usr" "$root/tmp" "$root/proc" "$root/sys"
mkdir "$root/dev"; touch "$root/dev/null"; mount --bind /dev/null "$root/dev/null"
for name in bin lib lib64; do
  if [ -L "/$name" ]; then ln -s "usr/$name" "$root/$name"; fi
done
for folder in "$@"; do mkdir -p "$root$folder"; mount --rbind "$folder" "$root$folder"; done
for hidden in "$root"/usr/lib/llvm-*; do
  if [ -d "$hidden" ]; then mount -t tmpfs none "$hidden"; fi
done
exec chroot "$root" "$PYTHON" -m rallypoint probe --once --json --seconds 0
"""


def test_it_runs_where_nothing_else_is(tmp_path: Path) -> None:
    if not shutil.which("unshare") or not shutil.which("chroot"):
        pytest.skip("no unshare or chroot")
    objects, root = tmp_path / "objects", tmp_path / "root"
    for folder in (objects, root):
        folder.mkdir()
    shutil.copyfile(build.object_file("socket"), objects / "socket.bpf.o")
    folders = ["/usr/lib", "/usr/lib64", "/proc", "/sys", sys.prefix, sys.base_prefix]
    folders += [str(rig.ROOT / "services"), str(objects)]
    chosen = [f for f in dict.fromkeys(folders) if Path(f).is_dir() and f != "/usr"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", SCRIPT, "sh", str(root), *chosen],
        env={
            "PATH": os.environ["PATH"],
            "PYTHON": sys.executable,
            "PYTHONPATH": str(rig.ROOT / "services"),
            "RALLYPOINT_PROBE_OBJECTS": str(objects),
        },
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["mode"], report["reason"]) == ("full", "")
