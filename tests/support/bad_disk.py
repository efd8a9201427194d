"""A disk that is late or full, as a redis-server started meanwhile sees it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("bad_disk.c")


@dataclass(frozen=True, slots=True)
class BadDisk:
    """What makes a disk bad; at first nothing does."""

    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """What redis-server must be started with."""
        library = self.folder / "bad_disk.so"
        return {"LD_PRELOAD": str(library), "RALLYPOINT_TEST_DISK": str(self.folder)}

    @contextmanager
    def being(self, how: str) -> Iterator[None]:
        """Have it `late` (each fsync takes 4 s) or `full` (nothing can be written)."""
        switch = self.folder / how
        switch.touch()
        try:
            yield
        finally:
            switch.unlink()


def made(folder: Path) -> BadDisk:
    """Compile it into a new folder; a named skip where nothing can."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: apt-get install gcc")
    folder.mkdir()
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]
    subprocess.run([*command, str(folder / "bad_disk.so"), str(SOURCE)], check=True)
    return BadDisk(folder)
