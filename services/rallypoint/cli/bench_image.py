"""`rallypoint bench image`: what the images weigh, and seconds from exec to ready in a container.

    python -m tests.support.images rallypoint bench image --json

RALLYPOINT_IMAGES names a folder of OCI layouts with their `images.json`. Each service runs under
runc as in a pod (no capability, read-only root, PID 1), beside real brokers; "ready" is the first
good answer of /readyz (asked every 5 ms), the median of several starts. Needs root.

`compressed_mb` is what a registry serves, `compression` how that is packed, and `gzip_mb` what the
same layers are as gzip at its highest level, for registries and engines of before zstd.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rallypoint.cli import (
    broker_plan,
    brokers,
    container,
    datadir,
    layout,
    machine,
    plan,
    ports,
    probes,
)
from rallypoint.gateway import tokens_keys

IMAGES = "RALLYPOINT_IMAGES"
WEIGHED = ("services", "probe")
PROMISE = {"services_mb": 35.0, "probe_mb": 25.0, "ready_s": 0.5}
READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 30.0
NONROOT = 65532
KINDS = ("fleet", "room-state", "matchmaking", "gateway")


def run(arguments: list[str]) -> int:
    """Measure and print; the result is the exit code."""
    parser = argparse.ArgumentParser(prog="rallypoint bench image", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--runs", type=int, default=5, help="starts to take the median of")
    parsed = parser.parse_args(arguments)
    images = os.environ.get(IMAGES, "")
    if not images:
        raise datadir.Refused(f"{IMAGES} names no folder of images: see --help")
    if reason := container.missing():
        raise datadir.Refused(reason)
    report = _report(Path(images), parsed.runs)
    print(json.dumps(report) if parsed.json else _text(report))
    return 0


def _report(images: Path, runs: int) -> dict[str, Any]:
    listed = json.loads((images / "images.json").read_text())
    found = {name: layout.read(images / name) for name in WEIGHED if name in listed}
    return {
        "compressed_mb": {name: _mb(listed[name]["compressed_bytes"]) for name in found},
        "compression": {name: one.packed for name, one in found.items()},
        "gzip_mb": {
            name: _mb(sum(layer.gzip_bytes() for layer in one.layers))
            for name, one in found.items()
        },
        "ready_s": ready_s(images, runs),
        "promise": PROMISE,
        "runs": runs,
        "machine": machine.description(),
    }


def _mb(size_bytes: int) -> float:
    return round(size_bytes / 1e6, 1)


def ready_s(images: Path, runs: int) -> dict[str, float]:
    """Seconds from exec to ready of each service: medians."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with container.unpacked(images, "services") as image, services() as processes:
        for _ in range(runs):
            for process in processes:
                with started(image, process) as running:
                    found[process.kind].append(until_ready(process, running))
    return {kind: round(statistics.median(times), 3) for kind, times in found.items()}


@contextmanager
def services() -> Iterator[list[plan.Process]]:
    """Each service as `up` would run it, beside brokers that run."""
    with tempfile.TemporaryDirectory(prefix="rallypoint-image-") as name:
        wish = plan.Wish(data_dir=Path(name))
        directory = Path(name)
        given = ports.free(plan.listeners(wish))
        datadir.write_queues(directory, wish.queues)
        described = broker_plan.processes(directory, given)
        running = [brokers.Broker(one, directory / f"{one.name}.log") for one in described]
        try:
            for one in running:
                one.start()
            processes = plan.plan(wish, given, keys=datadir.keys(directory), brokers=[])
            tokens_keys.load_or_create(directory / "signing-key.pem")
            for path in (directory, *directory.rglob("*")):
                shutil.chown(path, NONROOT, NONROOT)
            yield sorted(processes, key=lambda process: KINDS.index(process.kind))
        finally:
            for one in running:
                one.stop()


@contextmanager
def started(
    image: container.Image, process: plan.Process, *shared: Path
) -> Iterator[container.Running]:
    """Run a service of the plan in a container; it sees the plan's files, and what else is
    `shared`, and may change none."""
    directory = Path(process.environment["RALLYPOINT_DATA_DIR"])
    environment = {**process.environment, "RALLYPOINT_WEB_PORT": "0"}
    environment["RALLYPOINT_DATA_DIR"] = "/tmp/rallypoint"  # noqa: S108  # the container's
    environment["RALLYPOINT_WEB_ROOT"] = image.environment["RALLYPOINT_WEB_ROOT"]
    words = process.command[process.command.index("rallypoint") + 1 :]
    log = directory / f"{process.name}.container.log"
    seen = (directory, *shared)
    with image.started(words, environment=environment, shared=seen, output=log) as running:
        yield running


def until_ready(
    process: plan.Process, running: container.Running, within_s: float = READY_WITHIN_S
) -> float:
    """Wait until a service says that it is ready; return its seconds from exec."""
    while not asyncio.run(probes.is_ready(process)):
        seconds = time.monotonic() - running.started_s
        if seconds > within_s or not running.alive:
            said = running.output.read_text(errors="replace")[-2000:]
            raise brokers.BrokerFailed(f"{process.name} is not ready in its container\n{said}")
        time.sleep(0.005)
    return time.monotonic() - running.started_s


def _text(report: dict[str, Any]) -> str:
    packed, gzipped = report["compression"], report["gzip_mb"]
    lines = [
        f"  {name:12}{size:7.1f} MB {packed[name]}, {gzipped[name]:.1f} MB as gzip"
        for name, size in report["compressed_mb"].items()
    ]
    lines += [f"  {name:12}{time_s:7.3f} s" for name, time_s in report["ready_s"].items()]
    return "\n".join(lines)
