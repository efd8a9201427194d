"""The node: which room is where, and the only way to make or end one.

A room goes to the first table of its game with a free place; a new table, with a task and a
phase of its own, is made when all are full. Rooms that ended are remembered for a while, so that
a late retry of CreateRoom does not bring one back to life.
"""

import asyncio
import contextlib
import functools
import logging
import resource
import secrets
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from rallypoint.games import metadata
from rallypoint.games.definition import Definition
from rallypoint.games.engine import GAME_ERROR, Ended, RoomSpec
from rallypoint.games.room import Seat
from rallypoint.games.saved import EVENT_GAP
from rallypoint.internal.v1 import allocation_pb2
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit import errors, metrics, names, telemetry
from rallypoint.kit.bus import Bus, Conflict
from rallypoint.kit.clock import Clock
from rallypoint.room_state import attach, captured, seating
from rallypoint.room_state.captured import Captured
from rallypoint.room_state.closing import Closer
from rallypoint.room_state.config import Settings
from rallypoint.room_state.domain.replies import ReplyLog
from rallypoint.room_state.domain.seats import SeatBook, Token
from rallypoint.room_state.domain.tenure import Edges, Tenure
from rallypoint.room_state.facts import RoomFacts
from rallypoint.room_state.hosted import SUPERSEDED, HostedRoom, RoomIdentity
from rallypoint.room_state.recording import Recording, Sink
from rallypoint.room_state.runner import Placed, TableRunner
from rallypoint.room_state.snapshots import Snapshots
from rallypoint.room_state.still import ROOM_MOVING

logger = logging.getLogger(__name__)
T = TypeVar("T")

TOKEN_BYTES: Final = 16
REMEMBERED: Final = 4096
REJOIN_S: Final = 10.0
"""How long a restored room waits for a player who was connected, before it calls on_drop."""


class Spawn(Protocol):
    """Starts a named task of the process; `Runtime.spawn` is one."""

    def __call__(
        self, coroutine: Coroutine[Any, Any, None], /, *, name: str
    ) -> "asyncio.Task[None]":
        """Start it."""


class Node:
    """All rooms of this process."""

    def __init__(
        self,
        settings: Settings,
        definitions: Mapping[str, Definition],
        *,
        spawn: Spawn,
        facts: RoomFacts,
        closer: Closer,
        bus: Bus,
        clock: Clock,
        sink: Sink | None = None,
    ) -> None:
        self.settings = settings
        self.definitions = definitions
        self.rooms: dict[str, Placed] = {}
        self.doors = attach.Doors()
        self.draining = False
        self.tenure = Tenure()
        self.crossed = asyncio.Event()
        """Set when the node came to be empty, full, or neither any more."""
        self.frozen = False
        self.moved: dict[str, host.RoomMove] = {}
        """Where rooms that left went."""
        self.fleet_heard_at = float("-inf")
        """When fleet last called, loop time."""
        self.clock = clock
        self.snapshots = Snapshots(bus, lambda: self.rooms, clock)
        self._spawn = spawn
        self._facts = facts
        self._sink = sink
        self._closer = closer
        self._tables: list[TableRunner] = []
        self._ended: dict[str, int] = {}
        self._closing = 0
        self._edges = Edges(settings.room_capacity)
        self._creating = asyncio.Lock()
        self._emptied = asyncio.Event()
        metrics.ROOM_ROOMS.set_function(lambda: len(self.rooms))
        metrics.ROOM_PLAYERS.set_function(lambda: self.players)

    @property
    def players(self) -> int:
        """Players connected."""
        return sum(placed.room.book.connected for placed in self.rooms.values())

    def wishful(self) -> list[Placed]:
        """The rooms of tables in which one has ever asked for players: mostly none."""
        if not any(runner.table.has_wished for runner in self._tables):
            return []
        return [placed for placed in self.rooms.values() if placed.runner.table.has_wished]

    def has_ended(self, room_id: str) -> bool:
        """Whether a room ended here lately; its clients hear of it, or have."""
        return room_id in self._ended

    @property
    def closing(self) -> int:
        """Rooms that have ended and whose end is not stored yet."""
        return self._closing

    async def create(self, request: host.CreateRoomRequest) -> list[allocation_pb2.SeatGrant]:
        """Make a room, or find the one made before; a fresh token per seat either way."""
        async with self._creating:
            placed = await self._found(request.room_id, request.epoch)
            # Of these players alone: a room by code has others since, whose tokens stay.
            players = {player.player_id for player in request.players}
            if placed is None:
                placed, grants = await self._make(request, players)
            else:
                book = placed.room.book
                grants = await placed.runner.call(functools.partial(book.grants, players))
        await self._store(placed)  # no token is good for a room that a crash would forget
        return [
            allocation_pb2.SeatGrant(player_id=seat.player_id, slot=seat.slot, seat_token=token)
            for seat, token in grants
        ]

    async def add_players(self, request: host.AddPlayersRequest) -> host.AddPlayersResponse:
        """Seat players in a room that runs."""
        placed = self.rooms.get(request.room_id)
        if placed is None:
            raise errors.NotFound("ROOM_UNKNOWN", "no such room here")
        now = asyncio.get_running_loop().time()
        seats = await placed.runner.call(
            functools.partial(seating.admit, placed.runner.table, placed.room, request, now)
        )
        await self._store(placed)
        return host.AddPlayersResponse(seats=seats, game=placed.room.identity.game)

    async def restore(self, room_id: str, *, epoch: int, own_revision: int) -> Placed:
        """Go on with a room from its last snapshot, or find it going on already."""
        async with self._creating:
            placed = await self._found(room_id, epoch)
            if placed is None:
                saved = await self.snapshots.load(room_id)
                if saved.identity.epoch >= epoch:
                    raise errors.Aborted("EPOCH_STALE", "a higher epoch has saved the room")
                placed = await self.resume(saved, epoch=epoch, own_revision=own_revision)
        await self._store(placed)
        return placed

    async def hold(self, saved: Captured, *, epoch: int) -> Placed:
        """Make a room that comes here; it stands still until `start` or `drop`."""
        async with self._creating:
            if await self._found(saved.identity.room_id, epoch) is not None:
                raise errors.Aborted("EPOCH_STALE", "the room runs here already")
            return await self.resume(saved, epoch=epoch, own_revision=0, event_gap=0, held=True)

    async def start(self, placed: Placed, item: Captured, *, own_revision: int) -> None:
        """Let a room run that `hold` made; it is this node's now."""
        placed.room.identity = replace(placed.room.identity, own_revision=own_revision)
        self.moved.pop(placed.room.identity.room_id, None)
        await self.go_on(placed, item)
        self._facts.migrated(placed.room.identity)

    async def go_on(self, placed: Placed, item: Captured) -> None:
        """Put a room back that was taken out of its table; one that its game refuses ends."""
        room = placed.room
        try:
            await placed.runner.call(functools.partial(placed.runner.go_on, room, item))
        except Exception as error:
            logger.exception("go_on_failed", extra={"room": room.identity.room_id})
            room.ended = Ended(-1, reason=GAME_ERROR, error=error)
            self._on_closed(room, room.ended)

    def drop(self, placed: Placed) -> None:
        """Forget a room that has no place in a table: it is another node's."""
        room_id = placed.room.identity.room_id
        if self.rooms.get(room_id) is placed:
            del self.rooms[room_id]
        seating.turn_away(placed.runner.forget(placed.room))
        self._emptied.set()
        self._look()

    def leave(self, placed: Placed, moved: host.RoomMove) -> None:
        """Forget a room that has moved away, but for where it is."""
        self.drop(placed)
        self.moved[moved.room_id] = moved
        if len(self.moved) > REMEMBERED:
            del self.moved[next(iter(self.moved))]

    def lose(self, placed: Placed) -> None:
        """End a room that stands still and that somebody else has by now."""
        self.drop(placed)
        placed.room.ended = Ended(-1, reason=SUPERSEDED)
        self._on_closed(placed.room, placed.room.ended)

    async def resume(
        self,
        saved: Captured,
        *,
        epoch: int,
        own_revision: int,
        event_gap: int = EVENT_GAP,
        held: bool = False,
    ) -> Placed:
        """Make a room as it was saved; `event_gap` is 0 when nothing happened since then."""
        identity = replace(saved.identity, epoch=epoch, own_revision=own_revision)
        definition = self._accepted(identity, len(saved.book.seats))
        runner = self.runner(definition)
        book = SeatBook.restored(
            saved.book,
            now=asyncio.get_running_loop().time(),
            grace_s=definition.info.grace_s,
            rejoin_s=REJOIN_S,
            new_token=_new_token,
        )
        replies = {slot: ReplyLog.restored(item) for slot, item in saved.replies.items()}
        reopen = functools.partial(
            runner.reopen, identity, (saved.spec(epoch), saved.engine), book, self._facts,
            replies=replies, event_gap=event_gap,
        )  # fmt: skip

        def make() -> Placed:
            room = reopen()
            if held:
                runner.suspend(room, at=saved.at, held=True)
            return self._know(room, runner)

        return await _by_game(runner, make)

    def _know(self, room: HostedRoom, runner: TableRunner) -> Placed:
        """Know a room. Done in the turn that made it: who asked may be gone before the next."""
        placed = self.rooms[room.identity.room_id] = Placed(room, runner)
        self._look()
        return placed

    def freeze(self, *, frozen: bool) -> None:
        """Let all rooms stand still, or go on."""
        self.frozen = frozen
        for runner in self._tables:
            runner.freeze(frozen=frozen)

    async def store_all(self) -> None:
        """Store every room; those that are another node's end. Raises what the bus raises."""
        for placed in list(self.rooms.values()):
            try:
                await self.snapshots.store(placed)
            except Conflict:
                await self._supersede(placed)

    async def _supersede(self, placed: Placed) -> None:
        await placed.runner.call(functools.partial(placed.runner.close, placed.room, SUPERSEDED))

    async def _found(self, room_id: str, epoch: int) -> Placed | None:
        """The room under this epoch, after one of a lower epoch was ended."""
        placed = self.rooms.get(room_id)
        if placed is None:
            return None
        still = placed.room.still
        if still is not None and still.held:
            self.drop(placed)  # who asks knows better than a move that was not committed
            return None
        if placed.room.identity.epoch > epoch:
            raise errors.Aborted("EPOCH_STALE", "the room has a higher epoch here")
        if still is not None:
            raise ROOM_MOVING
        if placed.room.identity.epoch == epoch:
            return placed
        await self._supersede(placed)
        return None

    async def keep(self, placed: Placed) -> None:
        """Return when a crash would bring the room back as it is, or not at all."""
        if placed.room.ended is None:
            await self._store(placed)
        if placed.room.ended is not None:
            await placed.room.over.wait()

    async def _store(self, placed: Placed) -> None:
        try:
            await self.snapshots.store(placed)
        except Conflict as error:
            await self._supersede(placed)
            raise errors.Aborted("EPOCH_STALE", "the room is another node's by now") from error

    async def close(self, room_id: str, reason: str, *, max_epoch: int = 0) -> None:
        """End a room, unless its epoch is above `max_epoch`; nothing when there is none."""
        placed = self.rooms.get(room_id)
        if placed is not None and (not max_epoch or placed.room.identity.epoch <= max_epoch):
            if placed.room.still is not None:
                raise ROOM_MOVING
            await placed.runner.call(functools.partial(placed.runner.close, placed.room, reason))

    async def retire(self, epoch: int) -> None:
        """Agree to the end of this process, if nothing runs and nothing is being made."""
        async with self._creating:
            self.tenure.agree(epoch, occupied=bool(self.rooms or self._closing))

    def _look(self) -> None:
        if self._edges.crossed(len(self.rooms)):
            self.crossed.set()

    async def drain(self, timeout_s: float) -> None:
        """Take no more rooms, end all and wait for their results."""
        self.draining = True
        for room_id in list(self.rooms):
            with contextlib.suppress(errors.Unavailable):  # it moves: then it is not ours to end
                await self.close(room_id, "NODE_DRAINING")
        try:
            async with asyncio.timeout(timeout_s):
                while self.rooms or self._closing:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            return

    def status(self) -> dict[str, Any]:
        """The fields of /statusz."""
        recent = [runner.meter.recent() for runner in self._tables]
        ticks = np.concatenate(recent) if recent else np.zeros(0)
        return {
            "node": self.settings.node_id,
            "rooms": len(self.rooms),
            "players": self.players,
            "tables": len(self._tables),
            "tick_p99_ms": round(float(np.percentile(ticks, 99)) * 1e3, 3) if len(ticks) else 0.0,
            "draining": self.draining,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }

    async def _make(
        self, request: host.CreateRoomRequest, players: Collection[str]
    ) -> tuple[Placed, list[tuple[Seat, Token]]]:
        """Make a room and give its players their tokens, in one turn of the table."""
        identity = _identity(request)
        definition = self._accepted(identity, len(request.players))
        if request.HasField("open"):
            _check_open(request, definition)
        runner = self.runner(definition)
        seats = [
            Seat(slot, player.player_id, player.display_name, player.team)
            for slot, player in enumerate(request.players)
        ]
        spec = RoomSpec(
            id=request.room_id,
            seats=seats,
            options=captured.options(request.options),
            epoch=request.epoch,
            seed=secrets.randbits(64),
            metadata=_metadata(request.open.metadata),
        )
        info = definition.info
        book = SeatBook(
            seats,
            reserve_until=asyncio.get_running_loop().time() + info.reserve_s,
            grace_s=info.grace_s,
            new_token=_new_token,
            capacity=request.open.max_players or definition.seats,
            reuse=not request.queue,
            saves=bool(request.own_revision),
        )

        def make() -> tuple[Placed, list[tuple[Seat, Token]]]:
            placed = self._know(runner.open(identity, spec, book, self._facts), runner)
            self._facts.created(identity)
            return placed, book.grants(players)

        return await _by_game(runner, make)

    def accepts(self, room_id: str, *, epoch: int, game: str, players: int) -> Definition:
        """The game of a room that could come here, or the reason why it cannot."""
        identity = RoomIdentity(
            room_id=room_id, epoch=epoch, game=game, queue="", set="", own_revision=0
        )
        return self._accepted(identity, players)

    def _accepted(self, identity: RoomIdentity, players: int) -> Definition:
        """The game of a room that can be served, or the reason why not."""
        names.check_id(identity.room_id, "room_id")
        if self.draining or self.tenure.agreed_to:
            raise errors.FailedPrecondition("NODE_DRAINING", "the node takes no more rooms")
        if self._ended.get(identity.room_id, 0) >= identity.epoch:
            raise errors.FailedPrecondition("ROOM_ENDED", "the room has ended")
        definition = self.definitions.get(identity.game)
        if definition is None:
            raise errors.NotFound("GAME_UNKNOWN", f"no game {identity.game!r} here")
        if not 1 <= players <= definition.seats:
            raise errors.InvalidArgument("PLAYERS_INVALID", f"1 to {definition.seats} players")
        if len(self.rooms) >= self.settings.room_capacity:
            raise errors.ResourceExhausted("NODE_FULL", "no room is free", retry_after_s=1.0)
        return definition

    def runner(self, definition: Definition) -> TableRunner:
        """A table with a free place; made where there is none."""
        for runner in self._tables:
            if runner.definition is definition and runner.free:
                return runner
        index = len(self._tables)
        runner = TableRunner(
            definition, index=index, closed=self._on_closed, sink=self._sink, doors=self.doors
        )
        runner.freeze(frozen=self.frozen)
        self._tables.append(runner)
        self._spawn(runner.run(), name=f"table.{definition.info.name}.{index}")
        return runner

    def _on_closed(self, room: HostedRoom, ended: Ended) -> None:
        room_id = room.identity.room_id
        placed = self.rooms.get(room_id)
        if placed is not None and placed.room is room:
            del self.rooms[room_id]
            self._look()
        if ended.reason != SUPERSEDED:
            self._ended[room_id] = room.identity.epoch
            if len(self._ended) > REMEMBERED:
                del self._ended[next(iter(self._ended))]
        self._closing += 1
        self._spawn(self._close(room, ended), name=f"close.{room_id}")

    async def _close(self, room: HostedRoom, ended: Ended) -> None:
        try:
            await self._closer.close(room, ended)
        finally:
            room.over.set()
            self._closing -= 1
            self._emptied.set()


def _identity(request: host.CreateRoomRequest) -> RoomIdentity:
    return RoomIdentity(
        room_id=request.room_id,
        epoch=request.epoch,
        game=request.game,
        queue=request.queue,
        set=request.set,
        own_revision=request.own_revision,
        code=request.open.code,
        visibility=request.open.visibility,
        created_s=int(time.time()),
        options=request.options,
        recording=Recording.of(request.recording) if request.HasField("recording") else None,
        trace=telemetry.inject({}),
    )


async def _by_game(runner: TableRunner, make: Callable[[], T]) -> T:
    """What is made with a game's hook, a room mostly; Internal GAME_ERROR when the hook raised."""
    try:
        return await runner.call(make)
    except errors.RallypointError:
        raise
    except Exception as error:
        raise errors.Internal("GAME_ERROR", "the game could not make the room") from error


def _check_open(request: host.CreateRoomRequest, definition: Definition) -> None:
    if not definition.info.late_join:
        raise errors.FailedPrecondition("LATE_JOIN_OFF", "the game lets nobody in later")
    if not request.open.max_players <= definition.seats:
        raise errors.InvalidArgument("PLAYERS_INVALID", f"1 to {definition.seats} players")


def _metadata(values: Mapping[str, str]) -> Mapping[str, str]:
    try:
        return metadata.checked(values)
    except ValueError as error:
        raise errors.InvalidArgument("METADATA_INVALID", str(error)) from error


def _new_token() -> Token:
    return secrets.token_bytes(TOKEN_BYTES)
