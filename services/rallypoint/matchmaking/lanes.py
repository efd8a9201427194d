"""The lanes of this process: one per queue document, made, changed and ended while it runs."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any

from rallypoint.kit import metrics
from rallypoint.kit.runtime import Runtime
from rallypoint.matchmaking import attention
from rallypoint.matchmaking.assigner import Assigner
from rallypoint.matchmaking.config import MatchmakingSettings
from rallypoint.matchmaking.domain.pace import Pace
from rallypoint.matchmaking.domain.queues import QueueConfig
from rallypoint.matchmaking.lane import Lane
from rallypoint.matchmaking.rating_store import RatingStore
from rallypoint.matchmaking.ticket_store import TicketStore

logger = logging.getLogger(__name__)


class Lanes(Mapping[str, Lane]):
    """Lanes by queue; their tasks run in `group`."""

    def __init__(
        self,
        settings: MatchmakingSettings,
        runtime: Runtime,
        assigner: Assigner,
        group: asyncio.TaskGroup,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._assigner = assigner
        self._group = group
        self._lanes: dict[str, Lane] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}

    def __getitem__(self, queue: str) -> Lane:
        return self._lanes[queue]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lanes)

    def __len__(self) -> int:
        return len(self._lanes)

    def take(self, config: QueueConfig) -> None:
        """A document is new or has changed; it counts from the next cycle on."""
        lane = self._lanes.get(config.queue)
        if lane is not None:
            lane.change(config)
        else:
            lane = self._lanes[config.queue] = self._lane(config)
            metrics.MM_CONFLICTS.labels(config.queue)  # from 0: what is rare is drawn before it
            metrics.MM_BACKFILLS.labels(config.queue, "OK")
            self._tasks[config.queue] = [
                self._start(attention.run(lane), f"attention.{config.queue}"),
                self._start(self._lead(lane), f"leader.{config.queue}"),
            ]
        logger.info("queue_taken", extra={"queue": config.queue})

    def drop(self, queue: str) -> None:
        """A document is gone: nobody is matched there any more. Tickets wait for their time."""
        lane = self._lanes.pop(queue, None)
        if lane is None:
            return
        lane.closing.set()
        for task in self._tasks.pop(queue):
            task.cancel()
        logger.warning("queue_dropped", extra={"queue": queue})

    def end_streams(self) -> None:
        """Have all watchers told to come again."""
        for lane in self._lanes.values():
            lane.closing.set()

    def cancel(self) -> None:
        """Stop all that runs; leases are given up."""
        for tasks in self._tasks.values():
            for task in tasks:
                task.cancel()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self._group.create_task(work, name=name)

    async def _lead(self, lane: Lane) -> None:
        """Calls are answered meanwhile: importing numpy takes longer than them."""
        await asyncio.to_thread(importlib.import_module, "rallypoint.matchmaking.leader")
        from rallypoint.matchmaking import leader

        runtime = self._runtime
        identity = leader.Identity(runtime.settings.instance, runtime.incarnation)
        await leader.run(lane, runtime.bus, self._assigner, identity)

    def _lane(self, config: QueueConfig) -> Lane:
        settings, store = self._settings, self._runtime.store
        return Lane(
            config=config,
            tickets=TicketStore(
                store,
                config.queue,
                retention_s=settings.ticket_retention_s,
                unattended_s=config.unattended_s,
            ),
            ratings=RatingStore(store, config.queue),
            clock=self._runtime.clock,
            pace=Pace(settings.queue_cycle_ms / 1000, settings.queue_gap_ms / 1000),
        )
