"""Compile protos/ into the git-ignored stub packages beside the hand-written code.

The proto path equals the Python import path, so nothing has to be rewritten. Run by `make`, by the
wheel build and by the tests; it does nothing while the stubs are newer than every .proto.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TARGET = ROOT.parent / "services"
PACKAGES = (
    "rallypoint/v1", "rallypoint/internal", "rallypoint/internal/v1", "rallypoint/internal/keda",
)  # fmt: skip


def stale(sources: list[Path]) -> bool:
    """Tell whether some .proto (or this script) is newer than the oldest stub."""
    stubs = [p for package in PACKAGES for p in (TARGET / package).glob("*_pb2.py")]
    if len(stubs) < len(sources):
        return True
    newest = max(p.stat().st_mtime for p in [*sources, Path(__file__)])
    return min(p.stat().st_mtime for p in stubs) < newest


def plugin(name: str) -> str:
    """Return the path of a protoc plug-in; it is not on PATH outside an activated environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        sys.exit(f"{name} is missing: install requirements/build.txt")
    return found


def compile_all(sources: list[Path]) -> None:
    """Run protoc once over all sources, with typed stubs."""
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}",
            f"--plugin=protoc-gen-mypy={plugin('protoc-gen-mypy')}",
            f"--plugin=protoc-gen-mypy_grpc={plugin('protoc-gen-mypy_grpc')}",
            f"--python_out={TARGET}", f"--grpc_python_out={TARGET}",
            f"--mypy_out=quiet:{TARGET}", f"--mypy_grpc_out=quiet:{TARGET}",
            *(str(p.relative_to(ROOT)) for p in sources),
        ],
        check=True,
        cwd=ROOT,
    )  # fmt: skip
    for package in PACKAGES:
        (TARGET / package / "__init__.py").write_text('"""Generated from protos/."""\n')


def main() -> None:
    """Regenerate when needed."""
    sources = sorted(ROOT.glob("rallypoint/**/*.proto"))
    if stale(sources):
        compile_all(sources)


if __name__ == "__main__":
    main()
