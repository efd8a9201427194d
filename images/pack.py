"""Make what an image ships from what was installed: pruned, stripped, compiled, listed.

Run by the Dockerfile. /app/lib and /probe/lib hold what pip installed, /base is the base image,
/root-fs becomes what images start from, and /probe-fs what the probe has besides. The root of a
container is read-only, so byte code that is not there would be compiled at each start: modules are
worth 0.7 s.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import bytecode
import libbpf
import root
import sbom

SOURCE = Path(__file__).resolve().parent.parent
PRUNED = (
    "bin",
    "**/tests",
    "**/__pycache__",
    "**/*.pyi",
    "**/*.py[xd]",
    "**/*.pxd",
    "**/*.[ch]",
    "*.dist-info/RECORD",
    "numpy/f2py",
    "numpy/doc",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/random/lib",
    "numpy/_core/*_tests*.so",
    "numpy/_core/_simd*.so",
)
PROBE_PARTS = ("__init__.py", "__main__.py", "cli", "kit", "kube", "probe")


def prune(folder: Path) -> None:
    """Remove what no service reads."""
    for pattern in PRUNED:
        for path in sorted(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def shorten_metadata(folder: Path) -> None:
    """Cut what distributions tell of themselves to what is read by machines."""
    for path in folder.glob("*.dist-info/METADATA"):
        path.write_bytes(path.read_bytes().partition(b"\n\n")[0] + b"\n\n")


def trust_the_base(folder: Path) -> None:
    """Have gRPC trust whom the base trusts, not a list of its own."""
    for path in folder.glob("grpc/_cython/_credentials/roots.pem"):
        path.unlink()
        path.symlink_to("/etc/ssl/certs/ca-certificates.crt")


def refuse_uncompiled(folder: Path) -> None:
    """Refuse an image whose hot paths would run in Python: at install a compiler is optional."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())
    for module in project["tool"]["setuptools"]["ext-modules"]:
        path = module["name"].replace(".", "/")
        if not list(folder.glob(f"{path}.*.so")):
            sys.exit(f"{module['name']} was not compiled")


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
        shorten_metadata(folder)
        trust_the_base(folder)
    for path in Path("/app/web").rglob("*.map"):
        path.unlink()
    probe_package(services, probe)
    for folder in (services, probe):
        for path in sorted(folder.rglob("*.so*")):
            root.strip(path)
        bytecode.only(folder, "/app/lib")
    made = Path("/root-fs")
    root.make(Path("/base"), made, (services, probe))
    more = Path("/probe-fs")
    libbpf.take(more, made)
    pages = Path("/app/web")
    sbom.write(services.parent / "sbom.cdx.json", services, made / root.STATUS, pages=pages)
    sbom.write(probe.parent / "sbom.cdx.json", probe, made / root.STATUS, more / root.STATUS)


if __name__ == "__main__":
    main()
