"""Run an image as a pod would, with runc alone: no daemon, no registry, no network of its own.

    with container.unpacked(images, "services") as image:
        with image.started(["fleet"], environment={…}) as running:
            running.signal(signal.SIGTERM); running.wait(10.0)      # the exit code

An image is an OCI layout. Its process is PID 1, has no capability and no new privileges, its root
is read-only and /tmp is empty. It shares the network of whoever runs it, so that loopback is ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rallypoint.cli import layout

_PR_SET_CHILD_SUBREAPER = 36
_NAMESPACES = ("pid", "mount", "ipc", "uts")
_MASKED = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware")
_POLL_S = 0.005


class ContainerFailed(Exception):
    """runc refused; the text is what it said."""


def missing() -> str:
    """Say what this machine lacks to run containers; nothing if it can."""
    if os.geteuid() != 0:
        return "running containers needs root"
    lacking = [name for name in ("runc", "zstd") if not shutil.which(name)]
    return f"unpacking and running images needs {', '.join(lacking)}" if lacking else ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image whose files lie in a folder."""

    root: Path
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    user: tuple[int, int]
    folder: str
    labels: Mapping[str, str]

    @contextlib.contextmanager
    def started(
        self,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        shared: Sequence[Path] = (),
        output: Path | None = None,
    ) -> Iterator[Running]:
        """Run it; `shared` folders are seen where they are. It is gone on leaving."""
        name = f"rallypoint-{uuid.uuid4().hex[:12]}"
        with tempfile.TemporaryDirectory(prefix="rallypoint-container-") as bundle:
            spec = self._spec(arguments, environment or {}, shared)
            Path(bundle, "config.json").write_text(json.dumps(spec))
            running = Running(name, Path(bundle), output or Path(bundle, "output"))
            try:
                running.start()
                yield running
            finally:
                running.remove()

    def _spec(
        self, arguments: Sequence[str], environment: Mapping[str, str], shared: Sequence[Path]
    ) -> dict[str, Any]:
        told = {**self.environment, **environment}
        uid, gid = self.user
        process = {
            "terminal": False,
            "user": {"uid": uid, "gid": gid},
            "args": [*self.entrypoint, *(arguments or self.command)],
            "env": [f"{name}={value}" for name, value in told.items()],
            "cwd": self.folder or "/",
            "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True,
        }
        return {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": str(self.root), "readonly": True},
            "hostname": "container",
            "mounts": [*_mounts(), *(_bound(path) for path in shared)],
            "linux": {
                "namespaces": [{"type": kind} for kind in _NAMESPACES],
                "maskedPaths": list(_MASKED),
                "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            },
        }


class Running:
    """A container's first process."""

    def __init__(self, name: str, bundle: Path, output: Path) -> None:
        self.name = name
        self.output = output
        self.pid = 0
        self.started_s = 0.0
        self._bundle = bundle
        self._code: int | None = None

    def start(self) -> None:
        """Create the container, then let it run: from there time counts."""
        pid_file = self._bundle / "pid"
        bundle = ("--bundle", str(self._bundle), "--pid-file", str(pid_file))
        with self.output.open("ab") as sink, _adopting():
            self._runc("create", *bundle, self.name, output=sink.fileno())
        self.pid = int(pid_file.read_text())
        self.started_s = time.monotonic()
        self._runc("start", self.name)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        os.kill(self.pid, number)

    def wait(self, within_s: float) -> int:
        """Return how it ended: an exit code, or minus the signal; TimeoutError while it runs."""
        give_up = time.monotonic() + within_s
        while self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > give_up:
                raise TimeoutError(f"{self.name} still runs")
            else:
                time.sleep(_POLL_S)
        return self._code

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        try:
            self.wait(0.0)
        except TimeoutError:
            return True
        return False

    def status(self) -> dict[str, str]:
        """What the kernel says of it: /proc/<pid>/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def remove(self) -> None:
        """End it if it runs, and forget it."""
        if self.pid and self._code is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            with contextlib.suppress(ChildProcessError, TimeoutError):
                self.wait(10.0)
        subprocess.run(["runc", "delete", "--force", self.name], capture_output=True, check=False)

    def _runc(self, *words: str, output: int = subprocess.DEVNULL) -> None:
        # Its errors go to a file: a pipe would stay open as long as the container.
        errors = self._bundle / "errors"
        command = ["runc", "--log", str(errors), *words]
        if subprocess.run(command, stdout=output, stderr=output, check=False).returncode:
            raise ContainerFailed(errors.read_text().strip())


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Be the parent of what runc leaves behind, to be told how it ends; of nobody after that.

    Whatever else lost its parent would stay a zombie of ours, and its pid namespace with it.
    """
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0)


def _mounts() -> list[dict[str, Any]]:
    limited = ["nosuid", "nodev", "noexec"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": limited},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
        {
            "destination": "/dev/shm",  # noqa: S108  # the container's
            "type": "tmpfs",
            "source": "shm",
            "options": [*limited, "mode=1777"],
        },
        {
            "destination": "/tmp",  # noqa: S108  # the container's
            "type": "tmpfs",
            "source": "tmpfs",
            "options": [*limited, "mode=1777", "size=64m"],
        },
    ]


def _bound(path: Path) -> dict[str, Any]:
    place = str(path)
    return {"destination": place, "type": "bind", "source": place, "options": ["rbind", "ro"]}


@contextlib.contextmanager
def unpacked(images: Path, name: str) -> Iterator[Image]:
    """Lay an image's files into a folder that goes with the context."""
    found = layout.read(images / name)
    with tempfile.TemporaryDirectory(prefix="rallypoint-image-") as folder:
        root = Path(folder, "root")
        root.mkdir()
        for layer in found.layers:
            layer.unpack(root)
        yield laid_out(root, found.config)


def laid_out(root: Path, config: Mapping[str, Any]) -> Image:
    """Return the image of a folder of files and an OCI configuration."""
    uid, _, gid = str(config.get("User") or "0").partition(":")
    pairs = (entry.partition("=") for entry in config.get("Env") or ())
    return Image(
        root,
        tuple(config.get("Entrypoint") or ()),
        tuple(config.get("Cmd") or ()),
        {name: value for name, _, value in pairs},
        (int(uid), int(gid or uid)),
        str(config.get("WorkingDir") or "/"),
        dict(config.get("Labels") or {}),
    )
