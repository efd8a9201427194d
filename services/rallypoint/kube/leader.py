"""Leading by a Lease: `domain.election` decides, this asks the API server.

    async with Leader(api, "my-operator", identity=pod_name) as leader:
        await leader.wait_leading()
        writes = Api(transport, PODS, manager="my-operator", gate=leader.gate)

Every write through the gate is refused, or ends by its own timeout, before another may lead.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

import msgspec

from rallypoint.kit import metrics
from rallypoint.kit.clock import Clock, SystemClock
from rallypoint.kube import errors
from rallypoint.kube.api import Api
from rallypoint.kube.domain.election import Candidate, Step, Terms
from rallypoint.kube.objects import Lease, LeaseSpec, ObjectMeta, micro_time

log = logging.getLogger(__name__)
LEAST_WRITE_S = 0.5  # a write that has less time than this is not begun
DEFAULT_TERMS = Terms()


class Leader:
    """A candidate for one Lease; leads at some times and not at others."""

    def __init__(
        self,
        api: Api[Lease],
        name: str,
        *,
        identity: str,
        namespace: str = "default",
        terms: Terms = DEFAULT_TERMS,
        clock: Clock | None = None,
    ) -> None:
        self._api, self._name, self._namespace = api, name, namespace
        self._clock = clock or SystemClock()
        self._candidate = Candidate(identity, terms)
        self._leads = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._task: asyncio.Task[None] | None = None

    @property
    def transitions(self) -> int:
        """How often the lease changed hands; no epoch: a Lease made anew counts from 0."""
        seen = self._candidate.seen
        return (seen.spec.lease_transitions or 0) if seen else 0

    @property
    def leading(self) -> bool:
        """Whether this process leads at this moment."""
        return self._candidate.may_write_for(self._clock.monotonic()) > 0

    def gate(self) -> float:
        """Return for how many seconds a write may take from now on; NotLeading if for none."""
        left = self._candidate.may_write_for(self._clock.monotonic())
        if left < LEAST_WRITE_S:
            text = f"{self._candidate.identity} does not hold lease {self._name}"
            raise errors.NotLeading(text, cluster=self._api.transport.cluster)
        return left

    async def wait_leading(self) -> None:
        """Wait until this process leads."""
        await self._leads.wait()

    async def wait_ended(self) -> None:
        """Wait until it leads no more."""
        await self._ended.wait()

    async def __aenter__(self) -> Leader:
        self._task = asyncio.create_task(self._run(), name=f"lease {self._name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        held = self.leading
        self._show(leads=False)
        if held:
            await self._release()

    async def _run(self) -> NoReturn:
        terms = self._candidate.terms
        while True:
            began = self._clock.monotonic()
            # A try may not outlast the lease it renews, nor the moment we must have stopped.
            left = self._candidate.may_write_for(began)
            try:
                async with asyncio.timeout(max(min(terms.renew_s, left or terms.renew_s), 0.01)):
                    await self._step()
            except TimeoutError:
                log.warning("lease %s: no answer in time", self._name)
            except errors.KubeError as error:
                log.info("lease %s: %s", self._name, error)
            except Exception:  # a try that failed: without tries nobody would be told of the end
                log.exception("lease %s: failed", self._name)
            now = self._clock.monotonic()
            left = self._candidate.may_write_for(now)
            if left <= 0:
                self._candidate.lost()
            self._show(leads=left > 0)
            pause = max(0.0, began + terms.retry_s - now)
            await asyncio.sleep(min(pause, left) if left > 0 else pause)

    async def _step(self) -> None:
        if self._candidate.renewed_at is None:
            await self._look()
        step: Step = self._candidate.next_step(self._clock.monotonic())
        if step in ("wait", "stop"):
            return
        sent_at = self._clock.monotonic()
        spec = self._candidate.record(micro_time(self._clock))
        try:
            lease = await (self._create(spec) if step == "create" else self._put(spec))
        except (errors.Conflict, errors.AlreadyExists, errors.NotFound):
            await self._look()  # somebody else wrote: it may be theirs now
            return
        self._candidate.won(lease, sent_at=sent_at, now=self._clock.monotonic())

    async def _look(self) -> None:
        try:
            lease = await self._api.get(self._name, namespace=self._namespace)
        except errors.NotFound:
            lease = None
        self._candidate.observe(lease, self._clock.monotonic())

    async def _create(self, spec: LeaseSpec) -> Lease:
        meta = ObjectMeta(name=self._name, namespace=self._namespace)
        return await self._api.create(Lease(metadata=meta, spec=spec))

    async def _put(self, spec: LeaseSpec) -> Lease:
        assert self._candidate.seen is not None
        return await self._api.replace(msgspec.structs.replace(self._candidate.seen, spec=spec))

    async def _release(self) -> None:
        """Let others lead at once instead of after the lease's duration."""
        seen = self._candidate.seen
        self._candidate.lost()
        if seen is None:
            return
        spec = msgspec.structs.replace(seen.spec, holder_identity="")
        try:
            async with asyncio.timeout(2.0):
                await self._api.replace(msgspec.structs.replace(seen, spec=spec))
        except (errors.KubeError, TimeoutError) as error:
            log.info("lease %s was not given back: %s", self._name, error)

    def _show(self, *, leads: bool) -> None:
        metrics.LEASE_HELD.labels(self._name).set(leads)
        if leads and not self._leads.is_set():
            log.info("lease %s: %s leads", self._name, self._candidate.identity)
            self._leads.set()
            self._ended.clear()
        elif not leads and self._leads.is_set():
            log.warning("lease %s: %s leads no more", self._name, self._candidate.identity)
            self._leads.clear()
            self._ended.set()
