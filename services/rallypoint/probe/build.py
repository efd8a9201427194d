"""Compile the BPF programs with clang into a cache, named by what they are made of.

An image ships them instead (RALLYPOINT_PROBE_OBJECTS names the folder): nothing is compiled there.
The object fits every kernel: it says which fields it reads, and the loader relocates them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rallypoint.kit import errors

SOURCES: Final = Path(__file__).parent / "bpf"
FLAGS: Final = ("-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror")
OBJECTS: Final = "RALLYPOINT_PROBE_OBJECTS"
CACHE: Final = "RALLYPOINT_CACHE"
COMPILE_S: Final = 60.0


def object_file(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The object of `<name>.bpf.c`, compiled if nobody has yet.

    FailedPrecondition NO_CLANG where there is neither an object nor a compiler.
    """
    if folder := environ.get(OBJECTS):
        return Path(folder) / f"{name}.bpf.o"
    made = cache(environ) / f"{name}-{_fingerprint(name)}.bpf.o"
    if not made.exists():
        _compile(SOURCES / f"{name}.bpf.c", made)
    return made


def cache(environ: Mapping[str, str]) -> Path:
    """Where compiled objects lie."""
    default = Path(environ.get("HOME", tempfile.gettempdir())) / ".cache" / "rallypoint"
    return Path(environ.get(CACHE, default)) / "probe"


def _fingerprint(name: str) -> str:
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in (SOURCES / f"{name}.bpf.c", *sorted(SOURCES.glob("*.bpf.h"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(source: Path, made: Path) -> None:
    clang = shutil.which("clang")
    if clang is None:
        raise errors.FailedPrecondition("NO_CLANG", "no clang, and no object built before")
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        fresh = Path(folder) / made.name
        done = subprocess.run(
            [clang, *FLAGS, "-c", str(source), "-o", str(fresh)],
            capture_output=True,
            text=True,
            timeout=COMPILE_S,
            check=False,
        )
        if done.returncode:
            raise errors.Internal("COMPILE_FAILED", done.stderr.strip())
        fresh.replace(made)


def main() -> int:
    """`python -m rallypoint.probe.build [folder]`: compile all, into the cache or a folder."""
    for source in sorted(SOURCES.glob("*.bpf.c")):
        name = source.name.removesuffix(".bpf.c")
        try:
            made = object_file(name, {**os.environ, OBJECTS: ""})
        except (errors.RallypointError, OSError, subprocess.TimeoutExpired) as error:
            print(f"the probe is not compiled, all else works: {error}")
            return 0
        if len(sys.argv) > 1:
            shutil.copyfile(made, Path(sys.argv[1]) / f"{name}.bpf.o")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
