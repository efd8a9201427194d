"""Keeps a sink in step with one scope of one kind: lists once, then watches for ever.

    list (pages) ──▶ watch from its version ──ended, cut, stalled──▶ watch from the last version
      ▲                │
      └──jittered wait─┴── 410: that version is forgotten

Bookmarks move the version on while nothing happens, so that a resumed watch rarely meets a 410. A
watch that is silent for longer than bookmarks ever are is taken for dead. No error ends it: a
failing server sees tries that grow rare, and `statistics()` and the log tell what is wrong.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Generic, NoReturn, Protocol, TypeVar

import msgspec

from rallypoint.kit import metrics
from rallypoint.kube import errors
from rallypoint.kube.api import PAGE_ITEMS, Api, Scope, named
from rallypoint.kube.domain import watching
from rallypoint.kube.domain.backoff import Backoff
from rallypoint.kube.objects import Resource, T

log = logging.getLogger(__name__)
Told = TypeVar("Told", bound=Resource, contravariant=True)
DEFAULT_BACKOFF = Backoff(first_s=0.2, most_s=30.0)
YIELD_EVENTS = 256  # a burst must not keep the loop from everything else


class Sink(Protocol[Told]):
    """Who is kept in step."""

    def replaced(self, items: Sequence[Told], version: str) -> None:
        """Everything there is, as of a version."""

    def put(self, item: Told) -> None:
        """An object that is new or changed."""

    def removed(self, key: str) -> None:
        """An object that went."""

    def advanced(self, version: str) -> None:
        """All up to this version was told."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a reflector waits."""

    page_items: int = PAGE_ITEMS
    # Each watch lasts this long to twice as long, or all would be renewed at once.
    watch_s: int = 240
    # The server sends a bookmark a minute.
    silence_s: float = 90.0
    backoff: Backoff = DEFAULT_BACKOFF
    # After 410 many clients list at once: they spread over this time.
    relist_spread_s: float = 1.0


DEFAULT_PACE = Pace()


class Reflector(Generic[T]):
    """List and watch, for ever; run `run()` as a task."""

    def __init__(
        self,
        api: Api[T],
        scope: Scope,
        sink: Sink[T],
        *,
        pace: Pace = DEFAULT_PACE,
        rng: random.Random | None = None,
    ) -> None:
        self._api, self._scope, self._sink, self._pace = api, scope, sink, pace
        self._rng = rng or random.Random()
        self._labels = (api.transport.cluster, api.kind.plural)
        self._version = ""
        self._failures = 0
        self._lists = self._watches = self._events = 0
        self._stalls = self._expired = self._unreadable = 0
        self._synced = self._pages_expired = False

    def statistics(self) -> watching.Statistics:
        """Return what it has done so far."""
        return watching.Statistics(
            self._synced, self._version, self._lists, self._watches, self._events,
            self._stalls, self._expired, self._unreadable,
        )  # fmt: skip

    async def run(self) -> NoReturn:
        """Go on until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except errors.Gone as error:
                self._expired += 1
                self._version = ""
                self._told("expired", error)
                await asyncio.sleep(self._pace.relist_spread_s * self._rng.random())
                # A server that forgets at once must not be listed in a circle without pause.
                await self._wait()
            except errors.KubeError as error:
                self._pages_expired = False
                self._told("failed", error)
                await self._wait(error.retry_after_s)

    async def _list(self) -> None:
        self._lists += 1
        metrics.KUBE_LISTS.labels(*self._labels).inc()
        items: list[T] = []
        version = ""
        # Pages that took longer than the server remembers: the next list is had in one piece.
        limit = 0 if self._pages_expired else self._pace.page_items
        self._pages_expired = True
        async for page in self._api.pages(self._scope, limit=limit):
            items += page.items
            version = page.version
            for text in page.unreadable:
                self._cannot_read(text)
            await asyncio.sleep(0)
        self._pages_expired = False
        self._sink.replaced(items, version)
        self._version, self._synced = version, True

    async def _watch(self) -> None:
        """Watch until the server ends it; one that ended early and told nothing is a failure."""
        self._watches += 1
        metrics.KUBE_WATCHES.labels(*self._labels).inc()
        timeout_s = round(self._pace.watch_s * (1.0 + self._rng.random()))
        before, begin = self._version, asyncio.get_running_loop().time()
        async with self._api.watch(
            self._scope, self._version, timeout_s=timeout_s, silence_s=self._pace.silence_s
        ) as lines:
            await self._take_all(lines)
        lasted = asyncio.get_running_loop().time() - begin
        if before == self._version and lasted < self._pace.watch_s / 2:
            await self._wait()

    async def _take_all(self, lines: AsyncIterator[bytes]) -> None:
        count = 0
        async for line in lines:
            self._take(line)
            count += 1
            if count % YIELD_EVENTS == 0:
                await asyncio.sleep(0)

    def _take(self, raw: bytes) -> None:
        try:
            line = watching.parse(raw)
        except msgspec.MsgspecError as error:  # cut in its middle: resume from the line before
            text = f"{self._api.kind.plural}: half a watch event: {error}"
            raise errors.Unavailable(text, cluster=self._api.transport.cluster) from error
        if line.type == "ERROR":
            self._refused(line)
        self._failures = 0
        if line.type != "BOOKMARK":
            self._events += 1
            self._pass_on(line)
        self._advance(line)

    def _pass_on(self, line: watching.Line) -> None:
        try:
            item = self._api.decode(line.object)
        except msgspec.MsgspecError as error:
            self._cannot_read(f"{named(line.object)}: {error}")
            self._version = watching.version(line.object)
            return
        if line.type == "DELETED":
            self._sink.removed(item.key)
        else:
            self._sink.put(item)
        self._version = item.metadata.resource_version

    def _advance(self, line: watching.Line) -> None:
        if line.type == "BOOKMARK":
            self._version = watching.version(line.object)
        self._sink.advanced(self._version)

    def _refused(self, line: watching.Line) -> NoReturn:
        body = bytes(line.object)
        raise errors.from_answer(
            errors.decode_status(body).code or 500,
            body,
            cluster=self._api.transport.cluster,
            call=f"watch {self._api.kind.plural}",
        )

    def _cannot_read(self, text: str) -> None:
        self._unreadable += 1
        metrics.KUBE_UNREADABLE.labels(*self._labels).inc()
        log.warning("object skipped: %s", text, extra={"cluster": self._api.transport.cluster})

    def _told(self, what: str, error: errors.KubeError) -> None:
        if isinstance(error.__cause__, TimeoutError):
            self._stalls += 1
        log.info("watch %s: %s", what, error, extra={"cluster": error.cluster})

    async def _wait(self, after_s: float | None = None) -> None:
        self._failures += 1
        await asyncio.sleep(max(self._pace.backoff.delay(self._failures, self._rng), after_s or 0))
