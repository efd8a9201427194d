"""Tells people what happened to an object: `kubectl describe` shows it. Never waited for."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from typing import NoReturn

from rallypoint.kit.clock import Clock, SystemClock
from rallypoint.kube import errors
from rallypoint.kube.api import Api
from rallypoint.kube.domain.happenings import Happening, Series, Type, Write
from rallypoint.kube.objects import Event, ObjectMeta, ObjectReference, micro_time

log = logging.getLogger(__name__)
NOTE_MAX_CHARACTERS = 1024
QUEUE_MAX = 1000


class Recorder:
    """Writes events in the background; when too many wait, the oldest are dropped."""

    def __init__(
        self,
        api: Api[Event],
        *,
        component: str,
        instance: str,
        clock: Clock | None = None,
        series: Series | None = None,
    ) -> None:
        self._api, self._component, self._instance = api, component, instance
        self._clock = clock or SystemClock()
        self._series = series or Series()
        self._waiting: deque[Write] = deque(maxlen=QUEUE_MAX)
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.dropped = 0

    def record(
        self, regarding: ObjectReference, *, reason: str, note: str,
        action: str = "Reconcile", type: Type = "Normal",
    ) -> None:  # fmt: skip
        """Say that something happened; `reason` is UpperCamel and of low cardinality."""
        happening = Happening(regarding, type, reason, action, note[:NOTE_MAX_CHARACTERS])
        name = f"{regarding.name[:200]}.{secrets.token_hex(8)}"
        write = self._series.note(happening, name=name, now=self._clock.monotonic())
        if write is None:
            return
        self.dropped += len(self._waiting) == QUEUE_MAX
        self._waiting.append(write)
        self._changed.set()
        self._idle.clear()

    async def run(self) -> NoReturn:
        """Write until cancelled."""
        while True:
            await self._changed.wait()
            while self._waiting:
                await self._try_write(self._waiting.popleft())
            self._changed.clear()
            self._idle.set()

    async def wait_written(self) -> None:
        """Wait until everything recorded so far is written or given up."""
        await self._idle.wait()

    async def _try_write(self, write: Write) -> None:
        try:
            await self._write(write)
        except errors.KubeError as error:
            log.info("event was not written: %s", error)

    async def _write(self, write: Write) -> None:
        namespace = write.happening.regarding.namespace or "default"
        if write.count > 1:
            now = micro_time(self._clock)
            patch = {"series": {"count": write.count, "lastObservedTime": now}}
            try:
                await self._api.merge_patch(write.name, patch, namespace=namespace)
                return
            except errors.NotFound:  # events are kept for an hour
                pass
        await self._api.create(self._event(write, namespace))

    def _event(self, write: Write, namespace: str) -> Event:
        what = write.happening
        return Event(
            metadata=ObjectMeta(name=write.name, namespace=namespace),
            event_time=micro_time(self._clock),
            reporting_controller=self._component,
            reporting_instance=self._instance,
            action=what.action,
            reason=what.reason,
            regarding=what.regarding,
            note=what.note,
            type=what.type,
        )
