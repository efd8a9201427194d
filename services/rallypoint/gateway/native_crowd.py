"""How many connections an address has at the native edge, where gRPC's library accepts them.

The library bounds them in all, and ends those on which nothing is called, but it tells nobody who
is there. So the kernel is asked each second. What an address has above its limit is refused with a
reason if it calls, and cut at the next look whatever it does. Where the kernel cannot be asked (no
Linux, a sandbox) there is no limit by address, and the log says so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from collections.abc import Collection

from rallypoint.gateway.domain import buckets, crowding
from rallypoint.gateway.web_settings import EdgeSettings
from rallypoint.kit import cookies, errors, inet_diag, metrics

log = logging.getLogger(__name__)

LOOK_S = 1.0
_DESCRIPTORS = "/proc/self/fd"
REASON = "CONNECTIONS_PER_ADDRESS"


class NativeCrowd:
    """The connections at one port of this process."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._unlimited = buckets.Ranges((*settings.trusted_ranges, *settings.proxies))
        self._crowd = crowding.Crowd(settings.max_connections_per_ip)
        self._keys: dict[int, str] = {}
        """What stands for the address of each; empty for one without a limit."""
        self._excess: dict[int, cookies.Peer] = {}
        """By the cookies of their sockets: what the last look found to be too many."""
        self._refused: set[cookies.Peer] = set()

    async def run(self, port: int) -> None:
        """Look until cancelled."""
        seen = True
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                found = await asyncio.to_thread(inet_diag.at_port, port)
            except OSError as problem:
                if seen:
                    log.warning("native_connections_unseen", extra={"reason": str(problem)})
                seen, found = False, []
            else:
                seen = True
            await self._judge(found)

    def check(self, connection: str) -> None:
        """Raise ResourceExhausted for a call over a connection (`ipv4:127.0.0.1:5000`) too many."""
        if self._refused and cookies.peer_of(connection) in self._refused:
            raise errors.ResourceExhausted(
                REASON, "too many connections from this address", retry_after_s=LOOK_S
            )

    async def _judge(self, found: Collection[inet_diag.Connection]) -> None:
        metrics.GATEWAY_NATIVE_CONNECTIONS.set(len(found))
        self._keys = {one.cookie: self._key(one) for one in found}
        excess = self._crowd.look({cookie: key for cookie, key in self._keys.items() if key})
        told, self._excess = (
            self._excess,
            {one.cookie: (one.address, one.peer_port) for one in found if one.cookie in excess},
        )
        self._refused = set(self._excess.values())
        late = {one.inode for one in found if one.cookie in excess and one.cookie in told}
        if late:
            cut = await asyncio.to_thread(_cut, late)
            metrics.GATEWAY_REFUSALS.labels(REASON).inc(cut)

    def _key(self, one: inet_diag.Connection) -> str:
        known = self._keys.get(one.cookie)
        if known is not None:
            return known
        return "" if one.address in self._unlimited else buckets.address_key(one.address)


def _cut(inodes: Collection[int]) -> int:
    """Shut sockets of this process down; how many there were. The library hears of it and closes
    them."""
    count = 0
    for name in os.listdir(_DESCRIPTORS):
        try:
            if not _is_one(int(name), inodes):
                continue
            own = os.dup(int(name))  # the library may close its own meanwhile, and open another
        except OSError:
            continue
        with socket.socket(fileno=own) as held:
            try:
                if _is_one(own, inodes):
                    held.shutdown(socket.SHUT_RDWR)
                    count += 1
            except OSError:
                continue
    return count


def _is_one(descriptor: int, inodes: Collection[int]) -> bool:
    found = os.fstat(descriptor)
    return found.st_ino in inodes and stat.S_ISSOCK(found.st_mode)
