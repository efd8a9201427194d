"""Write the condition NetworkHealthy of GameServers, and nothing else of them.

Only the newest opinion of each is written, when it changes; what fails is tried again until there
is a newer one or the server is gone. The uid goes along: a server of the same name is another one.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
from collections.abc import Mapping
from typing import Final

from rallypoint.kube import errors
from rallypoint.kube.api import Api
from rallypoint.kube.domain.backoff import Backoff
from rallypoint.kube.kinds import Kind
from rallypoint.kube.objects import Resource
from rallypoint.kube.transport import Transport
from rallypoint.probe.domain import health, metrics, own
from rallypoint.probe.domain.pods import Server

logger = logging.getLogger(__name__)

GROUP: Final = "rallypoint.dev"
MANAGER: Final = "rallypoint-probe"
"""The field manager of what we write."""
GAME_SERVERS: Final = Kind(GROUP, "v1", "GameServer", "gameservers", Resource)
AGAIN: Final = Backoff(first_s=1.0, most_s=60.0)


class Conditions:
    """What is to be written, by the uid of the server. Used on one loop."""

    def __init__(self) -> None:
        self._wanted: dict[Server, Mapping[str, str]] = {}
        self._told: set[Server] = set()
        self._waiting = asyncio.Event()
        self._written = {"ok": 0, "failed": 0}
        self._rng = random.Random()

    def points(self) -> list[own.Point]:
        """How the writes went."""
        return [
            own.Point(metrics.CONDITIONS, count, (("outcome", outcome),), counter=True)
            for outcome, count in self._written.items()
        ]

    def want(self, server: Server, opinion: health.Opinion) -> None:
        """Have an opinion written; one that was not yet is dropped."""
        self._put(server, "True" if opinion.healthy else "False", opinion.reason, opinion.message)

    def forget(self, server: Server) -> None:
        """The server is gone."""
        self._wanted.pop(server, None)
        self._told.discard(server)

    def _put(self, server: Server, status: str, reason: str, message: str) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self._wanted[server] = {
            "type": health.CONDITION,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        self._waiting.set()

    async def run(self, transport: Transport) -> None:
        """Write until cancelled."""
        failures = 0
        if self._wanted:  # by a session that ended while it wrote, or before it tried again
            self._waiting.set()
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            if await self._write_all(transport):
                failures = 0
                continue
            failures += 1
            await asyncio.sleep(AGAIN.delay(failures, self._rng))
            self._waiting.set()

    async def farewell(self, transport: Transport) -> None:
        """Nobody looks any more: say so where there is an opinion of ours."""
        for server in self._told:
            self._put(server, "Unknown", health.STOPPED, "the probe of its node was stopped")
        await self._write_all(transport)

    async def _write_all(self, transport: Transport) -> bool:
        """False if something has to be tried again."""
        api = Api(transport, GAME_SERVERS, manager=MANAGER)
        whole = True
        for server, condition in list(self._wanted.items()):
            try:
                await self._write(api, server, condition)
            except (errors.NotFound, errors.Conflict):
                self.forget(server)  # it is gone, or of its name there is another one
                continue
            except errors.KubeError as error:
                logger.warning("no condition for %s: %s", server.name, error)
                self._written["failed"] += 1
                whole = False
                continue
            self._written["ok"] += 1
            self._told.add(server)
            if self._wanted.get(server) is condition:
                del self._wanted[server]
        return whole

    async def _write(
        self, api: Api[Resource], server: Server, condition: Mapping[str, str]
    ) -> None:
        fields = {"metadata": {"uid": server.uid}, "status": {"conditions": [condition]}}
        await api.apply(
            server.name, fields, namespace=server.namespace, subresource="status", force=True
        )
