"""The process without rights: starts the loader, gets the descriptors, reads slots and events.

Slots and totals are read from memory shared with the kernel, without a system call. Writes (what
is watched, freeing a slot) go by descriptor, which Linux allows to anybody who has it from 5.19 on.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from rallypoint.kit import errors
from rallypoint.probe import libbpf, wish
from rallypoint.probe.domain import l7, layout
from rallypoint.probe.rings import Ring

LOAD_S: Final = 30.0
_PAGE: Final = mmap.PAGESIZE


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the loader told, and its descriptors by name."""

    mode: str
    load_s: float
    no_network: bool
    maps: dict[str, int]
    programs: dict[str, int]
    links: dict[str, int]
    dispatchers: dict[str, int]
    calls: dict[str, int]
    calls_refused: str

    def descriptors(self) -> Iterator[int]:
        """All of them."""
        for group in (self.maps, self.programs, self.links, self.dispatchers, self.calls):
            yield from group.values()


@dataclass(frozen=True, slots=True)
class ProgramCost:
    """What the kernel says of one program."""

    name: str
    runs: int
    run_ns: int
    missed: int
    instructions: int
    locked_bytes: int


def start_loader(wanted: wish.Wanted) -> tuple[socket.socket, subprocess.Popen[bytes], Loaded]:
    """Start one and wait for its descriptors; FailedPrecondition with its reason if it fails."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "rallypoint.probe.loader", str(theirs.fileno()), wanted.dump()]
    try:
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    except OSError as error:
        ours.close()
        raise errors.FailedPrecondition("NO_LOADER", str(error)) from None
    finally:
        theirs.close()
    ours.settimeout(LOAD_S)
    try:
        loaded = _received(ours)
    except BaseException:
        ours.close()
        process.kill()
        process.wait()
        raise
    return ours, process, loaded


def _received(channel: socket.socket) -> Loaded:
    text, descriptors, _, _ = socket.recv_fds(channel, wish.MESSAGE_BYTES, wish.MOST_DESCRIPTORS)
    told = json.loads(text or b'{"reason": "LOADER_DIED", "message": "see its standard error"}')
    if "reason" in told:
        raise errors.FailedPrecondition(told["reason"], told["message"])
    maps, programs = told["maps"], told["programs"]
    rest = descriptors[len(maps) :]
    others = rest[2 * len(programs) :]
    return Loaded(
        mode=told["mode"],
        load_s=told["load_s"],
        no_network=told["no_network"],
        maps=dict(zip(maps, descriptors, strict=False)),
        programs=dict(zip(programs, rest, strict=False)),
        links=dict(zip(programs, rest[len(programs) :], strict=False)),
        dispatchers=dict(zip(told["dispatchers"], others, strict=False)),
        calls=dict(zip(told["calls"], others[len(told["dispatchers"]) :], strict=True)),
        calls_refused=told["calls_refused"],
    )


@dataclass(slots=True)
class _Shared:
    """One map's memory as words. Python's mmap keeps a copy of the descriptor: close it too."""

    memory: mmap.mmap
    words: memoryview = field(repr=False)

    def close(self) -> None:
        self.words.release()
        self.memory.close()


def _shared(fd: int, size: int, *, writable: bool = False) -> _Shared:
    whole = (size + _PAGE - 1) // _PAGE * _PAGE
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    memory = mmap.mmap(fd, whole, mmap.MAP_SHARED, protection)
    return _Shared(memory, memoryview(memory).cast("Q"))


class _Calls:
    """What the programs that follow calls tell."""

    def __init__(self, descriptors: Mapping[str, int]) -> None:
        self._descriptors = descriptors
        self.ring = Ring(descriptors["calls"], l7.RING_BYTES, l7.event)
        self._totals = _shared(descriptors["call_totals"], 8 * len(l7.TOTALS))

    def events(self) -> list[l7.Event]:
        """What has come since the last call."""
        return self.ring.read()

    def totals(self) -> dict[str, int]:
        """What could not be followed, since the start."""
        return {name: self._totals.words[i] for i, name in enumerate(l7.TOTALS)}

    def costs(self) -> list[ProgramCost]:
        """What the two programs did."""
        named = ((name, self._descriptors[name]) for name in wish.CALL_PROGRAMS)
        return [_cost(name, fd, timed=fd) for name, fd in named]

    def close(self) -> None:
        """Unmap."""
        self.ring.close()
        self._totals.close()


class Session:
    """Programs attached, and their maps. Closing it leaves the kernel as it was."""

    def __init__(self, wanted: wish.Wanted) -> None:
        channel, process, self.loaded = start_loader(wanted)
        self.config = replace(wanted.config, old_hooks=self.loaded.mode == "old")
        self._asked = wanted.mode
        self._times_full = 1
        self.calls_asked = bool(wanted.calls_cgroup)
        self._canaries: dict[str, int] = {}
        self._slot_count = wanted.slots
        maps = self.loaded.maps
        self._slots = _shared(maps["slots"], wanted.slots * layout.SLOT_BYTES)
        self._totals = _shared(maps["totals"], 8 * len(layout.TOTALS))
        self._data = _shared(maps[".data"], layout.CONFIG.size, writable=True)
        self.ring = Ring(maps["events"], wanted.events_bytes, layout.event)
        self.calls = _Calls(self.loaded.calls) if self.loaded.calls else None
        self.configure(self.config)
        self._channel, self._loader = channel, process
        if not wanted.resident:
            self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach: ours are the last descriptors."""
        self._let_go()
        self.ring.close()
        for shared in (self._slots, self._totals, self._data):
            shared.close()
        if self.calls is not None:
            self.calls.close()
        for fd in (*self.loaded.descriptors(), *self._canaries.values()):
            os.close(fd)

    def rings(self) -> list[int]:
        """What can be waited for."""
        return [self.ring.fd, *([self.calls.ring.fd] if self.calls is not None else [])]

    def _let_go(self) -> None:
        """Close the channel, which tells the loader to go."""
        self._channel.close()
        self._loader.wait(timeout=LOAD_S)

    def held(self) -> int:
        """How many descriptors of BPF it has; a canary's among them."""
        return len(list(self.loaded.descriptors())) + len(self._canaries)

    def canary(self, path: Path | None, of_256: int) -> None:
        """Have another version count for a share of the connections; without a path the newest."""
        chosen = str(path) if path else ""
        self._replaced(self._order(order="canary", object=chosen, of_256=of_256), "canary")

    def promote(self) -> None:
        """Have the canary count for all."""
        self._replaced(self._order(order="promote"), "")

    def rollback(self) -> None:
        """Have the canary count for nobody any more; its slots stay until they are freed."""
        self._replaced(self._order(order="rollback"), "")

    def _order(self, **order: object) -> dict[str, int]:
        """Tell the resident loader; the programs of the version it is about."""
        self._channel.send(json.dumps(order).encode())
        text, descriptors, _, _ = socket.recv_fds(
            self._channel, wish.MESSAGE_BYTES, wish.MOST_DESCRIPTORS
        )
        told = json.loads(text or b'{"reason": "LOADER_DIED", "message": "it is gone"}')
        if "reason" in told:
            raise errors.FailedPrecondition(told["reason"], told["message"])
        return dict(zip(told["programs"], descriptors, strict=True))

    def _replaced(self, programs: dict[str, int], kind: str) -> None:
        """Keep the descriptors of the versions in use, close those of the ones before."""
        kept = self.loaded.programs
        for fd in (*self._canaries.values(), *(() if kind else kept.values())):
            os.close(fd)
        self._canaries = programs if kind else {}
        if not kind:
            kept.clear()
            kept.update(programs)

    @property
    def mode(self) -> str:
        """The step of the ladder that the kernel allowed, or the level that was asked for since."""
        return self.loaded.mode if self.config.full else "light"

    @property
    def reason(self) -> str:
        """Why it is not the one that was asked for."""
        if self.loaded.mode != self._asked:
            return f"the kernel has no hooks for {self._asked}"
        return "" if self.mode == self._asked else "asked for by a signal"

    def look(self) -> None:
        """Nothing to do: the kernel counts."""

    def events(self) -> list[layout.Event]:
        """What has come since the last call."""
        return self.ring.read()

    def configure(self, config: layout.Config) -> None:
        """Change what the programs do at their next run."""
        self._times_full += config.full and not self.config.full
        self.config = config
        self._data.memory[: layout.CONFIG.size] = config.pack(self._times_full)

    def set_level(self, *, full: bool) -> None:
        """Have the programs that only `full` has return at once, or count again."""
        self.configure(replace(self.config, full=full and self._asked != "light"))

    def watch_port(self, port: int) -> None:
        """Watch connections to this port of a server."""
        key = struct.pack("=H", port)
        libbpf.map_update(self.loaded.maps["watched_ports"], key, struct.pack("=I", 1))

    def slots(self) -> list[layout.Slot]:
        """Every slot that counts for somebody."""
        return list(layout.read_slots(self._slots.words[: self._slot_count * layout.SLOT_WORDS]))

    def totals(self) -> dict[str, int]:
        """What went wrong, since the start."""
        return {name: self._totals.words[i] for i, name in enumerate(layout.TOTALS)}

    def free(self, slot: layout.Slot) -> None:
        """Give a slot back. Sockets that still use it are stale: they count for nobody."""
        maps = self.loaded.maps
        libbpf.map_delete(maps["slot_of"], slot.key.pack())
        index = struct.pack("=I", slot.index)
        libbpf.map_update(maps["slots"], index, layout.freed_slot(slot.generation + 1))
        libbpf.map_update(maps["free_slots"], None, index)

    def costs(self) -> list[ProgramCost]:
        """What each program did, read without any right.

        The kernel times a program that was jumped to as part of the one that jumped.
        """
        jumping = self.loaded.dispatchers
        return [
            _cost(name, fd, timed=jumping.get(name, fd))
            for name, fd in self.loaded.programs.items()
        ]

    def canary_costs(self) -> list[ProgramCost]:
        """The same of the canary; empty without one."""
        return [_cost(name, fd, timed=fd) for name, fd in self._canaries.items()]


def _cost(name: str, fd: int, *, timed: int) -> ProgramCost:
    itself, runs = _told_of(fd), _told_of(timed)
    return ProgramCost(
        name=name,
        runs=runs.get("run_cnt", 0),
        run_ns=runs.get("run_time_ns", 0),
        missed=runs.get("recursion_misses", 0),
        instructions=itself.get("verified_insns", 0),
        locked_bytes=itself.get("memlock", 0),
    )


def _told_of(fd: int) -> dict[str, int]:
    """The numbers in a descriptor's fdinfo."""
    with open(f"/proc/self/fdinfo/{fd}") as file:
        pairs = (line.rstrip().split(":\t", 1) for line in file if ":\t" in line)
        return {name: int(value) for name, value in pairs if value.isdigit()}
