"""The part of `rallypoint bench fleet` that kills the leader while it scales, with default leases.

Two operators run; the leading one is killed -9 when a quarter of the servers is there.

lead_s          from its death to the next server that was made, by the other one
lead_duplicates names that two servers had, one after the other or at the same time
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import Any

from rallypoint.cli import bench_scale_up
from rallypoint.fleet.domain.game_server import GameServer
from rallypoint.kube.config import ClusterConfig
from rallypoint.kube.domain.store import Change

PROMISE = {"lead_s": 20.0}
SERVERS = 200
SETTLED_S = 0.2
"""In which what the leader wrote before its death has come."""


class _Made:
    """The servers that were ever seen, by name."""

    def __init__(self) -> None:
        self.uids: defaultdict[str, set[str]] = defaultdict(set)
        self.last_at = 0.0
        self._more = asyncio.Event()

    def on_server(self, change: Change[GameServer]) -> None:
        """Note a new one."""
        meta = change.present.metadata
        known = self.uids[meta.name]
        if meta.uid not in known:
            known.add(meta.uid)
            self.last_at = time.monotonic()
            self._more.set()

    async def wait_for(self, count: int) -> None:
        """Return when so many names are there."""
        while len(self.uids) < count:
            self._more.clear()
            await self._more.wait()


async def measure(settings: ClusterConfig, namespace: str) -> dict[str, Any]:
    """Return how long nobody led."""
    made = _Made()
    async with (
        bench_scale_up.stage(settings, namespace) as on,
        on.operator("first") as first,
    ):
        on.on_server(made.on_server)
        await on.make_set()
        async with on.operator("second"), asyncio.timeout(bench_scale_up.LIMIT_S):
            await on.scale(SERVERS)
            await made.wait_for(SERVERS // 4)
            first.kill()
            died_at = time.monotonic()
            await asyncio.sleep(SETTLED_S)
            await made.wait_for(len(made.uids) + 1)
            lead_s = made.last_at - died_at
            await made.wait_for(SERVERS)
    return {
        "lead_s": round(lead_s, 2),
        "lead_duplicates": sum(len(uids) > 1 for uids in made.uids.values()),
        "lead_servers": SERVERS,
    }
