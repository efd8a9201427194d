"""Allocations, scale-in, updates, crashes and leader changes against each other, seeded.

The world is played by the operator's own decisions and by models of Redis and of servers. Views
are old, answers are lost, leaders are deposed without noticing, Redis forgets acknowledged claims.
After every step: no room was on a deleted server, no ordinal lives twice, no claim is kept for
ever, and no fence was written or lifted by a leader after the next one had begun.
`MODEL_STEPS=35000` in the environment makes it the long form of a million steps.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.fleet.domain import retiring
from rallypoint.fleet.domain.game_server_set import GameServerSetSpec, ScaleIn, Update
from rallypoint.fleet.domain.retiring import Host, Slots
from rallypoint.fleet.domain.set_plan import Limits, Server, plan

CAPACITY = 2
TTL_S = 30.0
SPEC = GameServerSetSpec(
    scale_in=ScaleIn(min_idle_seconds=5), update=Update(max_surge=2, max_unavailable=1)
)
STEPS = int(os.environ.get("MODEL_STEPS", "700"))


@dataclass
class Pod:
    """A server as it is: its object, its process, what Redis keeps of it."""

    ordinal: int
    uid: int
    revision: str
    host: Host = field(default_factory=Host)
    ready: bool = False
    since: float = 0.0
    drain: bool = False


@dataclass
class Promise:
    """A claim that an allocator holds; `forgotten` when a failover of Redis lost it."""

    name: str
    uid: int
    ends: float
    created: bool = False
    forgotten: bool = False

    def stands(self, now: float) -> bool:
        """Whether the allocator may rely on it."""
        return now < self.ends and not self.forgotten


@dataclass
class Leader:
    """An operator process: its epoch, what it saw and when. It may not know that it is deposed."""

    epoch: int
    view: list[tuple[Server, int]] = field(default_factory=list)


class World:
    """Everything that is true, and the rules that must hold."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.uids = 0
        self.epoch = 1
        self.replicas = 3
        self.revision = "r0"
        self.pods: dict[str, Pod] = {}
        self.slots: dict[tuple[str, int], Slots] = {}
        self.leaders = [Leader(1)]
        self.promises: dict[str, Promise] = {}
        self.claimed: dict[str, float] = {}  # requests that were promised a slot, and when
        self.lost = 0
        self.requests = 0
        self.deleted = 0
        self.refused = 0
        self.steps = (
            [self.claim] * 2 + [self.go_on] * 3 + [self.close_room] * 3 + [self.act] * 5
            + [self.look] * 2 + [self.get_ready, self.scale, self.update, self.crash_server]
            + [self.change_leader, self.forget_claims, self.expire]
        )  # fmt: skip
        self.started = 0

    def step(self) -> None:
        """Do one thing at random."""
        self.now += self.rng.random() * 2
        self.rng.choice(self.steps)()
        self.check()

    def at(self, name: str) -> tuple[str, int]:
        return name, self.pods[name].uid

    def claim(self) -> None:
        """An allocator is promised a slot; what it does with it are steps of their own."""
        names = [name for name, pod in self.pods.items() if pod.ready]
        if not names:
            return
        name = self.rng.choice(names)
        self.requests += 1
        request, key = f"m{self.requests}", self.at(name)
        self.slots[key], refusal = retiring.claim(
            self.slots[key], request, now=self.now, ttl_s=TTL_S
        )
        if not refusal:
            self.claimed[request] = self.now
            self.promises[request] = Promise(name, key[1], self.now + TTL_S)

    def go_on(self) -> None:
        """One allocation takes its next step: create the room, confirm; or its answer is lost."""
        if not self.promises:
            return
        request = self.rng.choice(list(self.promises))
        promise = self.promises[request]
        pod = self.pods.get(promise.name)
        if pod is None or pod.uid != promise.uid or self.rng.random() < 0.1:
            del self.promises[request]
            self.lost += 1
        elif request not in pod.host.rooms and not promise.created:
            pod.host, refusal = pod.host.create(request)
            assert not refusal or not promise.stands(self.now), f"{request} was promised a slot"
            promise.created = not refusal
            self.started += promise.created
            if refusal:
                del self.promises[request]
        else:
            key = (promise.name, promise.uid)
            self.slots[key], _ = retiring.confirm(self.slots[key], request, now=self.now)
            del self.promises[request]

    def close_room(self) -> None:
        busy = [(n, room) for n, pod in self.pods.items() for room in sorted(pod.host.rooms)]
        if busy:
            name, room = self.rng.choice(busy)
            pod = self.pods[name]
            pod.host = pod.host.close(room)
            pod.since = self.now
            slots = self.slots[self.at(name)]
            self.slots[self.at(name)] = replace(slots, rooms=len(pod.host.rooms))

    def get_ready(self) -> None:
        for pod in self.pods.values():
            if not pod.ready:
                pod.ready, pod.since = True, self.now
                return

    def look(self) -> None:
        """Some leader refreshes its view; between two looks it acts on an old one."""
        leader = self.rng.choice(self.leaders)
        leader.view = [(self.seen(name, pod), pod.uid) for name, pod in self.pods.items()]

    def seen(self, name: str, pod: Pod) -> Server:
        slots = self.slots[self.at(name)]
        return Server(
            name=name, ordinal=pod.ordinal, revision=pod.revision,
            phase=("Active" if pod.host.rooms else "Ready") if pod.ready else "Starting",
            rooms=slots.rooms,
            claims=len(slots.live_claims(self.now)), since=pod.since, drain=pod.drain,
        )  # fmt: skip

    def act(self) -> None:
        """Plan on what was seen, then do one or a few steps of it, and perhaps die in between."""
        leader = self.rng.choice(self.leaders)
        result = plan(
            SPEC, revision=self.revision, replicas=self.replicas, now=self.now,
            servers=[server for server, _ in leader.view], limits=Limits(creates=2),
        )  # fmt: skip
        for ordinal in result.creates:
            if self.rng.random() < 0.9:
                self.create(ordinal)
        uids = {server.name: uid for server, uid in leader.view}
        going = {one.name for one in result.retires}
        for name, uid in uids.items():
            if self.rng.random() < 0.9:
                (self.retire if name in going else self.keep)(leader, name, uid)

    def create(self, ordinal: int) -> None:
        name = f"arena-{ordinal}"
        if name in self.pods:  # AlreadyExists: adopted
            return
        self.uids += 1
        self.pods[name] = Pod(ordinal, self.uids, self.revision, since=self.now)
        self.slots[name, self.uids] = Slots(CAPACITY)

    def retire(self, leader: Leader, name: str, uid: int) -> None:
        """One step of a retirement; a later pass takes the next."""
        pod = self.pods.get(name)
        if pod is None or pod.uid != uid:
            return
        slots = self.slots[name, uid]
        match retiring.next_step(
            fenced_by=slots.fenced_by, agreed_to=pod.host.agreed_to, epoch=leader.epoch
        ):
            case "fence":
                after, _ = retiring.fence(
                    slots, epoch=leader.epoch, set_epoch=self.epoch, now=self.now
                )
                self.write(leader, (name, uid), after)
            case "drain":
                pod.host, refusal = pod.host.drain(leader.epoch)
                if not refusal:
                    pod.drain = True
                elif refusal == "OCCUPIED":  # the server knows of a room that Redis forgot
                    counted = replace(slots, rooms=len(pod.host.rooms))
                    after, _ = retiring.lift(counted, epoch=leader.epoch, set_epoch=self.epoch)
                    self.write(leader, (name, uid), after)
            case "delete":
                self.delete(name)

    def keep(self, leader: Leader, name: str, uid: int) -> None:
        """Give back a server that was to go and shall not: first its word, then its fence."""
        pod = self.pods.get(name)
        if pod is None or pod.uid != uid or not self.slots[name, uid].fenced_by:
            return
        pod.host, refusal = pod.host.resume(leader.epoch)
        if not refusal and self.rng.random() < 0.9:
            pod.drain = False
            slots = self.slots[name, uid]
            after, _ = retiring.lift(slots, epoch=leader.epoch, set_epoch=self.epoch)
            self.write(leader, (name, uid), after)

    def write(self, leader: Leader, key: tuple[str, int], after: Slots) -> None:
        """Keep what a leader made of a server's fence; one that was followed makes nothing."""
        stale, before = leader.epoch < self.epoch, self.slots[key].fenced_by
        assert not stale or after.fenced_by == before, f"epoch {leader.epoch} wrote a fence"
        self.refused += stale
        self.slots[key] = after

    def delete(self, name: str) -> None:
        pod = self.pods.pop(name)
        assert not pod.host.rooms, f"{name} was deleted with rooms"
        self.slots.pop((name, pod.uid))
        for request, promise in self.promises.items():
            held = (promise.name, promise.uid) == (name, pod.uid) and promise.stands(self.now)
            assert not held, f"{name} was deleted while {request} had a claim on it"
        self.deleted += 1

    def scale(self) -> None:
        self.replicas = self.rng.randrange(6)

    def update(self) -> None:
        if self.rng.random() < 0.3:
            self.revision = f"r{self.rng.randrange(3)}"

    def crash_server(self) -> None:
        """The process dies and its pod with it; recovery is not the operator's business."""
        if self.pods and self.rng.random() < 0.3:
            name = self.rng.choice(sorted(self.pods))
            self.slots.pop(self.at(name))
            del self.pods[name]

    def change_leader(self) -> None:
        """A new one leads; the old one goes on for a while without knowing."""
        if self.rng.random() < 0.8:
            return
        self.epoch += 1
        self.leaders = [self.leaders[-1], Leader(self.epoch)]

    def forget_claims(self) -> None:
        """A failover of Redis loses the last claims that it had acknowledged, never a fence."""
        if self.pods and self.rng.random() < 0.3:
            key = self.at(self.rng.choice(sorted(self.pods)))
            self.slots[key] = replace(self.slots[key], claims={})
            for promise in self.promises.values():
                promise.forgotten |= (promise.name, promise.uid) == key

    def expire(self) -> None:
        """Redis drops what ran out, and counts rooms anew from the servers' heartbeats."""
        for name, pod in self.pods.items():
            slots = self.slots[self.at(name)]
            live = slots.live_claims(self.now)
            self.slots[self.at(name)] = replace(slots, claims=live, rooms=len(pod.host.rooms))

    def check(self) -> None:
        numbers = [pod.ordinal for pod in self.pods.values()]
        assert len(set(numbers)) == len(numbers)
        for (name, uid), slots in self.slots.items():
            assert self.pods[name].uid == uid
            self.check_claims(name, slots)

    def check_claims(self, name: str, slots: Slots) -> None:
        """Of all that is still written down, what is older than its time must hold nothing up."""
        young = [r for r in slots.claims if self.now < self.claimed[r] + TTL_S]
        if not slots.fenced_by:
            free = CAPACITY - slots.rooms - len(young)
            assert slots.free(self.now) == free, f"{name} is held by more than {young}"
        _, refusal = retiring.fence(slots, epoch=self.epoch, set_epoch=self.epoch, now=self.now)
        assert young or refusal != "CLAIMED", f"{name} is not let go for claims that ran out"


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_no_room_is_ever_on_a_server_that_goes(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()


def test_the_model_does_play_and_delete() -> None:
    """A model in which nothing happens proves nothing."""
    world = World(7)
    for _ in range(3000):
        world.step()
    assert world.started > 50
    assert world.deleted > 20
    assert world.lost > 20
    assert world.refused > 20
