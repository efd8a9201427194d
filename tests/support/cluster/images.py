"""Images without a registry: archives that are imported on every node."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support import go

PAUSE: Final = "rallypoint.dev/pause:1"


def pause(folder: Path) -> Path:
    """Return an archive of the image that holds a pod's namespaces: one static program."""
    return from_files(
        folder / "pause.tar", PAUSE, {"pause": go.tool("pause")}, entrypoint=("/pause",)
    )


def from_files(
    archive: Path, name: str, files: dict[str, Path], *, entrypoint: Sequence[str]
) -> Path:
    """Write an image of one layer that holds some files."""
    layer = _tar({where: (path.read_bytes(), 0o755) for where, path in files.items()})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    archive.write_bytes(
        _tar(
            {
                "config.json": (json.dumps(config).encode(), 0o644),
                "layer.tar": (layer, 0o644),
                "manifest.json": (json.dumps(manifest).encode(), 0o644),
            }
        )
    )
    return archive


def _tar(members: dict[str, tuple[bytes, int]]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, (content, mode) in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return whole.getvalue()
