"""The part of `rallypoint bench fleet` that claims slots: three allocators on one real Redis.

A claim here is what an Allocate does in Redis before the room is made: bind, which gives an epoch,
and claim. Allocators are processes; what they claim they give back in turn, so that the set stays
about two thirds full. Servers are of 8 rooms and exist as registrations only.

packing       slots used of the servers in use, worst of what was seen while a set fills up
claims_per_s  150 clients in all, each claims again at once
claim_ms      1,000 claims a second, whoever is late: from the planned moment to the answer
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import random
import secrets
import tempfile
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from rallypoint.cli import bench_run, brokers, child
from rallypoint.fleet.batching import Batcher
from rallypoint.fleet.claiming import Claiming, Kind
from rallypoint.fleet.claims import Binding, Claims, Wish
from rallypoint.fleet.domain.nodes import Node, Registry
from rallypoint.kit import errors
from rallypoint.kit.clock import SystemClock
from rallypoint.kit.names import RoomId, SetName
from rallypoint.kit.store import Store

PROMISE = {"claims_per_s": 2000.0, "claim_p99_ms": 20.0, "packing": 0.95}
ALLOCATORS = 3
CLIENTS = 50
SERVERS = 400
ROOMS_EACH = 8
KEPT = 700
"""Rooms that each allocator has at a time: two thirds of what there is."""
FILL = 600
"""Rooms that each allocator makes while the set fills."""
LOOKS_AFTER = 20
"""Servers in use from which on packing is looked at: the one being filled weighs little then."""
BEAT_S = 1.0
BEATS_IN = 50
"""Parts of a second in which some servers beat."""


@dataclass(frozen=True, slots=True)
class Job:
    """What an allocator process shall do: fill, or claim for so long."""

    set_name: str
    seconds: float
    rate: float
    """Claims a second, open loop; 0: closed loop."""


Done = tuple[list[float], float, float, int, int]
"""The times, wall and CPU time in all, claims refused and tries that got no answer."""


class _Allocator:
    """One allocator with what it has claimed."""

    def __init__(self, store: Store, tasks: asyncio.TaskGroup, prefix: str) -> None:
        self._claims = Claims(store, SystemClock(), ttl_s=30, closing_s=10, moving_s=5)
        self._registry = Registry()
        self._prefix, self._number = prefix, 0
        self._kept: deque[RoomId] = deque()
        self._random = random.Random(prefix)
        self._tasks = tasks
        self.claiming = Claiming(self._claims, self._registry, SystemClock(), later=self._later)
        self._bind = Batcher(self._claims.bind_many, later=self._later, name="bind")
        self._release = Batcher(self._release_all, later=self._later, name="release")
        self.refused = self.retried = 0

    def _later(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.create_task(coroutine, name=name)

    def register(self, set_name: SetName, numbers: Iterable[int] = range(SERVERS)) -> None:
        """Know servers of a set, as by their registrations and heartbeats."""
        now = time.monotonic()
        for number in numbers:
            node = Node(f"{set_name}-{number}", "a", "-", set_name, frozenset(), ROOMS_EACH)
            self._registry.registered(node, now)
            self._registry.heard(node.node_id, node.incarnation, now)

    async def claim(self, set_name: SetName) -> None:
        """Claim a slot for a new room."""
        self._number += 1
        room = RoomId(f"{self._prefix}-{self._number}")
        while True:  # as a caller does who got no answer: with the same id
            try:
                return await self._claim(set_name, room)
            except errors.Unavailable:
                self.retried += 1

    async def _claim(self, set_name: SetName, room: RoomId) -> None:
        bound = await self._bind(Binding(room, set_name, next_too=True))
        taken = await self.claiming.take(Kind(set_name, ""), Wish(room, bound.epoch))
        if taken.claim is None:
            self.refused += 1
            return
        self._kept.append(room)

    async def give_back(self, set_name: SetName) -> None:
        """Have rooms end, in any order, so that no more are kept than shall be."""
        while len(self._kept) > KEPT:
            self._kept.rotate(self._random.randrange(len(self._kept)))
            with contextlib.suppress(errors.Unavailable):
                await self._release((set_name, self._kept.popleft()))

    async def _release_all(self, over: Sequence[tuple[SetName, RoomId]]) -> list[None]:
        await self._claims.release_many([(set_name, room, 0) for set_name, room in over])
        return [None] * len(over)

    async def beat(self, set_name: SetName) -> None:
        """Hear each server's heartbeat once a second, each at a moment of its own."""
        for part in itertools.cycle(range(BEATS_IN)):
            await asyncio.sleep(BEAT_S / BEATS_IN)
            self.register(set_name, range(part, SERVERS, BEATS_IN))


def _process(redis_url: str, prefix: str, pipe: Connection) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(redis_url, prefix, pipe))


async def _serve(redis_url: str, prefix: str, pipe: Connection) -> None:
    store = await Store.connect(redis_url)
    async with asyncio.TaskGroup() as tasks:
        while (job := await asyncio.to_thread(pipe.recv)) is not None:
            allocator = _Allocator(store, tasks, f"{prefix}-{secrets.token_hex(3)}")
            set_name = SetName(job.set_name)
            allocator.register(set_name)
            beating = tasks.create_task(allocator.beat(set_name), name="beat")
            began, cpu = time.monotonic(), time.process_time()
            times = await _do(allocator, set_name, job)
            spent = (time.monotonic() - began, time.process_time() - cpu)
            beating.cancel()
            pipe.send((times, *spent, allocator.refused, allocator.retried))
    await store.close()


async def _do(allocator: _Allocator, set_name: SetName, job: Job) -> list[float]:
    if job.rate:
        return await _open_loop(allocator, set_name, job)
    times: list[float] = []
    end = time.monotonic() + job.seconds if job.seconds else float("inf")
    left = iter(range(FILL)) if not job.seconds else iter(int, 1)

    async def client() -> None:
        for _ in left:
            started = time.perf_counter()
            if time.monotonic() > end:
                return
            await allocator.claim(set_name)
            times.append(time.perf_counter() - started)
            if job.seconds:
                await allocator.give_back(set_name)

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())
    return times


async def _open_loop(allocator: _Allocator, set_name: SetName, job: Job) -> list[float]:
    times: list[float] = []

    async def one(planned: float) -> None:
        await allocator.claim(set_name)
        times.append(time.perf_counter() - planned)
        await allocator.give_back(set_name)

    async with asyncio.TaskGroup() as calls:
        await at_rate(job.rate, job.seconds, lambda at: calls.create_task(one(at)))
    return times


async def at_rate(rate: float, seconds: float, begin: Callable[[float], object]) -> None:
    """Call `begin` with each planned moment, however long the calls before it take."""
    started = time.perf_counter()
    for number in range(int(rate * seconds)):
        planned = started + number / rate
        if (ahead := planned - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        begin(planned)


class Allocators:
    """The allocator processes."""

    def __init__(self, redis_url: str) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for number in range(ALLOCATORS):
            here, there = spawning.Pipe()
            self._pipes.append(here)
            self._processes.append(
                spawning.Process(target=_process, args=(redis_url, f"a{number}", there))
            )

    async def __aenter__(self) -> Allocators:
        await asyncio.gather(*(asyncio.to_thread(one.start) for one in self._processes))
        return self

    async def __aexit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for one in self._processes:
            await asyncio.to_thread(one.join)

    async def do(self, job: Job) -> list[Done]:
        """Have all do a job."""
        for pipe in self._pipes:
            pipe.send(job)
        return list(await asyncio.gather(*(asyncio.to_thread(one.recv) for one in self._pipes)))


async def measure(seconds: float, rate: float) -> dict[str, Any]:
    """Return the figures of claims alone."""
    with tempfile.TemporaryDirectory(prefix="rallypoint-claims-") as folder:
        both = brokers.Brokers(Path(folder))
        both.start()
        bench_run.favor(both.redis.pid)
        try:
            store = await Store.connect(both.redis.url)
            async with Allocators(both.redis.url) as allocators:
                report = await _measure(store, allocators, both.redis.pid, seconds, rate)
            await store.close()
            return report
        finally:
            both.stop()


async def _measure(
    store: Store, allocators: Allocators, redis_pid: int, seconds: float, rate: float
) -> dict[str, Any]:
    claims = Claims(store, SystemClock(), ttl_s=30, closing_s=10, moving_s=5)
    for name in ("fill", "warm", "closed", "open"):
        await claims.adopt(SetName(name), [])
    packing = await _packing(claims, allocators)
    warm_up = Job("warm", 2.0, 0.0)
    await allocators.do(warm_up)
    redis = child.usage(redis_pid).cpu_s
    closed = await allocators.do(Job("closed", seconds, 0.0))
    redis = child.usage(redis_pid).cpu_s - redis
    opened = await allocators.do(Job("open", seconds, rate / ALLOCATORS))
    done = sum(len(times) for times, *_ in closed)
    return {
        "claims_per_s": round(sum(len(times) / wall for times, wall, *_ in closed)),
        "claim_ms": percentiles(time for times, *_ in opened for time in times),
        "packing": round(packing, 4),
        "claims": {
            "allocators": ALLOCATORS,
            "clients_each": CLIENTS,
            "servers": SERVERS,
            "rooms_each": ROOMS_EACH,
            "offered_per_s": rate,
            "closed_loop_ms": percentiles(time for times, *_ in closed for time in times),
            "cpu_us_each": round(1e6 * sum(one[2] for one in closed) / done, 1),
            "redis_us_each": round(1e6 * redis / done, 1),
            "refused": sum(one[3] for one in (*closed, *opened)),
            "retried": sum(one[4] for one in (*closed, *opened)),
            "open_cpu_us_each": round(
                1e6 * sum(one[2] for one in opened) / sum(len(one[0]) for one in opened), 1
            ),
        },
    }


async def _packing(claims: Claims, allocators: Allocators) -> float:
    """Look on while a set fills up."""
    seen: list[float] = []
    filling = asyncio.create_task(allocators.do(Job("fill", 0.0, 0.0)), name="fill")
    while not filling.done():
        await asyncio.sleep(0.01)
        used = await claims.used(SetName("fill"))
        if len(used) >= LOOKS_AFTER:
            seen.append(sum(used.values()) / (len(used) * ROOMS_EACH))
    await filling
    used = await claims.used(SetName("fill"))
    return min([*seen, sum(used.values()) / (len(used) * ROOMS_EACH)])


def percentiles(times: Iterable[float]) -> dict[str, float]:
    """Seconds as milliseconds at 50 and 99 percent."""
    found = np.percentile(np.fromiter(times, float), (50, 99)) * 1e3
    return {"p50": round(float(found[0]), 2), "p99": round(float(found[1]), 2)}
