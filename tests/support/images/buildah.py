"""buildah without a daemon, with its storage in our cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.images import processors

LAYERS_MOST = 250
"""Some 10 GB; a change of the sources adds a handful."""
ZSTD_LEVEL = 20
"""All from 10 on are the same to the library that engines in Go pack with: its best, which is what
`zstd -11` makes. `zstd -19` would save another tenth, and five times the seconds."""
MOUNTED = (Path("/etc/ssl/certs"), Path("/etc/pip.conf"))
"""What a machine may need to reach its registries: seen by the build, left in no image."""
NPM = Path.home() / ".npmrc"


class Buildah:
    """One storage of images and layers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def build(
        self,
        context: Path,
        file: Path,
        architecture: str,
        *,
        target: str,
        tag: str,
        arguments: Mapping[str, str],
    ) -> None:
        """Build a target of a Dockerfile for a processor; layers are kept for the next time."""
        seen = {path: path for path in MOUNTED if path.exists()} | {self._npm(): NPM}
        mounts = [word for item in seen.items() for word in ("-v", f"{item[0]}:{item[1]}:ro")]
        told = {**_platforms(architecture), **arguments}
        given = [word for item in told.items() for word in ("--build-arg", "=".join(item))]
        command = ["bud", "--layers", "--timestamp", "0", "--pull-never", "--network", "host"]
        command += ["--format", "oci", "--arch", architecture, *mounts, *given]
        command += ["--target", target, "--tag", tag]
        self.does(*command, "--file", str(file), str(context))

    def _npm(self) -> Path:
        """Write how npm reaches its registry: as it does here, with the CA that Node is told."""
        own = NPM.read_text() if NPM.exists() else ""
        authority = os.environ.get("NODE_EXTRA_CA_CERTS", "")
        path = self._folder / "npmrc"
        path.touch(mode=0o600)  # it may hold a token
        path.write_text(own + (f"\ncafile={authority}\n" if authority else ""))
        return path

    def import_root(self, root: Path, tag: str, architecture: str, **settings: str) -> None:
        """Make an image of one layer from a folder."""
        platform = ("--arch", architecture)
        container = self.does("from", *platform, "scratch").strip()
        self.does("add", container, f"{root}/", "/")
        flags = [f"--{name}={value}" for name, value in settings.items()]
        self.does("config", *platform, *flags, container)
        self.does("commit", "--rm", "--timestamp", "0", "--format", "oci", container, tag)

    def join(self, tag: str, images: Sequence[str]) -> None:
        """Make one name for images of several processors, as a registry has it."""
        # What bore the name before: `rmi` takes, of a list, what it names, and leaves the list.
        if self._run("manifest", "rm", tag).returncode:
            self._run("rmi", "--force", tag)
        self.does("manifest", "create", tag)
        for image in images:
            self.does("manifest", "add", tag, f"containers-storage:{image}")

    def push(self, tag: str, target: str) -> None:
        """Write an image to a place such as oci:<folder>, its layers packed as zstd."""
        packing = ("--compression-format", "zstd", "--compression-level", str(ZSTD_LEVEL))
        self.does("push", *packing, tag, target)

    def has(self, tag: str) -> bool:
        """Tell whether the storage holds an image."""
        return self._run("inspect", "--type", "image", tag).returncode == 0

    @contextmanager
    def mounted(self, tag: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """See an image's files without writing it anywhere; and its configuration."""
        shown = json.loads(self.does("inspect", "--type", "image", tag))
        container = self.does("from", "--pull-never", tag).strip()
        try:
            yield Path(self.does("mount", container).strip()), shown["OCIv1"]["config"]
        finally:
            self.does("rm", container)

    def identity(self, tag: str) -> str:
        """Return the digest of an image's configuration: equal for equal images."""
        return self.does("inspect", "--type", "image", "--format", "{{.FromImageID}}", tag).strip()

    def trim(self) -> None:
        """Forget everything once there are too many layers."""
        layers = self._folder / "root" / "overlay"
        if layers.exists() and sum(1 for _ in layers.iterdir()) > LAYERS_MOST:
            self.does("rmi", "--all", "--force")

    def does(self, *words: str) -> str:
        """Run buildah, which must succeed, and return what it printed."""
        done = self._run(*words)
        if done.returncode:
            said = (done.stdout + done.stderr)[-6000:]
            raise RuntimeError(f"buildah {words[0]} ended with {done.returncode}\n{said}")
        return done.stdout

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}
        places = ["--root", str(self._folder / "root"), "--runroot", str(self._folder / "run")]
        command: Sequence[str] = ["buildah", *places, *words]
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )  # fmt: skip


def _platforms(architecture: str) -> dict[str, str]:
    """What builders tell a Dockerfile by themselves: buildah 1.28 knows no BUILDPLATFORM in FROM,
    and says of a stage with a platform of its own that this is what is asked for."""
    return {"BUILDPLATFORM": f"linux/{processors.own()}", "TARGETARCH": architecture}


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """Return an empty folder that is removed afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
