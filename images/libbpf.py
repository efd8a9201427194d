"""Give the probe what no base has: libbpf and what it is linked with, as Debian ships them.

They lie where the loader looks, and are listed with dpkg's packages, so that the SBOM names them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import root

LIBRARY = "libbpf.so.1"
TRIPLET = sysconfig.get_config_var("MULTIARCH")
"""Of the processor that the image is for; libraries of the one that builds lie beside."""
FOLDER = f"usr/lib/{TRIPLET}"


def take(made: Path, base: Path) -> None:
    """Take the library and what it needs that the root to be has not."""
    asking, taken = [LIBRARY], set[str]()
    while asking:
        name = asking.pop()
        if name in taken or name.startswith("/") or (base / FOLDER / name).exists():
            continue
        taken.add(name)
        found = _found(name)
        target = made / found.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(found, target)
        root.strip(target)
        _list(made, name)
        asking += root.needed(found)


def _found(name: str) -> Path:
    path = Path("/") / FOLDER / name
    return path if path.exists() else sys.exit(f"the build stage has no {name}")


def _list(made: Path, name: str) -> None:
    """List the package that a library is of, with its copyright file."""
    found = _asked("--search", f"*/{TRIPLET}/{name}").partition(": ")[0]
    package = found.partition(":")[0]
    status, paper = made / root.STATUS / package, f"usr/share/doc/{package}/copyright"
    for path in (status, made / paper):
        path.parent.mkdir(parents=True, exist_ok=True)
    status.write_text(_asked("--status", found))
    shutil.copy2(Path("/") / paper, made / paper)


def _asked(*words: str) -> str:
    command = ["dpkg-query", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
