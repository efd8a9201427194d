"""Images as a registry would serve them: OCI layouts, read without an engine.

How a layer is packed is read from its media type. Python unpacks gzip itself; of zstd it knows
nothing before 3.14, so that the program `zstd` does it.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from rallypoint.cli import datadir

_CHUNK_BYTES = 1 << 20
_GZIP_FRAME = 31
"""What zlib calls a window of 32 KiB with gzip's header."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A tar of files, packed."""

    blob: Path
    media_type: str
    size_bytes: int

    @property
    def packed(self) -> str:
        """How: `gzip`, `zstd`, or `none`."""
        kind = self.media_type.rpartition("tar")[2]
        return kind.lstrip("+.") or "none"

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The tar; Refused when it cannot be unpacked."""
        if self.packed == "none":
            with self.blob.open("rb") as plain:
                yield plain
        elif self.packed == "gzip":
            with gzip.open(self.blob) as unpacked:
                yield cast("IO[bytes]", unpacked)
        elif self.packed == "zstd":
            with _zstd(self.blob) as plain:
                yield plain
        else:
            raise datadir.Refused(f"nobody here unpacks a layer of the type {self.media_type}")

    def unpack(self, root: Path) -> None:
        """Lay its files into a folder; Refused when it is broken."""
        try:
            with self.opened() as plain:
                with tarfile.open(fileobj=plain, mode="r|", bufsize=_CHUNK_BYTES) as files:
                    files.extractall(root, filter="fully_trusted")  # noqa: S202  # we built it
                for _ in _chunks(plain):  # else who unpacks would be cut off, and say so
                    pass
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise datadir.Refused(f"a layer cannot be unpacked: {error}") from error

    def gzip_bytes(self) -> int:
        """What it would weigh as gzip at its highest level."""
        packer, size = zlib.compressobj(9, wbits=_GZIP_FRAME), 0
        with self.opened() as plain:
            for chunk in _chunks(plain):
                size += len(packer.compress(chunk))
        return size + len(packer.flush())


@dataclass(frozen=True, slots=True)
class Layout:
    """One image of a layout, for one platform."""

    layers: tuple[Layer, ...]
    config: Mapping[str, Any]
    architecture: str

    @property
    def packed(self) -> str:
        """How its layers are packed."""
        return "+".join(sorted({layer.packed for layer in self.layers}))


def read(folder: Path) -> Layout:
    """Read the layout of an image."""
    (manifest,) = json.loads((folder / "index.json").read_text())["manifests"]
    described = json.loads(_blob(folder, manifest).read_text())
    layers = tuple(
        Layer(_blob(folder, one), one["mediaType"], one["size"]) for one in described["layers"]
    )
    told = json.loads(_blob(folder, described["config"]).read_text())
    return Layout(layers, told["config"], str(told.get("architecture", "")))


def _blob(folder: Path, described: Mapping[str, Any]) -> Path:
    return folder / "blobs" / "sha256" / str(described["digest"]).removeprefix("sha256:")


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK_BYTES):
        yield chunk


@contextlib.contextmanager
def _zstd(blob: Path) -> Iterator[IO[bytes]]:
    """What `zstd` unpacks; Refused when it could not, once all was read."""
    if not shutil.which("zstd"):
        raise datadir.Refused("layers are packed with zstd: install the program `zstd`")
    command = ["zstd", "--decompress", "--stdout", "--quiet", str(blob)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        yield process.stdout
        process.stdout.close()
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise datadir.Refused(f"a layer cannot be unpacked: {said}")
