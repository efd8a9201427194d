"""The epochs of sets: each leader of a set is told apart from those before it (decisions §1).

Kept twice: in Redis, where every fence is checked against it, and on the Lease, so that a Redis
that lost everything does not begin again at 1.
"""

from __future__ import annotations

import asyncio

from rallypoint.fleet.fences import Fences
from rallypoint.kit.names import SetName
from rallypoint.kube.api import Api
from rallypoint.kube.objects import Lease

ANNOTATION = "rallypoint.dev/epoch"


class Epochs:
    """The epochs of one term of leading; asked for when first needed."""

    def __init__(self, fences: Fences, leases: Api[Lease], lease: str, *, namespace: str) -> None:
        self._fences, self._leases = fences, leases
        self._lease, self._namespace = lease, namespace
        self._known: dict[str, int] = {}
        self._highest = 0
        self._one_by_one = asyncio.Lock()

    def known(self, key: str) -> int:
        """Return the epoch of a set, 0 while none was needed."""
        return self._known.get(key, 0)

    async def of(self, key: str) -> int:
        """Return our epoch of a set, above all that were before."""
        async with self._one_by_one:
            if key not in self._known:
                await self._lead(key)
        return self._known[key]

    def forget(self, key: str) -> None:
        """Drop a set that is gone."""
        self._known.pop(key, None)

    async def _lead(self, key: str) -> None:
        lease = await self._leases.get(self._lease, namespace=self._namespace)
        noted = lease.metadata.annotations.get(ANNOTATION, "0")
        self._highest = max(self._highest, int(noted) if noted.isdigit() else 0)
        name = SetName(key.partition("/")[2])
        epoch = await self._fences.lead(name, known_epoch=self._highest)
        if epoch > self._highest:
            await self._note(epoch)
        self._highest = max(self._highest, epoch)
        self._known[key] = epoch

    async def _note(self, epoch: int) -> None:
        """Write it down before it is used. The renewal that meets this reads and tries again."""
        patch = {"metadata": {"annotations": {ANNOTATION: str(epoch)}}}
        await self._leases.merge_patch(self._lease, patch, namespace=self._namespace)
