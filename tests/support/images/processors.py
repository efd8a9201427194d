"""The processors that images are built for, and what runs the programs of another."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

NUMBERS = {"amd64": 62, "arm64": 183}
"""What ELF calls each, at byte 18 of every program."""
EMULATORS = {"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}
_OWN = {"x86_64": "amd64", "aarch64": "arm64"}


def own() -> str:
    """Return what images call the processor of this machine."""
    machine = platform.machine()
    return _OWN.get(machine, machine)


def other() -> str:
    """Return one that this machine has not."""
    return next(name for name in NUMBERS if name != own())


def emulator(name: str) -> Path | None:
    """Return the program, linked with nothing, that runs those of a processor, if it is here."""
    found = shutil.which(EMULATORS[name])
    return Path(found) if found else None


def made_for(program: Path) -> str | None:
    """Return which processor a file is a program or shared object for; None if it is neither."""
    with program.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF":
        return None
    number = int.from_bytes(head[18:20], "little")
    return next((name for name, known in NUMBERS.items() if known == number), str(number))
