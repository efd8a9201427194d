"""Prepare a build stage to compile for the processor that an image is for, whichever builds.

Run by the Dockerfile, as `target.py <processor>` with Docker's word for it: /target gets what pip,
setuptools and Meson must know of that processor, and `for-target <command …>` runs with it. Python
itself says what it was configured with there: Debian's `libpython3.13-dev` of the other processor
brings the headers and the module that CPython reads when _PYTHON_SYSCONFIGDATA_NAME names it
(https://docs.python.org/3/library/sysconfig.html; so do crossenv and cibuildwheel). pip then takes
that processor's wheels, and names so those that it makes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

DEBIAN = Path("/usr/lib/python3.13")
HEADERS = "/usr/include/python3.13"
"""Of Debian's Python, which is what images run on: not those of the Python that builds."""
FOLDER = Path("/target")
RUN = Path("/usr/local/bin/for-target")


@dataclass(frozen=True, slots=True)
class Processor:
    """How others call what Docker calls amd64 or arm64."""

    cpu: str
    long_double: str
    """numpy asks Meson's file for it where it cannot run a program to find out."""

    @property
    def triplet(self) -> str:
        """What Debian's compilers and folders are called by."""
        return f"{self.cpu}-linux-gnu"


PROCESSORS = {
    "amd64": Processor("x86_64", "INTEL_EXTENDED_16_BYTES_LE"),
    "arm64": Processor("aarch64", "IEEE_QUAD_LE"),
}
TOOLS = {"c": "gcc", "cpp": "g++", "ar": "ar", "strip": "strip"}


def environment(target: Processor) -> dict[str, str]:
    """Return what a command for the target is run with."""
    tool = f"{target.triplet}-{{}}".format
    return {
        "_PYTHON_HOST_PLATFORM": f"linux-{target.cpu}",
        "_PYTHON_SYSCONFIGDATA_NAME": data(target),
        "PYTHONPATH": str(FOLDER),
        "CC": tool("gcc"),
        "CXX": tool("g++"),
        "CFLAGS": f"-I{HEADERS}",
        "LDSHARED": f"{tool('gcc')} -shared",
        "STRIP": tool("strip"),
    }


def data(target: Processor) -> str:
    """Return the name of the module that says what Python was configured with."""
    return f"_sysconfigdata__{target.triplet}"


def meson(target: Processor) -> str:
    """Return Meson's cross file (https://mesonbuild.com/Cross-compilation.html)."""
    tools = "".join(f"{name} = '{target.triplet}-{tool}'\n" for name, tool in TOOLS.items())
    return (
        f"[binaries]\n{tools}"
        f"[built-in options]\nc_args = ['-I{HEADERS}']\ncpp_args = ['-I{HEADERS}']\n"
        f"[properties]\nlongdouble_format = '{target.long_double}'\n"
        "[host_machine]\nsystem = 'linux'\nendian = 'little'\n"
        f"cpu_family = '{target.cpu}'\ncpu = '{target.cpu}'\n"
    )


def main(name: str) -> None:
    """Write it all."""
    target = PROCESSORS[name]
    FOLDER.mkdir()
    (FOLDER / f"{data(target)}.py").symlink_to(DEBIAN / f"{data(target)}.py")
    (FOLDER / "meson.ini").write_text(meson(target))
    words = " ".join(f'{key}="{value}"' for key, value in environment(target).items())
    RUN.write_text(f'#!/bin/sh\nexec env {words} "$@"\n')
    RUN.chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
