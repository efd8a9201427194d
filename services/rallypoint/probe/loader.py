"""The process with rights: load and attach the programs, hand every descriptor over, go away.

It gets one end of a socket pair and a `Wanted`, keeps CAP_BPF and CAP_PERFMON, and has no other
socket (seccomp). What it hands over keeps the programs attached after it is gone: nothing is
pinned, so when the last process with the links ends, the kernel is as it was.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from rallypoint.kit import errors
from rallypoint.probe import build, libbpf, rights
from rallypoint.probe.domain import histogram
from rallypoint.probe.domain.layout import LAYOUT
from rallypoint.probe.wish import (
    CALL_MAPS,
    CALL_PROGRAMS,
    LIGHT,
    MAPS,
    MESSAGE_BYTES,
    MODES,
    TRACEPOINTS,
    Wanted,
    attach_order,
    parse,
)  # fmt: skip

CONSTANTS: Final = struct.Struct(f"={8 * histogram.BUCKETS}sII")
"""`.rodata`: the table of buckets, the bank, the version of the layout."""
CALL_CONSTANTS: Final = struct.Struct("=I")
"""`.rodata` of who follows calls: whether every port is watched."""


def open_programs(path: Path, mode: str, *, bank: int = 0) -> libbpf.Object:
    """The object with its constants set, not yet loaded; LAYOUT_CHANGED if it is no match."""
    opened = libbpf.Object(path)
    opened.keep_only(frozenset(MODES[mode]))
    constants = opened.initial(".rodata")
    _, _, layout = CONSTANTS.unpack(bytes(constants)[: CONSTANTS.size])
    if layout != LAYOUT:
        opened.close()
        raise errors.FailedPrecondition("LAYOUT_CHANGED", f"{layout} where we know {LAYOUT}")
    table = struct.pack(f"={histogram.BUCKETS}Q", *histogram.ends())
    constants[: CONSTANTS.size] = CONSTANTS.pack(table, bank, layout)
    return opened


def open_object(wish: Wanted, mode: str) -> libbpf.Object:
    """The object, loaded and not yet attached."""
    opened = open_programs(build.object_file("socket"), mode)
    try:
        settings = wish.config.pack()
        opened.initial(".data")[: len(settings)] = settings
        for name in ("slots", "slot_of", "free_slots"):
            opened.set_size(name, wish.slots)
        opened.set_size("events", wish.events_bytes)
        opened.load()
        _fill(opened, wish)
    except BaseException:
        opened.close()
        raise
    return opened


def _fill(opened: libbpf.Object, wish: Wanted) -> None:
    one = struct.pack("=I", 1)
    for index in range(wish.slots):
        libbpf.map_update(opened.map_fd("free_slots"), None, struct.pack("=I", index))
    for port in wish.ports:
        libbpf.map_update(opened.map_fd("watched_ports"), struct.pack("=H", port), one)
    for cgroup in wish.cgroups:
        libbpf.map_update(opened.map_fd("watched_cgroups"), struct.pack("=Q", cgroup), one)


def possible_mode(mode: str) -> str:
    """The best this kernel can do of what is wanted; FailedPrecondition NO_BTF if nothing."""
    known = libbpf.tracepoints_of_kernel(frozenset(TRACEPOINTS.values()))
    if known is None:
        raise errors.FailedPrecondition("NO_BTF", "the kernel does not describe its types")
    for option in (mode, "old", "light"):
        if all(TRACEPOINTS[name] in known for name in MODES[option]):
            return option
    missing = sorted({TRACEPOINTS[name] for name in LIGHT} - known)
    raise errors.FailedPrecondition("NO_TRACEPOINT", ", ".join(missing))


def open_best(wish: Wanted) -> tuple[libbpf.Object, str]:
    """Load what is wanted; look for what the kernel lacks only if it refuses: that takes 40 ms."""
    try:
        return open_object(wish, wish.mode), wish.mode
    except errors.FailedPrecondition as error:
        mode = possible_mode(wish.mode) if error.reason == "BPF_REFUSED" else wish.mode
        if mode == wish.mode:
            raise
    return open_object(wish, mode), mode


def attach(opened: libbpf.Object, mode: str) -> dict[str, int]:
    """Attach every program of a mode: the descriptors of the links by the programs' names."""
    return {name: opened.attach(name) for name in attach_order(mode)}


def attach_calls(stack: ExitStack, opened: libbpf.Object, wish: Wanted) -> dict[str, int]:
    """The programs that follow calls, at a cgroup: the descriptors by name."""
    calls = stack.enter_context(libbpf.Object(build.object_file("l7")))
    calls.initial(".rodata")[: CALL_CONSTANTS.size] = CALL_CONSTANTS.pack(wish.config.every_port)
    calls.share_map("watched_ports", opened.map_fd("watched_ports"))
    calls.load()
    folder = os.open(wish.calls_cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = {f"{name}_link": calls.attach(name, folder) for name in CALL_PROGRAMS}
    finally:
        os.close(folder)
    found |= {name: calls.program_fd(name) for name in CALL_PROGRAMS}
    return found | {name: calls.map_fd(name) for name in CALL_MAPS}


def serve(channel: socket.socket, wish: Wanted) -> int:
    """Load, attach, hand over; then end, or stay for orders if the wish says so."""
    rights.limit_locked_memory()
    kept = frozenset((rights.CAP_BPF, rights.CAP_PERFMON))
    rights.keep_only(kept | {rights.CAP_NET_ADMIN} if wish.calls_cgroup else kept)
    fenced = rights.refuse_network()
    begun = time.monotonic()
    with ExitStack() as stack:
        opened, mode = open_best(wish)
        stack.enter_context(opened)
        versions = None
        if wish.resident:
            from rallypoint.probe import swap  # only who swaps pays for it

            versions = swap.Versions(opened, mode)
            stack.callback(versions.close)
        links = versions.attach() if versions else attach(opened, mode)
        maps = {name: opened.map_fd(name) for name in MAPS}
        maps |= versions.places() if versions else {}
        described: dict[str, Any] = {
            "mode": mode,
            "load_s": round(time.monotonic() - begun, 3),
            "no_network": fenced,
            "maps": list(maps),
            "programs": list(links),
            "dispatchers": list(links) if versions else [],
            "calls": [],
            "calls_refused": "",
        }
        descriptors = list(maps.values())
        descriptors += [opened.program_fd(name) for name in links]
        descriptors += list(links.values())
        descriptors += versions.dispatchers() if versions else []
        if wish.calls_cgroup:
            try:
                followed = attach_calls(stack, opened, wish)
                described["calls"] = list(followed)
                descriptors += followed.values()
            except (errors.FailedPrecondition, OSError) as error:
                described["calls_refused"] = str(error).splitlines()[0]
            rights.keep_only(kept)
        socket.send_fds(channel, [json.dumps(described).encode()], descriptors)
        if versions:
            swap.take_orders(channel, versions)
        else:
            channel.recv(1)  # until it has them, or is gone
    return 0


def main() -> int:
    """`python -m rallypoint.probe.loader <descriptor> <wanted>`: what fails is told as JSON."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        return serve(channel, parse(sys.argv[2]))
    except errors.RallypointError as error:
        told = {"reason": error.reason, "message": error.message}
        channel.send(json.dumps(told).encode()[:MESSAGE_BYTES])
        return 1


if __name__ == "__main__":
    Path("/proc/self/comm").write_text("rallypoint-load")
    os.environ.setdefault("LC_ALL", "C")
    raise SystemExit(main())
