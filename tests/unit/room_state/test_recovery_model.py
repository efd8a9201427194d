"""A model of one room's ownership: two nodes, a slow NATS, processes that freeze, a lost network.

Fleet, nodes and gateways are reduced to what they read and write, messages wait as long as they
like; the clients are the real `Seat`. Whatever happens: writes come from one owner only, epochs of
snapshots never go back, and no client accepts frames of two nodes in one epoch or of an epoch below
one it has seen.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rallypoint.client.seat import Resync, Seat, Stepped
from rallypoint.games import tictactoe
from rallypoint.games.definition import define
from rallypoint.room_state import schema_proto
from rallypoint.v1 import room_pb2

SCHEMA = schema_proto.of(define(tictactoe.TicTacToe).schema)
NODES = (0, 1)
nodes = st.sampled_from(NODES)
gateways = st.integers(0, 1)


@dataclass
class Own:
    """`own.<room>`."""

    node: int
    epoch: int
    revision: int


@dataclass
class Running:
    """The room as a process has it; `revision` is its fence."""

    epoch: int
    revision: int
    tick: int


@dataclass
class Gateway:
    """Where it sends a room's clients, and what it lets through."""

    node: int
    epoch: int = 0
    in_step: bool = False
    arriving: deque[tuple[int, int, int, bool]] = field(default_factory=deque)
    """Frames on their way: node, epoch, tick, keyframe."""


@dataclass
class Watcher:
    """A real client, and what it accepted: node, epoch, tick."""

    gateway: int
    seat: Seat
    accepted: list[tuple[int, int, int]] = field(default_factory=list)


class Cluster(RuleBasedStateMachine):
    """One room."""

    @initialize()
    def place(self) -> None:
        self.revisions = 1
        self.own = Own(0, 1, 1)
        self.snapshot = (1, 0)
        self.results: list[int] = []
        self.running: dict[int, Running | None] = {0: Running(1, 1, 0), 1: None}
        self.frozen = dict.fromkeys(NODES, False)
        self.writes: dict[int, deque[tuple[str, Running]]] = {node: deque() for node in NODES}
        self.restoring: list[Own] = []
        self.gateways = [Gateway(0), Gateway(0)]
        self.watchers = [Watcher(0, Seat("r", b"a")), Watcher(1, Seat("r", b"b"))]
        self.stored = [self.snapshot]
        for number in (0, 1):
            self.join(number, number)

    # --- nodes ---

    @rule(node=nodes)
    def tick(self, node: int) -> None:
        """A step, and its frame to every gateway that is attached there."""
        room = self.running[node]
        if room is None or self.frozen[node]:
            return
        room.tick += 1
        for gateway in self.gateways:
            if gateway.node == node:
                key = not gateway.in_step
                gateway.in_step = True
                gateway.arriving.append((node, room.epoch, room.tick, key))

    @rule(node=nodes, what=st.sampled_from(["snapshot"] * 5 + ["result"]))
    def write(self, node: int, what: str) -> None:
        """A write leaves the node; the broker takes its time."""
        room = self.running[node]
        if room is not None and not self.frozen[node]:
            self.writes[node].append((what, Running(room.epoch, room.revision, room.tick)))

    @precondition(lambda self: any(self.writes.values()))
    @rule(node=nodes)
    def arrive(self, node: int) -> None:
        """The broker takes a write, or refuses it: then the node ends its room."""
        if not self.writes[node]:
            return
        what, item = self.writes[node].popleft()
        if item.revision != self.own.revision:
            room = self.running[node]
            if room is not None and room.revision == item.revision:
                self.running[node] = None
            return
        assert self.own.node == node
        if what == "snapshot":
            self.snapshot = (item.epoch, item.tick)
            self.stored.append(self.snapshot)
        else:
            self.results.append(item.epoch)

    @rule(node=nodes)
    def freeze_or_wake(self, node: int) -> None:
        self.frozen[node] = not self.frozen[node]

    @rule(node=nodes, luck=st.integers(0, 4))
    def die(self, node: int, luck: int) -> None:
        """The process is gone, its writes on the way are not; it comes back empty."""
        if luck == 0:
            self.running[node] = None

    # --- fleet: it may be wrong about who is dead ---

    @rule(to=nodes)
    def move(self, to: int) -> None:
        self.revisions += 1
        self.own = Own(to, self.own.epoch + 1, self.revisions)
        self.restoring.append(self.own)

    @rule(to=nodes)
    def recover(self, to: int) -> None:
        """A whole move as it mostly is: at once."""
        self.move(to)
        self._restore(self.own)

    @precondition(lambda self: self.restoring)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """RestoreRoom arrives, late and in any order; a frozen process does not answer."""
        self._restore(data.draw(st.sampled_from(self.restoring)))

    def _restore(self, wanted: Own) -> None:
        if self.frozen[wanted.node]:
            return
        self.restoring.remove(wanted)
        epoch, tick = self.snapshot
        room = self.running[wanted.node]
        newer = room is not None and room.epoch >= wanted.epoch
        # The node replies after its first write: one that is fenced ends the room at once.
        if newer or epoch >= wanted.epoch or wanted.revision != self.own.revision or self.results:
            return
        self.running[wanted.node] = Running(wanted.epoch, wanted.revision, tick)
        self.snapshot = (wanted.epoch, tick)
        self.stored.append(self.snapshot)

    # --- gateways ---

    @rule(number=gateways)
    def look(self, number: int) -> None:
        """A gateway reads `own`, and attaches there; what it asks first is a keyframe."""
        gateway = self.gateways[number]
        if gateway.node != self.own.node:
            gateway.node, gateway.in_step = self.own.node, False
            gateway.arriving.clear()

    @rule(node=nodes)
    def play(self, node: int) -> None:
        """A step whose frames arrive at once, with those before them."""
        self.tick(node)
        for number, gateway in enumerate(self.gateways):
            while gateway.arriving:
                self.deliver(number)

    @rule(number=gateways)
    def deliver(self, number: int) -> None:
        """The oldest frame on its way reaches a gateway, and its clients."""
        gateway = self.gateways[number]
        if not gateway.arriving:
            return
        node, epoch, tick, key = gateway.arriving.popleft()
        if epoch < gateway.epoch:
            return
        if epoch > gateway.epoch and not key:
            gateway.in_step = False
            return
        gateway.epoch = epoch
        for watcher in self.watchers:
            if watcher.gateway == number and watcher.seat.schema is not None:
                self.show(watcher, (node, epoch, tick), 0 if key else tick - 1)

    # --- clients ---

    @rule(number=st.integers(0, 1), gateway=gateways)
    def join(self, number: int, gateway: int) -> None:
        """A client joins (again) at any gateway, whose node answers with its epoch."""
        room = self.running[self.gateways[gateway].node]
        if room is None or self.frozen[self.gateways[gateway].node]:
            return
        watcher = self.watchers[number]
        watcher.gateway = gateway
        welcome = room_pb2.Welcome(slot=0, epoch=room.epoch, schema=SCHEMA)
        watcher.seat.receive(room_pb2.JoinResponse(welcome=welcome).SerializeToString())
        self.gateways[gateway].in_step = False

    def show(self, watcher: Watcher, what: tuple[int, int, int], base: int) -> None:
        frame = room_pb2.Frame(epoch=what[1], tick=what[2], base_tick=base)
        message = room_pb2.JoinResponse(frame=frame).SerializeToString()
        try:
            happened = watcher.seat.receive(message)
        except Resync:
            self.gateways[watcher.gateway].in_step = False
            return
        if isinstance(happened, Stepped):
            watcher.accepted.append(what)

    # --- what must hold ---

    @invariant()
    def one_owner_can_write(self) -> None:
        able = [room for room in self.running.values() if room and self._owns(room)]
        assert len(able) <= 1

    def _owns(self, room: Running) -> bool:
        return room.revision == self.own.revision

    @invariant()
    def snapshots_never_go_back(self) -> None:
        assert [epoch for epoch, _ in self.stored] == sorted(epoch for epoch, _ in self.stored)

    @invariant()
    def results_come_from_one_epoch(self) -> None:
        assert len(set(self.results)) <= 1

    @invariant()
    def clients_follow_one_owner(self) -> None:
        owners: dict[int, int] = {}
        for watcher in self.watchers:
            epochs = [epoch for _, epoch, _ in watcher.accepted]
            assert epochs == sorted(epochs)
            for node, epoch, _ in watcher.accepted:
                assert owners.setdefault(epoch, node) == node


Cluster.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestCluster = Cluster.TestCase
