"""The kernel's own counters of this network namespace: what ours are compared with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

FILE: Final = Path("/proc/self/net/snmp")


def counters(text: str | None = None) -> dict[str, int]:
    """Every counter of TCP and UDP as `Tcp.RetransSegs`."""
    lines = (FILE.read_text() if text is None else text).splitlines()
    found: dict[str, int] = {}
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        protocol, *heads = names.split()
        if protocol in ("Tcp:", "Udp:"):
            pairs = zip(heads, values.split()[1:], strict=True)
            found.update({f"{protocol[:-1]}.{head}": int(value) for head, value in pairs})
    return found


def namespace() -> int:
    """The number of this process's network namespace, as slots name it."""
    return int(os.stat("/proc/self/ns/net").st_ino)
