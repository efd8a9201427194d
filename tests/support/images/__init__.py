"""Build the images that the chart names, without a Docker engine and without a registry.

    python -m tests.support.images                  # build what is not cached, tell where it is
    python -m tests.support.images --dev            # … the target dev too
    python -m tests.support.images --arch arm64     # … ours, for another processor
    python -m tests.support.images <command …>      # … and run a command with RALLYPOINT_IMAGES

`built()` returns a folder with `images.json` and, for each image, an OCI layout (what a registry
would serve) and the same in an archive, for `ctr images import`. The cache lies outside the
checkout and is keyed by every file that goes in. Needs root, buildah and debootstrap.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rallypoint.cli import container
from tests.support import go
from tests.support.images import bases, processors
from tests.support.images.buildah import Buildah, fresh

HERE = Path(__file__).resolve().parent
SOURCES = (
    "Dockerfile", ".dockerignore", "clients/web", "images", "protos", "pyproject.toml",
    "requirements", "services", "tests/support/images", "tests/tools/builder",
    "tests/tools/otelcol",
)  # fmt: skip
VERSION = tomllib.loads((go.ROOT / "pyproject.toml").read_text())["project"]["version"]
KEPT = 4


@dataclass(frozen=True, slots=True)
class Image:
    """An image: what it is called here and in the chart, and the target that makes it."""

    name: str
    reference: str
    file: Path = go.ROOT / "Dockerfile"

    @property
    def target(self) -> str:
        """The stage of its Dockerfile."""
        return "runtime" if self.name == "services" else self.name


BROKERS = HERE / "brokers" / "Dockerfile"
IMAGES = (
    Image("services", f"rallypoint.dev/rallypoint:{VERSION}"),
    Image("probe", f"rallypoint.dev/probe:{VERSION}"),
    Image("nats", "docker.io/library/nats:2.15.1", BROKERS),
    Image("redis", "docker.io/library/redis:8.0", BROKERS),
    Image("redis-before", "docker.io/library/redis:6.2.14", BROKERS),
    Image("collector", "docker.io/otel/opentelemetry-collector-contrib:0.146.0", BROKERS),
)
BASE = "localhost/rallypoint-base"
DEV = Image("dev", f"rallypoint.dev/dev:{VERSION}")


def missing() -> str:
    """Say what this machine lacks to build images; nothing if it can."""
    if os.geteuid() != 0:
        return "building images needs root"
    lacking = [name for name in ("buildah", "debootstrap") if not shutil.which(name)]
    return f"building images needs {', '.join(lacking)}" if lacking else ""


def fingerprint() -> str:
    """Return a short hash of everything that goes into the images."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *SOURCES]
    listed = subprocess.run(command, cwd=go.ROOT, check=True, capture_output=True, text=True).stdout
    digest = hashlib.sha256()
    for name in sorted(filter(None, listed.split("\0"))):
        path = go.ROOT / name
        if path.is_file():
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def wanted(architecture: str, *, dev: bool) -> tuple[Image, ...]:
    """Return what to build: the brokers' programs, and what `dev` runs, are of this machine."""
    if architecture != processors.own():
        return tuple(image for image in IMAGES if image.file != BROKERS)
    return (*IMAGES, DEV) if dev else IMAGES


def home() -> Path:
    """Return where images are kept."""
    return go.cache() / "images"


def built(*, dev: bool = False, architecture: str = "") -> Path:
    """Return the folder of the images of this checkout, built when they are not in the cache."""
    architecture = architecture or processors.own()
    with _ready() as storage:
        before = fingerprint()
        name = before if architecture == processors.own() else f"{before}-{architecture}"
        made = home() / "built" / name
        listed = _listed(made)
        for image in wanted(architecture, dev=dev):
            if image.name not in listed:
                listed[image.name] = _made(storage, image, made, architecture)
                if fingerprint() != before:
                    raise RuntimeError("sources changed while an image was built: build again")
                (made / "images.json").write_text(json.dumps(listed, indent=1))
        os.utime(made)
        _forget(home() / "built")
    return made


@contextmanager
def mounted_dev() -> Iterator[container.Image]:
    """Build the target `dev`, which nobody ships, and see it as it lies in the storage."""
    with _ready() as storage:
        storage.build(
            go.ROOT, DEV.file, processors.own(),
            target=DEV.target, tag=DEV.reference, arguments={},
        )  # fmt: skip
    with storage.mounted(DEV.reference) as (root, config):
        yield container.laid_out(root, config)


def built_again(name: str) -> str:
    """Build an image with all that is compiled, generated or packed done again; its digest."""
    (image,) = (one for one in IMAGES if one.name == name)
    tag = f"localhost/rallypoint-again:{name}"
    with _ready() as storage:
        storage.build(
            go.ROOT, image.file, processors.own(), target=image.target, tag=tag,
            arguments={"VERSION": VERSION, "AGAIN": secrets.token_hex(8)},
        )  # fmt: skip
        return storage.identity(tag)


def _listed(made: Path) -> dict[str, dict[str, object]]:
    made.mkdir(parents=True, exist_ok=True)
    path = made / "images.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _forget(folder: Path) -> None:
    for old in sorted(folder.iterdir(), key=lambda path: -path.stat().st_mtime)[KEPT:]:
        shutil.rmtree(old)


@contextmanager
def _ready() -> Iterator[Buildah]:
    """Have the bases in the storage; one process builds at a time."""
    home().mkdir(parents=True, exist_ok=True)
    with (home() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        storage = Buildah(home() / "storage")
        _bases(storage)
        yield storage


def _made(storage: Buildah, image: Image, made: Path, architecture: str) -> dict[str, object]:
    """Build one image and write it in both forms."""
    begin = time.monotonic()
    go.say(f"building image {image.reference} for {architecture}")
    with _context(image) as context:
        storage.build(
            context, image.file, architecture, target=image.target, tag=image.reference,
            arguments={"VERSION": VERSION} if image.file != BROKERS else {},
        )  # fmt: skip
    layout, archive = made / image.name, made / f"{image.name}.tar"
    shutil.rmtree(layout, ignore_errors=True)
    archive.unlink(missing_ok=True)
    storage.push(image.reference, f"oci:{layout}:{image.reference}")
    write_archive(layout, archive, image.reference)
    size = compressed_bytes(layout)
    go.say(f"built {image.name}: {size / 1e6:.1f} MB, {time.monotonic() - begin:.0f} s")
    return {
        "reference": image.reference,
        "archive": archive.name,
        "layout": layout.name,
        "compressed_bytes": size,
        "id": storage.identity(image.reference),
    }


def write_archive(layout: Path, archive: Path, reference: str) -> None:
    """Write a layout as an archive that gives the image its name wherever it is imported."""
    path = layout / "index.json"
    index = json.loads(path.read_text())
    for manifest in index["manifests"]:
        manifest["annotations"] |= {"io.containerd.image.name": reference}
    path.write_text(json.dumps(index))
    with tarfile.open(archive, "w") as written:
        for name in ("oci-layout", "index.json", "blobs"):
            written.add(layout / name, name)


def _bases(storage: Buildah) -> None:
    """Make the bases unless they are there, as this version of their recipe makes them."""
    made = home() / "bases.recipe"
    if made.exists() and made.read_text() == bases.recipe():
        storage.trim()
        if storage.has(bases.PYTHON) and storage.has(bases.DISTROLESS):
            return
    if reason := missing():
        raise RuntimeError(reason)
    go.say("making the base images from Debian's packages")
    path = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    with fresh(home() / "bases") as folder:
        tools = folder / "slim"
        bases.slim(tools)
        storage.import_root(tools, bases.PYTHON, processors.own(), env=path, cmd="python3")
        for name in processors.NUMBERS:
            bases.distroless(folder / name, tools, name)
            storage.import_root(
                folder / name, f"{BASE}:{name}", name, env="LANG=C.UTF-8", user="65532",
                entrypoint='["/usr/bin/python3.13"]', workingdir="/home/nonroot",
            )  # fmt: skip
    storage.join(bases.DISTROLESS, [f"{BASE}:{name}" for name in processors.NUMBERS])
    made.write_text(bases.recipe())


@contextmanager
def _context(image: Image) -> Iterator[Path]:
    """Return the folder that an image is built from: the checkout, or the brokers' programs."""
    if image.file != BROKERS:
        yield go.ROOT
        return
    with fresh(home() / "context") as folder:
        for name in ("nats-server", "redis-server"):
            shutil.copy(Path(sys.executable).parent / name, folder / name)
        shutil.copy(go.tool("otelcol"), folder / "otelcol")
        yield folder


def compressed_bytes(layout: Path) -> int:
    """Return what a registry would serve of an OCI layout: the sum of its layers."""
    blobs = layout / "blobs" / "sha256"
    index = json.loads((layout / "index.json").read_text())
    (manifest,) = index["manifests"]
    described = json.loads((blobs / manifest["digest"].removeprefix("sha256:")).read_text())
    return sum(layer["size"] for layer in described["layers"])


def main(command: list[str]) -> int:
    """Build, tell, and run a command with the images if one is given."""
    asked = argparse.ArgumentParser(prog="python -m tests.support.images", allow_abbrev=False)
    asked.add_argument("--dev", action="store_true", help="the target dev too")
    asked.add_argument("--arch", default=processors.own(), choices=sorted(processors.NUMBERS))
    asked.add_argument("command", nargs=argparse.REMAINDER)
    given = asked.parse_args(command)
    if not given.command and (reason := missing()):
        print(f"no images: {reason}")  # the tests that want them are skipped, and say so
        return 0
    folder = built(dev=given.dev, architecture=given.arch)
    if words := given.command:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "RALLYPOINT_IMAGES": str(folder)}
        return subprocess.run(words, env=environment, check=False).returncode
    for name, told in json.loads((folder / "images.json").read_text()).items():
        print(f"{name:10} {told['compressed_bytes'] / 1e6:6.1f} MB  {told['reference']}")
    print(folder)
    return 0
