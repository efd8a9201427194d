"""A day of a set in a second: the real decisions over made-up players, for buffers and bills.

Matches arrive by chance (Poisson) along a daily curve, last a while, and are packed into servers;
servers take time to start. What decides is the operator's own code: `autoscaling` says how many,
`set_plan` says which. A match that finds no slot waits, as in Allocate, and is denied at the end.
"""

from __future__ import annotations

import datetime
import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rallypoint.fleet.domain import autoscaling
from rallypoint.fleet.domain.autoscaling import History, Load
from rallypoint.fleet.domain.game_server import Phase
from rallypoint.fleet.domain.game_server_set import GameServerSetSpec
from rallypoint.fleet.domain.set_plan import Limits, Server, plan

DAY_S = 86_400
REVISION = "r1"
BEGIN = datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What a day is like."""

    peak_per_minute: float = 60.0
    night_share: float = 0.15
    peak_hour: float = 20.0
    match_s: float = 600.0
    start_s: float = 45.0
    patience_s: float = 30.0
    players_each: int = 8
    hours: float = 24.0
    warm_s: float = 1800.0
    """Played before the clock starts: a set that begins from nothing denies at first."""
    tick_s: float = 5.0
    seed: int = 1

    def per_second(self, now: float) -> float:
        """Return how many matches begin in a second: a curve with one evening peak."""
        angle = (now / 3600.0 - self.peak_hour) / 24.0 * math.tau
        share = self.night_share + (1.0 - self.night_share) * (1.0 + math.cos(angle)) / 2.0
        return self.peak_per_minute / 60.0 * share


@dataclass(frozen=True, slots=True)
class Sample:
    """How it stood at one moment."""

    at: float
    servers: int
    ready: int
    capacity: int
    rooms: int
    waiting: int
    denied: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    samples: tuple[Sample, ...]
    matches: int
    denied: int
    waited: int
    server_hours: float
    used_room_hours: float
    created: int
    retired: int
    rooms_each: int

    @property
    def utilisation(self) -> float:
        """How much of what was paid for was played in."""
        paid = self.server_hours * self.rooms_each
        return self.used_room_hours / paid if paid else 0.0


@dataclass
class _Machine:
    ordinal: int
    begun: float
    ready_at: float
    rooms: int = 0
    since: float = 0.0


@dataclass
class _World:
    """The set and its players."""

    scenario: Scenario
    spec: GameServerSetSpec
    rng: random.Random
    machines: dict[int, _Machine] = field(default_factory=dict)
    ends: list[tuple[float, int]] = field(default_factory=list)
    waiting: deque[float] = field(default_factory=deque)
    matches: int = 0
    denied: int = 0
    waited: int = 0
    created: int = 0
    retired: int = 0

    def play(self, now: float) -> None:
        """End rooms, let players come, give slots, deny those whose patience is over."""
        while self.ends and self.ends[0][0] <= now:
            machine = self.machines[heapq.heappop(self.ends)[1]]
            machine.rooms, machine.since = machine.rooms - 1, now
        tick_s = self.scenario.tick_s
        for _ in range(_poisson(self.rng, self.scenario.per_second(now) * tick_s)):
            self.matches += 1
            self.waiting.append(now)
        while self.waiting and self._place(now):
            self.waited += now > self.waiting.popleft()
        while self.waiting and now - self.waiting[0] >= self.scenario.patience_s:
            self.waiting.popleft()
            self.denied += 1

    def _place(self, now: float) -> bool:
        """Take the fullest server that has room, as the allocator does."""
        most = self.spec.capacity.rooms
        open_ones = [m for m in self.machines.values() if m.ready_at <= now and m.rooms < most]
        if not open_ones:
            return False
        machine = max(open_ones, key=lambda m: (m.rooms, -m.ordinal))
        machine.rooms += 1
        lasts = self.rng.expovariate(1.0 / self.scenario.match_s)
        heapq.heappush(self.ends, (now + lasts, machine.ordinal))
        return True

    def servers(self, now: float) -> list[Server]:
        """Return the servers as the operator sees them."""
        return [
            Server(
                name=f"sim-{m.ordinal}", ordinal=m.ordinal, revision=REVISION,
                phase=_phase(m, self.spec.capacity.rooms, now), rooms=m.rooms,
                since=max(m.since, m.ready_at), created=m.begun,
            )
            for m in self.machines.values()
        ]  # fmt: skip

    def operate(self, now: float, replicas: int) -> None:
        """Do what the plan says; starting takes its time, going does not."""
        result = plan(
            self.spec, revision=REVISION, replicas=replicas, servers=self.servers(now), now=now,
            limits=Limits(),
        )  # fmt: skip
        for ordinal in result.creates:
            self.machines[ordinal] = _Machine(ordinal, now, now + self.scenario.start_s)
            self.created += 1
        for one in result.retires:
            machine = self.machines.pop(int(one.name.rpartition("-")[2]))
            assert machine.rooms == 0, "an occupied server was retired"
            self.retired += 1

    def sample(self, now: float) -> Sample:
        """Return how it stands."""
        ready = sum(m.ready_at <= now for m in self.machines.values())
        rooms = sum(m.rooms for m in self.machines.values())
        each = self.spec.capacity.rooms
        waiting = len(self.waiting)
        return Sample(now, len(self.machines), ready, ready * each, rooms, waiting, self.denied)


def run(
    scenario: Scenario,
    spec: GameServerSetSpec,
    *,
    each: Callable[[Sample], None] = lambda _: None,
) -> Outcome:
    """Play the scenario against a set with autoscaling; `each` is told every sample."""
    assert spec.autoscaling is not None, "the set has no autoscaling to simulate"
    world = _World(scenario, spec, random.Random(scenario.seed))
    history, replicas, samples = History(), spec.autoscaling.min, []
    server_s = room_s = 0.0
    first = -int(scenario.warm_s / scenario.tick_s)
    for tick in range(first, int(scenario.hours * 3600 / scenario.tick_s)):
        now = tick * scenario.tick_s
        world.play(now)
        decision = _decide(world, replicas, now, history)
        replicas, history = decision.desired, decision.history
        world.operate(now, replicas)
        if tick < 0:
            world.matches = world.denied = world.waited = world.created = world.retired = 0
            continue
        samples.append(world.sample(now))
        each(samples[-1])
        server_s += samples[-1].servers * scenario.tick_s
        room_s += samples[-1].rooms * scenario.tick_s
    return Outcome(
        tuple(samples), world.matches, world.denied, world.waited, server_s / 3600, room_s / 3600,
        world.created, world.retired, spec.capacity.rooms,
    )  # fmt: skip


def _decide(world: _World, replicas: int, now: float, history: History) -> autoscaling.Decision:
    spec = world.spec.autoscaling
    assert spec is not None
    machines = world.machines.values()
    load = Load(
        rooms=sum(m.rooms for m in machines),
        claimed=len(world.waiting),  # they ask for slots as claims do
        players=sum(m.rooms for m in machines) * world.scenario.players_each,
        occupied_servers=sum(m.rooms > 0 for m in machines),
    )
    capacity = world.spec.capacity
    asked = (
        autoscaling.need(
            policy, load, rooms_each=capacity.rooms, players_each=capacity.players,
            now=BEGIN + datetime.timedelta(seconds=now), asked={},
        )
        for policy in spec.policies
    )  # fmt: skip
    needs = [one for one in asked if one is not None]
    return autoscaling.decide(spec, needs, current=replicas, now=now, history=history)


def _phase(machine: _Machine, most: int, now: float) -> Phase:
    if machine.ready_at > now:
        return "Starting"
    if machine.rooms == 0:
        return "Ready"
    return "Full" if machine.rooms >= most else "Active"


def _poisson(rng: random.Random, mean: float) -> int:
    """Return how many of something rare happen (Knuth; fine below a mean of some hundreds)."""
    limit, count, product = math.exp(-mean), 0, rng.random()
    while product > limit:
        count += 1
        product *= rng.random()
    return count
