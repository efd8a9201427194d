"""Claims that wait for their room, in `status.claims` of their servers, for people with kubectl.

Redis has the claims; etcd never hears of one that is confirmed within `PENDING_S`, as nearly all
are. Of those that hang one fleet process at a time tells, which a key in Redis chooses; it begins
with what is written there already, and writes a bounded number of servers in each pass. The field
has one owner by server-side apply, `fleet-allocator`, and is never read back to decide anything.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Mapping
from typing import Any, Final

from rallypoint.fleet import resources
from rallypoint.fleet.claims import Claims, Pending
from rallypoint.fleet.domain.game_server import GameServer
from rallypoint.kit import errors as kit_errors
from rallypoint.kit import keys, metrics
from rallypoint.kit.store import Store
from rallypoint.kube import errors
from rallypoint.kube.api import Api, Scope
from rallypoint.kube.transport import Transport

logger = logging.getLogger(__name__)

MANAGER: Final = "fleet-allocator"
PERIOD_S: Final = 2.0
PENDING_S: Final = 2.0
"""How long a claim may wait for its room before it is told of."""
WRITES_EACH: Final = 20
"""Servers written in a pass at most; the rest has its turn in the next."""
_MOST_CLAIMS: Final = 256
_HELD_MS: Final = int(PERIOD_S * 3 * 1000)

_Told = Mapping[str, tuple[Mapping[str, Any], ...]]


class Mirror:
    """Tells of claims that hang."""

    def __init__(
        self, transport: Transport, *, claims: Claims, store: Store, namespace: str, holder: str
    ) -> None:
        self._servers: Api[GameServer] = Api(transport, resources.GAME_SERVERS, manager=MANAGER)
        self._claims = claims
        self._store = store
        self._namespace = namespace
        self._holder = holder
        self._told: dict[str, tuple[Mapping[str, Any], ...]] | None = None
        """What is written, by server; None until it was looked."""

    async def run(self) -> None:
        """Tell for ever."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.once()
            except (kit_errors.RallypointError, errors.KubeError, OSError) as error:
                self._told = None
                logger.info("mirror_waits", extra={"reason": str(error)})

    async def once(self) -> None:
        """Bring the servers up to date, if it is our turn to."""
        if not await self._is_ours():
            self._told = None
            return
        if self._told is None:
            self._told = await self._written()
        wanted = await self._wanted()
        changed = [
            name
            for name in sorted(wanted.keys() | self._told.keys())
            if wanted.get(name, ()) != self._told.get(name, ())
        ]
        for name in changed[:WRITES_EACH]:
            await self._write(name, wanted.get(name, ()))

    async def _is_ours(self) -> bool:
        """Whether this process tells; the next one does some seconds after it is gone."""
        if await self._store.set(keys.FLEET_MIRROR, self._holder, px_ms=_HELD_MS, nx=True):
            return True
        if await self._store.get(keys.FLEET_MIRROR) != self._holder.encode():
            return False
        return await self._store.set(keys.FLEET_MIRROR, self._holder, px_ms=_HELD_MS)

    async def _written(self) -> dict[str, tuple[Mapping[str, Any], ...]]:
        found = await self._servers.list(Scope(self._namespace))
        return {
            item.metadata.name: tuple(
                {"requestId": one.request_id, "rooms": one.rooms, "expiresAt": one.expires_at}
                for one in item.status.claims
            )
            for item in found
            if item.status is not None and item.status.claims
        }

    async def _wanted(self) -> _Told:
        """The claims that hang, by server."""
        by_server: dict[str, list[Pending]] = {}
        for set_name in await self._claims.sets():
            for one in await self._claims.pending(set_name, older_than_s=PENDING_S):
                by_server.setdefault(one.claim.node_id, []).append(one)
        return {
            name: tuple(_value(one) for one in sorted(many, key=lambda one: one.room_id))
            for name, many in by_server.items()
        }

    async def _write(self, name: str, told: tuple[Mapping[str, Any], ...]) -> None:
        assert self._told is not None
        try:
            await self._servers.apply(
                name,
                {"status": {"claims": list(told[:_MOST_CLAIMS])}},
                namespace=self._namespace,
                subresource="status",
                force=True,
            )
            metrics.FLEET_MIRRORED.inc()
        except errors.NotFound:
            logger.debug("mirror_without_server", extra={"server": name})
        if told:
            self._told[name] = told
        else:
            self._told.pop(name, None)


def _value(one: Pending) -> Mapping[str, Any]:
    at = datetime.datetime.fromtimestamp(one.ends_s, datetime.UTC)
    return {
        "requestId": one.room_id, "rooms": 1, "expiresAt": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }  # fmt: skip
