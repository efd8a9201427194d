"""The runner's own messages, compiled from its Go module into the cache.

Imported as `connectrpc.conformance.v1`; an installed package `connectrpc` would hide them, so the
test environment must not have one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support import go

TOOL = "connectconformance"
MODULE = "connectrpc.com/conformance"
_FILES = ("config", "service", "server_compat")


def compile_stubs() -> Path:
    """Return the folder to put on the path; compiled once per version of the module."""
    source = go.module_folder(TOOL, MODULE) / "proto"
    target = go.cache() / "stubs" / source.parent.name
    if not (target / "complete").exists():
        _compile(source, target)
    return target


def _compile(source: Path, target: Path) -> None:
    from grpc_tools import protoc

    target.mkdir(parents=True, exist_ok=True)
    names = [f"connectrpc/conformance/v1/{name}.proto" for name in _FILES]
    paths = [f"-I{source}", f"-I{_well_known()}", f"--python_out={target}"]
    if protoc.main(["protoc", *paths, *names]):
        raise RuntimeError("the conformance protos cannot be compiled")
    (target / "complete").touch()


def _well_known() -> Path:
    import grpc_tools

    return Path(grpc_tools.__file__).parent / "_proto"


if __name__ == "__main__":
    sys.stdout.write(f"{compile_stubs()}\n")
