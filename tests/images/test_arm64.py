"""Images for the processor that this machine has not: made here, and run by an emulator."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support import go, images
from tests.support.images import processors

from rallypoint.cli import bench_image, container, layout, plan
from rallypoint.probe import build

LOCKS = (("build", "node"), ("compile",), ("image", "probe"))
"""Of which no two name different releases of a package."""
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
WHEELS_S = 240
START_S, STARTS_S = 120.0, 400
"""An emulator is some forty times slower."""
BPF = go.ROOT / "services" / "rallypoint" / "probe" / "bpf"


def ran(*command: str) -> str:
    """Run a command; what it complained of, or nothing."""
    done = subprocess.run(command, cwd=go.ROOT, capture_output=True, text=True, check=False)
    return done.stderr + done.stdout if done.returncode else ""


@pytest.mark.timeout(WHEELS_S, func_only=True)
@pytest.mark.parametrize("locks", LOCKS, ids="+".join)
def test_locks_hold_a_wheel_for_every_requirement(tmp_path: Path, locks: tuple[str, ...]) -> None:
    words = [
        "pip",
        "download",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]
    words += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.13"]
    words += [word for name in PLATFORMS for word in ("--platform", name)]
    for lock in locks:
        words += ["-r", f"requirements/{lock}.txt"]
    try:
        assert not ran(sys.executable, "-m", *words, "--dest", str(tmp_path))
        assert not list(tmp_path.glob("*x86_64*"))
    finally:
        for path in tmp_path.iterdir():
            path.unlink()


@pytest.fixture(scope="session")
def other() -> Path:
    """The folder of our images for a processor that this machine has not."""
    if reason := images.missing() or container.missing():
        pytest.skip(reason)
    return images.built(architecture=processors.other())


@pytest.fixture(scope="session")
def emulator() -> Path:
    """What runs the programs of that processor."""
    found = processors.emulator(processors.other())
    if found is None:
        pytest.skip(f"no {processors.EMULATORS[processors.other()]} (Debian: qemu-user-static)")
    return found


@contextmanager
def unpacked(other: Path, emulator: Path, name: str) -> Iterator[container.Image]:
    """An image of that processor, started by the emulator."""
    with container.unpacked(other, name) as image:
        yield dataclasses.replace(image, entrypoint=(str(emulator), *image.entrypoint))


@pytest.mark.parametrize("name", ["services", "probe"])
def test_image_holds_programs_of_its_processor_alone(other: Path, name: str) -> None:
    with container.unpacked(other, name) as image:
        files = [path for path in image.root.rglob("*") if not path.is_symlink()]
        found = {processors.made_for(path) for path in files if path.is_file()} - {None}
        objects = set((image.root / "app" / "bpf").glob("*.bpf.o"))
    assert found == {processors.other()} | ({"247"} if objects else set())  # BPF's own number


def test_image_tells_its_processor_and_is_as_small(other: Path) -> None:
    for name, told in json.loads((other / "images.json").read_text()).items():
        assert layout.read(other / name).architecture == processors.other()
        assert told["compressed_bytes"] < 1e6 * bench_image.PROMISE[f"{name}_mb"]


@pytest.fixture
def emulated(other: Path, emulator: Path) -> Iterator[container.Image]:
    with unpacked(other, emulator, "services") as image:
        yield image


@pytest.mark.timeout(STARTS_S, func_only=True)
@pytest.mark.parametrize("kind", bench_image.KINDS)
def test_service_serves_when_emulated(
    emulated: container.Image, emulator: Path, processes: dict[str, plan.Process], kind: str
) -> None:
    with bench_image.started(emulated, processes[kind], emulator) as running:
        bench_image.until_ready(processes[kind], running, START_S)

        running.signal(signal.SIGTERM)

        assert running.wait(START_S) == 0, running.output.read_text()


@pytest.mark.timeout(STARTS_S, func_only=True)
def test_probe_tells_when_emulated(other: Path, emulator: Path) -> None:
    words = ["--once", "--json", "--seconds", "0.2"]
    with (
        unpacked(other, emulator, "probe") as image,
        image.started(words, shared=[emulator]) as running,
    ):
        code, said = running.wait(START_S), running.output.read_text()
    assert code == 0, said
    assert "NO_LIBBPF" not in json.loads(said)["reason"]


@pytest.mark.parametrize("source", sorted(BPF.glob("*.bpf.c")), ids=lambda path: path.name)
def test_probe_program_knows_no_processor(source: Path) -> None:
    """One object serves every processor: it reads no header of the machine that compiles it, and
    is the same whatever processor it is said to be for."""
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("no clang")
    command = [clang, *build.FLAGS, "-nostdinc", "-c", str(source), "-o", "-"]
    made = [
        subprocess.run([*command, f"-D__TARGET_ARCH_{name}"], capture_output=True, check=True)
        for name in ("x86", "arm64")
    ]
    assert made[0].stdout
    assert made[0].stdout == made[1].stdout
