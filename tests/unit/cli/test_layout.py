"""Layers of images: how they are packed is read from their media types, and they are unpacked."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from rallypoint.cli import datadir, layout

OCI = "application/vnd.oci.image.layer.v1.tar"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar"
PACKED = {
    OCI: "none",
    f"{OCI}+gzip": "gzip",
    f"{OCI}+zstd": "zstd",
    f"{DOCKER}.gzip": "gzip",
}


def _layer(folder: Path, media_type: str) -> layout.Layer:
    """A layer that holds one file with a link to it, packed as its type says."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as files:
        member = tarfile.TarInfo("app/told")
        member.size = 5
        files.addfile(member, io.BytesIO(b"hello"))
        link = tarfile.TarInfo("app/again")
        link.type, link.linkname = tarfile.LNKTYPE, "app/told"
        files.addfile(link)
    blob, content = folder / "blob", plain.getvalue()
    if media_type.endswith("gzip"):
        content = gzip.compress(content)
    if media_type.endswith("zstd"):
        if not shutil.which("zstd"):
            pytest.skip("the program zstd is not installed")
        command = ["zstd", "--quiet", "--stdout"]
        content = subprocess.run(command, input=content, check=True, capture_output=True).stdout
    blob.write_bytes(content)
    return layout.Layer(blob, media_type, len(content))


@pytest.mark.parametrize("media_type", PACKED)
def test_layer_is_unpacked_as_its_type_says(tmp_path: Path, media_type: str) -> None:
    layer = _layer(tmp_path, media_type)

    layer.unpack(tmp_path / "root")

    assert layer.packed == PACKED[media_type]
    assert (tmp_path / "root/app/told").read_text() == "hello"
    assert (tmp_path / "root/app/again").read_text() == "hello"


@pytest.mark.parametrize("media_type", PACKED)
def test_weight_as_gzip_does_not_depend_on_how_it_is_packed(
    tmp_path: Path, media_type: str
) -> None:
    plain = _layer(tmp_path, OCI).blob.read_bytes()

    assert _layer(tmp_path, media_type).gzip_bytes() == len(gzip.compress(plain, 9))


@pytest.mark.parametrize("media_type", PACKED)
def test_broken_layer_is_refused(tmp_path: Path, media_type: str) -> None:
    layer = _layer(tmp_path, media_type)
    whole = layer.blob.read_bytes()
    layer.blob.write_bytes(whole[: len(whole) // 20])

    with pytest.raises(datadir.Refused, match="cannot be unpacked"):
        layer.unpack(tmp_path / "root")


def test_program_that_unpacks_is_named_where_it_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = _layer(tmp_path, f"{OCI}+zstd")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(datadir.Refused, match="install the program `zstd`"):
        layer.unpack(tmp_path / "root")


def test_unknown_packing_is_refused(tmp_path: Path) -> None:
    layer = layout.Layer(tmp_path / "blob", f"{OCI}+encrypted", 0)

    with pytest.raises(datadir.Refused, match="encrypted"):
        layer.unpack(tmp_path / "root")


def test_layout_names_its_layers_and_how_they_are_packed(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layers = [
        {"mediaType": f"{OCI}+{kind}", "digest": f"sha256:{kind}", "size": 7}
        for kind in ("gzip", "zstd")
    ]
    (blobs / "manifest").write_text(
        json.dumps({"layers": layers, "config": {"digest": "sha256:config"}})
    )
    (blobs / "config").write_text(json.dumps({"config": {"User": "65532"}}))
    index = {"manifests": [{"digest": "sha256:manifest"}]}
    (tmp_path / "index.json").write_text(json.dumps(index))

    found = layout.read(tmp_path)

    assert [(one.blob, one.size_bytes) for one in found.layers] == [
        (blobs / "gzip", 7),
        (blobs / "zstd", 7),
    ]
    assert (found.packed, found.config) == ("gzip+zstd", {"User": "65532"})
