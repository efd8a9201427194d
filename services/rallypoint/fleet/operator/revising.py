"""Keeps the revisions of sets: one ControllerRevision for each template that was ever wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rallypoint.fleet import resources
from rallypoint.fleet.domain import pods, revisions
from rallypoint.fleet.domain.game_server_set import GameServerSet
from rallypoint.fleet.domain.observed import time_text
from rallypoint.fleet.domain.workload import Revision
from rallypoint.fleet.operator.world import World
from rallypoint.kit import errors as kit_errors
from rallypoint.kit.clock import Clock
from rallypoint.kube import errors
from rallypoint.kube.api import Api
from rallypoint.kube.objects import ObjectMeta

SEEN_S = 5.0


@dataclass(frozen=True, slots=True)
class Template:
    """A revision of a set as it is wanted now."""

    name: str
    data: Mapping[str, Any]
    since: str | None
    failures: revisions.Failures


class Revising:
    """Makes and prunes revisions."""

    def __init__(self, api: Api[Revision], world: World, clock: Clock) -> None:
        self._api, self._world, self._clock = api, world, clock

    def known(self, item: GameServerSet) -> list[Revision]:
        """Return the revisions of a set."""
        return self._world.revisions.lister.by_index("set", item.key)

    def data(self, namespace: str, name: str) -> Mapping[str, Any]:
        """Return a template as it was; NotFound when somebody removed it."""
        found = self._world.revisions.lister.get(name, namespace=namespace)
        if found is None or found.data is None:
            raise kit_errors.NotFound("REVISION_UNKNOWN", f"no revision {namespace}/{name}")
        return found.data

    async def ensure(self, item: GameServerSet) -> Template:
        """Return the newest revision, made where it is none; a way back makes an old one newest."""
        known = self.known(item)
        data = revisions.content(item.spec)
        name = revisions.name(item.metadata.name, data)
        found = next((one for one in known if one.metadata.name == name), None)
        newest = revisions.newest(known)
        if found is None:
            found = await self._create(item, name, data, newest + 1)
        elif found.revision < newest:
            now = time_text(self._clock.now())
            notes = {revisions.FAILED: None, revisions.SINCE: now}
            patch = {"revision": newest + 1, "metadata": {"annotations": notes}}
            namespace = item.metadata.namespace
            found = await self._api.merge_patch(name, patch, namespace=namespace)
            await self._seen(found)
        failures = revisions.failures(found)
        meta = found.metadata
        since = meta.annotations.get(revisions.SINCE) or meta.creation_timestamp
        return Template(name, data, since, failures)

    async def _create(
        self, item: GameServerSet, name: str, data: Mapping[str, Any], number: int
    ) -> Revision:
        meta = ObjectMeta(
            name=name,
            namespace=item.metadata.namespace,
            labels={**pods.NAMES, pods.SET: item.metadata.name},
            owner_references=(resources.GAME_SERVER_SETS.owner(item),),
        )
        try:
            made = await self._api.create(Revision(metadata=meta, data=data, revision=number))
        except errors.AlreadyExists:
            return await self._api.get(name, namespace=item.metadata.namespace)
        await self._seen(made)
        return made

    async def _seen(self, made: Revision) -> None:
        """Wait until the cache has what was written, or a while."""
        try:
            async with asyncio.timeout(SEEN_S):
                await self._world.revisions.wait_version(made.metadata.resource_version)
        except TimeoutError:
            return

    async def failed(self, item: GameServerSet, template: Template, uids: Sequence[str]) -> int:
        """Count servers of the newest revision that failed; return how many ever did."""
        counted = template.failures.with_these(uids)
        if counted.count > template.failures.count:
            patch = {"metadata": {"annotations": {revisions.FAILED: counted.text()}}}
            namespace = item.metadata.namespace
            await self._seen(await self._api.merge_patch(template.name, patch, namespace=namespace))
        return counted.count

    async def prune(self, item: GameServerSet, used: set[str]) -> None:
        """Remove revisions that nobody needs."""
        for one in revisions.unused(self.known(item), used):
            try:
                await self._api.delete(
                    one.metadata.name, namespace=item.metadata.namespace, uid=one.metadata.uid
                )
            except (errors.NotFound, errors.Conflict):
                continue
