"""Make what an image ships from what was installed: pruned, stripped, compiled, listed.

Run by the Dockerfile. /app/lib and /probe/lib hold what pip installed, /base what lies in the base
image. The root of a container is read-only, so byte code that is not there is compiled at each
start: modules are worth 0.7 s, and so is the base's own library, whose byte code goes to /stdlib.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import sbom

SOURCE = Path(__file__).resolve().parent.parent
BASE = Path("/base/lib/python3.13")
PRUNED = (
    "bin",
    "**/tests",
    "**/__pycache__",
    "**/*.pyi",
    "**/*.py[xd]",
    "**/*.pxd",
    "**/*.[ch]",
    "numpy/f2py",
    "numpy/doc",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/random/lib",
    "numpy/_core/*_tests*.so",
    "numpy/_core/_simd*.so",
)
PROBE_PARTS = ("__init__.py", "__main__.py", "cli", "kit", "kube", "probe")
UNUSED_STDLIB = (
    "test", "idlelib", "tkinter", "turtledemo", "ensurepip", "pydoc_data", "lib2to3", "unittest",
    "sqlite3", "curses", "dbm", "venv", "xmlrpc", "__phello__", "_pyrepl",
)  # fmt: skip
USED_ENCODINGS = (
    "__init__", "aliases", "ascii", "idna", "latin_1", "utf_8", "cp437", "unicode_escape",
    "raw_unicode_escape",
)  # fmt: skip


def prune(folder: Path) -> None:
    """Remove what no service reads."""
    for pattern in PRUNED:
        for path in sorted(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def strip(folder: Path) -> None:
    """Remove the symbols that only debuggers read."""
    for path in sorted(folder.rglob("*.so*")):
        subprocess.run(["strip", "--strip-unneeded", str(path)], check=True)


def refuse_uncompiled(folder: Path) -> None:
    """Refuse an image whose hot paths would run in Python: at install a compiler is optional."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())
    for module in project["tool"]["setuptools"]["ext-modules"]:
        path = module["name"].replace(".", "/")
        if not list(folder.glob(f"{path}.*.so")):
            sys.exit(f"{module['name']} was not compiled")


def compiled(folder: Path, shown: str) -> None:
    """Compile a tree whose files will lie in `shown`; nobody compares sources at run time."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    done = compileall.compile_dir(
        folder, quiet=1, force=True, stripdir=str(folder), prependdir=shown, invalidation_mode=mode
    )
    if not done:
        sys.exit(f"{folder} does not compile")


def standard_library(target: Path) -> None:
    """Write the byte code of the base's modules, as a tree to be laid over it."""
    for name in UNUSED_STDLIB:
        shutil.rmtree(BASE / name, ignore_errors=True)
    for path in (BASE / "encodings").glob("*.py"):
        if path.stem not in USED_ENCODINGS:
            path.unlink()
    compiled(BASE, "/usr/lib/python3.13")
    for path in sorted(BASE.rglob("*.pyc")):
        place = target / path.relative_to(BASE)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def probe_package(services: Path, probe: Path) -> None:
    """Give the probe the parts of our package that it imports."""
    for name in PROBE_PARTS:
        source, target = services / "rallypoint" / name, probe / "rallypoint" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
    for path in [*probe.glob("rallypoint/*/*.so"), *probe.glob("rallypoint/probe/bpf")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in services.glob("rallypoint-*.dist-info"):
        shutil.copytree(path, probe / path.name)


def refuse_missing(paths: Iterable[Path]) -> None:
    """Refuse an image without a file that it is there for."""
    for path in paths:
        if not path.is_file() or not path.stat().st_size:
            sys.exit(f"{path} was not built")


def main() -> None:
    """Pack both images."""
    services, probe = Path("/app/lib"), Path("/probe/lib")
    programs = sorted((SOURCE / "services/rallypoint/probe/bpf").glob("*.bpf.c"))
    refuse_missing(Path("/probe/bpf") / f"{path.name[:-2]}.o" for path in programs)
    refuse_missing([Path("/app/web/index.html")])
    refuse_uncompiled(services)
    for folder in (services, probe):
        prune(folder)
    probe_package(services, probe)
    for folder in (services, probe):
        strip(folder)
        compiled(folder, "/app/lib")
        sbom.write(folder.parent / "sbom.cdx.json", folder, Path("/base/status.d"))
    standard_library(Path("/stdlib"))


if __name__ == "__main__":
    main()
