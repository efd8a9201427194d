"""Swap the programs while they run: the resident half of the loader, and its orders.

Attached are dispatchers; the versions they jump to share all maps. A canary takes the connections
of a share of the cookies, and those it opens count in slots of their own (bank 1). An order is one
JSON message, and so is its answer, with the descriptors of the version's programs:

    {"order": "canary", "object": "/path/socket.bpf.o", "of_256": 26}   "": the newest
    {"order": "promote"}     the canary becomes the version for all
    {"order": "rollback"}    one write: the canary gets no more connections
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
from pathlib import Path
from typing import Any, Final

from rallypoint.kit import errors
from rallypoint.probe import build, libbpf, loader
from rallypoint.probe.wish import MAPS, MESSAGE_BYTES, MODES, attach_order

STABLE, CANARY = 0, 1
_NUMBER: Final = struct.Struct("=I")


class Versions:
    """The dispatchers, the version in use and perhaps a canary."""

    def __init__(self, stable: libbpf.Object, mode: str) -> None:
        self._mode = mode
        self._stable = stable
        self._canary: libbpf.Object | None = None
        self._candidate: tuple[Path, bytes] | None = None
        self._dispatch = libbpf.Object(build.object_file("dispatch"))
        try:
            self._dispatch.keep_only(frozenset(f"on_{name}" for name in MODES[mode]))
            self._dispatch.load()
            self._put(STABLE, stable)
        except BaseException:
            self.close()
            raise

    def attach(self) -> dict[str, int]:
        """Attach the dispatchers; their links by the hooks' names."""
        return {name: self._dispatch.attach(f"on_{name}") for name in attach_order(self._mode)}

    def dispatchers(self) -> list[int]:
        """Their descriptors, in the order of the links: what they jump to is timed as theirs."""
        return [self._dispatch.program_fd(f"on_{name}") for name in attach_order(self._mode)]

    def places(self) -> dict[str, int]:
        """The tables that the dispatchers jump by: emptied when nobody holds them any more."""
        names = [f"to_{name}" for name in MODES[self._mode]]
        return {name: self._dispatch.map_fd(name) for name in names}

    def close(self) -> None:
        """Detach; the stable version is its owner's."""
        for opened in (self._dispatch, self._canary):
            if opened is not None:
                opened.close()

    def obey(self, order: dict[str, Any]) -> libbpf.Object:
        """Do it; the version that it is about."""
        match order["order"]:
            case "canary":
                chosen = order["object"]
                path = Path(chosen) if chosen else build.object_file("socket")
                return self._try(path, int(order["of_256"]))
            case "promote":
                return self._promote()
            case "rollback":
                self._withdraw()
                return self._stable
        raise errors.InvalidArgument("UNKNOWN_ORDER", str(order["order"]))

    def programs(self, version: libbpf.Object) -> dict[str, int]:
        """The descriptors of a version's programs."""
        return {name: version.program_fd(name) for name in MODES[self._mode]}

    def _try(self, path: Path, of_256: int) -> libbpf.Object:
        self._withdraw()
        digest = _digest(path)
        fresh = self._load(path, digest, bank=CANARY)
        self._put(CANARY, fresh)
        self._share(of_256)
        old, self._canary, self._candidate = self._canary, fresh, (path, digest)
        if old is not None:
            old.close()
        return fresh

    def _promote(self) -> libbpf.Object:
        """Load it once more, to write everybody's slots, and put it in the first place.

        If it cannot be, the version before counts for all: the canary was tried and is over.
        """
        if self._candidate is None:
            raise errors.FailedPrecondition("NO_CANARY", "there is nothing to promote")
        path, digest = self._candidate
        self._withdraw()
        fresh = self._load(path, digest, bank=STABLE)
        self._put(STABLE, fresh)
        old, self._stable = self._stable, fresh
        old.close()
        return fresh

    def _withdraw(self) -> None:
        """No connection is the canary's any more, and it cannot be promoted."""
        self._share(0)
        self._candidate = None

    def _load(self, path: Path, digest: bytes, *, bank: int) -> libbpf.Object:
        fresh = loader.open_programs(path, self._mode, bank=bank)
        try:
            for name in (*MAPS, "sockets"):
                fresh.share_map(name, self._stable.map_fd(name))
            fresh.load()
            if _digest(path) != digest:
                raise errors.FailedPrecondition("OBJECT_CHANGED", f"{path.name} is not what it was")
        except BaseException:
            fresh.close()
            raise
        return fresh

    def _put(self, place: int, version: libbpf.Object) -> None:
        for name in MODES[self._mode]:
            value = _NUMBER.pack(version.program_fd(name))
            libbpf.map_update(self._dispatch.map_fd(f"to_{name}"), _NUMBER.pack(place), value)

    def _share(self, of_256: int) -> None:
        libbpf.map_update(self._dispatch.map_fd(".bss"), _NUMBER.pack(0), _NUMBER.pack(of_256))


def _digest(path: Path) -> bytes:
    """Of the object's bytes: what is promoted must be what was tried."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise errors.FailedPrecondition("NO_OBJECT", str(error)) from None


def take_orders(channel: socket.socket, versions: Versions) -> None:
    """Until the other end is closed."""
    while message := channel.recv(MESSAGE_BYTES):
        try:
            programs = versions.programs(versions.obey(json.loads(message)))
        except errors.RallypointError as error:
            told = {"reason": error.reason, "message": error.message}
            channel.send(json.dumps(told).encode()[:MESSAGE_BYTES])
            continue
        told_programs = json.dumps({"programs": list(programs)}).encode()
        socket.send_fds(channel, [told_programs], list(programs.values()))
