"""Take from the base what a process runs on: Python, its library, the shared objects they load.

Half of distroless Python is never read by anyone here: changelogs, character sets, Kerberos, data
bases, sources beside byte code. What is taken lies where it lay, under the same links. Debian's
list of packages keeps those of which something was taken, with their copyright files.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import bytecode

PYTHON = "usr/bin/python3.13"
LIBRARY = "usr/lib/python3.13"
STATUS = "var/lib/dpkg/status.d"
TAKEN = (
    "bin", "lib", "lib64", "sbin", "run", "tmp", "var/run", "usr/bin/python3", "etc/passwd",
    "etc/group", "etc/nsswitch.conf", "etc/protocols", "etc/services", "etc/os-release",
    "etc/debian_version", "etc/mime.types", "etc/ssl/certs/ca-certificates.crt",
)  # fmt: skip
TREES = ("usr/share/common-licenses", "usr/share/zoneinfo")
OF_NO_LIST = {"ca-certificates", "media-types", "netbase"}
"""Packages whose taken files are configuration, or made at install: md5sums does not name them."""
UNUSED = (
    "**/__pycache__", "__phello__", "_pyrepl", "curses", "dbm", "doctest.py", "ensurepip",
    "idlelib", "lib2to3", "pdb.py", "pydoc.py", "pydoc_data", "sitecustomize.py", "sqlite3", "test",
    "tkinter", "turtle.py", "turtledemo", "unittest", "venv", "xmlrpc", "lib-dynload/_codecs_*",
    "lib-dynload/_ctypes_test*", "lib-dynload/_curses*", "lib-dynload/_dbm*",
    "lib-dynload/_multibytecodec*", "lib-dynload/_sqlite3*", "lib-dynload/_test*",
    "lib-dynload/_tkinter*", "lib-dynload/readline*", "lib-dynload/xx*",
)  # fmt: skip
ENCODINGS = {
    "__init__", "aliases", "ascii", "cp437", "idna", "latin_1", "punycode", "raw_unicode_escape",
    "unicode_escape", "utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_8", "utf_8_sig",
}  # fmt: skip
LINKS_MOST = 40
_NEEDED = re.compile(r"\(NEEDED\).*\[(.+)\]|program interpreter: (.+)\]")


class Root:
    """A smaller root that is made of the base's."""

    def __init__(self, base: Path, made: Path) -> None:
        self._base, self._made = base, made

    def take(self, name: str) -> None:
        """Take a file, or a folder without what is in it, and the links that lead there."""
        place = self._place(name)
        found, made = self._base / place, self._made / place
        if found.is_dir():
            made.mkdir(parents=True, exist_ok=True)
            made.chmod(found.stat().st_mode & 0o7777)
        elif found.is_file():
            made.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, made)

    def take_all(self, name: str) -> Path:
        """Take a folder with what is in it."""
        shutil.copytree(self._base / name, self._made / name, symlinks=True, dirs_exist_ok=True)
        return self._made / name

    def has(self, name: str) -> bool:
        """Whether a file of the base was taken, as it is or as byte code."""
        made = self._made / self._place(name, repeated=False)
        return made.is_file() or (made.suffix == ".py" and made.with_suffix(".pyc").is_file())

    def _place(self, name: str, *, repeated: bool = True) -> Path:
        """Return where a name leads in the base; links on the way are repeated."""
        place, links = Path(), 0
        left = [part for part in reversed(Path(name).parts) if part != "/"]
        while left:
            part = left.pop()
            found = self._base / place / part
            if part == ".." or not found.is_symlink():
                place = place.parent if part == ".." else place / part
                continue
            if (links := links + 1) > LINKS_MOST:
                sys.exit(f"{name} leads nowhere")
            to = found.readlink()
            if repeated and not (made := self._made / place / part).is_symlink():
                made.parent.mkdir(parents=True, exist_ok=True)
                made.symlink_to(to)
            place = Path() if to.is_absolute() else place
            left += [step for step in reversed(to.parts) if step != "/"]
        return place

    def library(self) -> None:
        """Take Python and, of its library, the byte code that a service could ask for."""
        self.take(PYTHON)
        library = self.take_all(LIBRARY)
        for path in [found for pattern in UNUSED for found in library.glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in (library / "encodings").glob("*.py"):
            if path.stem not in ENCODINGS:
                path.unlink()
        bytecode.only(library, f"/{LIBRARY}")

    def shared_objects(self, *folders: Path) -> None:
        """Take what Python, its modules and those of `folders` are linked with."""
        own = {path.name for folder in folders for path in folder.rglob("*.so*")}
        asking = [self._made / PYTHON, *(self._made / LIBRARY).rglob("*.so")]
        asking += [path for folder in folders for path in folder.rglob("*.so*")]
        taken: set[str] = set()
        while asking:
            for name in set(needed(asking.pop())) - taken - own:
                taken.add(name)
                place = name if name.startswith("/") else self._found(name)
                self.take(place)
                asking.append(self._base / self._place(place))

    def _found(self, name: str) -> str:
        for pattern in ("usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib"):
            for path in self._base.glob(f"{pattern}/{name}"):
                return str(path.relative_to(self._base))
        sys.exit(f"the base has no {name}")

    def packages(self) -> None:
        """List the packages of which something was taken, with their copyright files."""
        listed = self._base / STATUS
        for path in listed.iterdir():
            sums = path.with_name(f"{path.name}.md5sums")
            if path.suffix == ".md5sums" or not (self._used(sums) or path.name in OF_NO_LIST):
                continue
            self.take(f"{STATUS}/{path.name}")
            self.take(f"usr/share/doc/{path.name}/copyright")

    def _used(self, sums: Path) -> bool:
        """Whether something that a package lists, papers apart, was taken."""
        if not sums.exists():
            return True
        names = (line.split(maxsplit=1)[1] for line in sums.read_text().splitlines())
        return any(self.has(name) for name in names if not name.startswith("usr/share/doc/"))


def strip(program: Path) -> None:
    """Remove the symbols that only debuggers read."""
    subprocess.run([os.environ["STRIP"], "--strip-unneeded", str(program)], check=True)


def needed(program: Path) -> Iterator[str]:
    """Yield what a program or shared object is linked with."""
    read = ["readelf", "--wide", "--dynamic", "--program-headers", str(program)]
    said = subprocess.run(read, check=True, capture_output=True, text=True).stdout
    for name, interpreter in _NEEDED.findall(said):
        yield name or interpreter


def make(base: Path, made: Path, programs: Iterable[Path]) -> None:
    """Make the root in which these folders of modules run."""
    root = Root(base, made)
    for name in TAKEN:
        root.take(name)
    for name in TREES:
        root.take_all(name)
    root.library()
    root.shared_objects(*programs)
    root.packages()
