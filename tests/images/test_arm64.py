"""What images for arm64 are made from: no such machine is at hand, emulation takes long."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.support import go
from tests.support.images import processors

from rallypoint.probe import build

LOCKS = (("build", "node"), ("compile",), ("image", "probe"))
"""Of which no two name different releases of a package."""
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
WHEELS_S = 240
CROSS = "aarch64-linux-gnu-gcc"
ENTRY = """{}
interpreter /usr/bin/qemu-aarch64-static
flags: {}
offset 0
magic 7f454c4602010100000000000000000002{}
mask ffffffffffffff00fffffffffffffffffeffffff
"""
BPF = go.ROOT / "services" / "rallypoint" / "probe" / "bpf"


def ran(*command: str, given: str | None = None) -> str:
    """Run a command; what it complained of, or nothing."""
    done = subprocess.run(
        command, cwd=go.ROOT, input=given, capture_output=True, text=True, check=False
    )
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
def cross() -> list[str]:
    """A compiler for arm64 with Python's headers: those of this machine's Python will do."""
    if not shutil.which(CROSS):
        pytest.skip(f"no {CROSS} (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)")
    command = [CROSS, "-I", sysconfig.get_path("include"), "-fsyntax-only", "-Wall", "-Werror"]
    if ran(*command, "-x", "c", "-", given="#include <Python.h>\n"):
        pytest.skip("Python's headers are for this machine's processor only")
    return command


def extensions() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads((go.ROOT / "pyproject.toml").read_text())["tool"][
        "setuptools"
    ]["ext-modules"]
    return found


@pytest.mark.parametrize("extension", extensions(), ids=lambda one: one["name"])
def test_extension_compiles(cross: list[str], extension: dict[str, Any]) -> None:
    assert not ran(*cross, *extension["extra-compile-args"], *extension["sources"])


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


@pytest.mark.parametrize(
    ("entry", "emulates"),
    [
        (ENTRY.format("enabled", "OCF", "00b700"), True),
        (ENTRY.format("enabled", "OC", "00b700"), False),  # it would be looked for in each root
        (ENTRY.format("disabled", "OCF", "00b700"), False),
        (ENTRY.format("enabled", "OCF", "00f300"), False),  # RISC-V
        ("enabled\ninterpreter /usr/bin/python3\nflags: \noffset 0\nmagic a70d0d0a\n", False),
    ],
)
def test_emulator_is_found(tmp_path: Path, entry: str, emulates: bool) -> None:
    other = next(name for name in processors.NUMBERS if name != processors.own())
    (tmp_path / "entry").write_text(entry.replace("b700", f"{processors.NUMBERS[other]:02x}00"))
    assert (processors.missing(other, tmp_path) == "") is emulates
