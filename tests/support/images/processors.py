"""The processors that images are built for, and whether this machine runs their programs."""

from __future__ import annotations

import platform
from pathlib import Path

BINFMT = Path("/proc/sys/fs/binfmt_misc")
NUMBERS = {"amd64": 62, "arm64": 183}
"""What ELF calls each, at byte 18 of every program."""
_OWN = {"x86_64": "amd64", "aarch64": "arm64"}


def own() -> str:
    """Return what images call the processor of this machine."""
    machine = platform.machine()
    return _OWN.get(machine, machine)


def missing(architecture: str, folder: Path = BINFMT) -> str:
    """Say what this machine lacks to run programs of a processor; nothing if it can."""
    if architecture == own():
        return ""
    for path in folder.glob("*"):
        if path.name != "register" and _emulates(path.read_text(), NUMBERS[architecture]):
            return ""
    return f"the kernel has no emulator for {architecture}: {folder} needs one, with the flag F"


def _emulates(told: str, number: int) -> bool:
    """Whether an entry runs programs of a processor wherever they are: F opens the emulator when
    it is registered, and a build's root has none."""
    lines = dict(line.partition(" ")[::2] for line in told.splitlines())
    magic = bytes.fromhex(lines.get("magic", ""))
    fits = magic[:4] == b"\x7fELF" and magic[18:20] == number.to_bytes(2, "little")
    return fits and "enabled" in lines and "F" in lines.get("flags:", "")
