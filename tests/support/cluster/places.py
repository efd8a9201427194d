"""Where the programs of a cluster run: here, or in the namespaces of a host of its own."""

from __future__ import annotations

import ctypes
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STOP_S = 60.0
"""Ending all mounts of a node took over 20 s on a machine with four times the work of its cores."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Place:
    """An address that programs listen on, and the words that start a program there."""

    host: str = "127.0.0.1"
    enter: tuple[str, ...] = ()


HERE = Place()


def start(
    command: Sequence[str | Path],
    log: Path,
    *,
    place: Place = HERE,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program that ends with us, or with its place."""
    words = [*place.enter, *(str(word) for word in command)]
    with log.open("ab") as sink:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=environment,
            preexec_fn=die_with_parent,
        )


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, *, place: Place = HERE
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, and kill it at the end: nothing here is worth a tidy end."""
    process = start(command, log, place=place)
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=STOP_S)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent's thread ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def flags(values: Mapping[str, object]) -> list[str]:
    """Return `--name=value` words."""
    return [f"--{name}={value}" for name, value in values.items()]
