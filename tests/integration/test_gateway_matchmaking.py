"""MatchmakingService at the edge, before a small real service: identity, errors, absence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from tests.integration.conftest import Runs
from tests.integration.gateway_stack import Player, Running, Watched, gateway, settings
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.cli.ports import free_one
from rallypoint.client.native import NativeChannel
from rallypoint.kit import errors, rpc
from rallypoint.kit.health import Health
from rallypoint.v1 import matchmaking_pb2 as mm
from rallypoint.v1 import matchmaking_pb2_grpc

Fresh = Callable[[str], str]
SERVICE = "/rallypoint.v1.MatchmakingService/"


class Host:
    """What a server wants of its process."""

    health = Health("matchmaking")


class Service(matchmaking_pb2_grpc.MatchmakingServiceServicer):
    """Answers by the book and remembers who asked."""

    def __init__(self) -> None:
        self.callers: list[rpc.Caller] = []
        self.metadata: list[dict[str, Any]] = []
        self.remaining_s: list[float] = []
        self.watching = 0
        self.port = free_one()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen where it always does."""
        self._server = rpc.make_server(Host())
        matchmaking_pb2_grpc.add_MatchmakingServiceServicer_to_server(self, self._server)
        rpc.listen(self._server, "127.0.0.1", self.port)
        await self._server.start()

    async def stop(self) -> None:
        """Go away."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def CreateTicket(self, request: mm.CreateTicketRequest, context: Any) -> Any:
        """Take note, refuse one queue."""
        self.callers.append(rpc.caller(context))
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.remaining_s.append(rpc.remaining_s(context, 99.0))
        if request.queue == "taken":
            raise errors.AlreadyExists("TICKET_EXISTS", "one is enough", metadata={"ticket": "t9"})
        return mm.CreateTicketResponse(ticket=mm.Ticket(ticket_id="t1", queue=request.queue))

    async def WatchTicket(
        self, request: mm.WatchTicketRequest, context: Any
    ) -> AsyncIterator[mm.WatchTicketResponse]:
        """Two events, then silence until the caller goes."""
        self.watching += 1
        try:
            yield mm.WatchTicketResponse(seq=1, queued=mm.QueueProgress(position=3))
            yield mm.WatchTicketResponse(seq=2, assigned=mm.Assignment(room_id="r1"))
            if request.ticket_id == "ends":
                return
            await asyncio.Event().wait()
        finally:
            self.watching -= 1


@asynccontextmanager
async def forwarding(
    brokers: Brokers, tmp_path: Path
) -> AsyncIterator[tuple[Running, Service, Player]]:
    """A gateway before a matchmaking service, and a player."""
    service = Service()
    await service.start()
    base = settings(tmp_path)
    wanted = replace(
        base,
        matchmaking_address=f"127.0.0.1:{service.port}",
        matchmaking=replace(base.matchmaking, heartbeat_s=0.2),
    )
    async with gateway(brokers, wanted) as running:
        player = await Player(running.url, b"matchmaking player").open()
        yield running, service, player
        await player.channel.close()
    await service.stop()


async def create(player: Player, queue: str) -> mm.Ticket:
    request = mm.CreateTicketRequest(request_id="1", queue=queue)
    path = SERVICE + "CreateTicket"
    return (await player.call(path, request, mm.CreateTicketResponse)).ticket


class Events(Watched):
    """What a WatchTicket stream brings."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[mm.WatchTicketResponse] = []

    def on_message(self, message: bytes) -> None:
        """Take an event."""
        self.events.append(mm.WatchTicketResponse.FromString(message))


async def watch(player: Player, ticket_id: str) -> Events:
    events = Events()
    request = mm.WatchTicketRequest(ticket_id=ticket_id, queue="skirmish").SerializeToString()
    events.stream = await player.channel.stream(
        SERVICE + "WatchTicket", request, listener=events, token=player.session.access_token
    )
    return events


def test_identity_and_deadline_go_along(runs: Runs, brokers: Brokers, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with forwarding(brokers, tmp_path) as (_, service, player):
            assert (await create(player, "skirmish")).ticket_id == "t1"
            (caller,) = service.callers
            assert (caller.player_id, caller.display_name) == (player.session.player_id, "Ada")
            assert 0 < service.remaining_s[0] <= 5
            assert "authorization" not in service.metadata[0]

    runs(scenario())


def test_service_errors_arrive_whole(runs: Runs, brokers: Brokers, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with forwarding(brokers, tmp_path) as (_, _, player):
            with pytest.raises(errors.AlreadyExists, match="TICKET_EXISTS") as refusal:
                await create(player, "taken")
            assert refusal.value.metadata == {"ticket": "t9"}
            assert refusal.value.message == "one is enough"

    runs(scenario())


def test_calls_without_a_session_stay_outside(runs: Runs, brokers: Brokers, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with forwarding(brokers, tmp_path) as (_, service, player):
            player.session.access_token = ""
            with pytest.raises(errors.Unauthenticated, match="TOKEN_MISSING"):
                await create(player, "skirmish")
            assert service.callers == []

    runs(scenario())


def test_watch_passes_events_on_and_beats(runs: Runs, brokers: Brokers, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with forwarding(brokers, tmp_path) as (_, service, player):
            events = await watch(player, "t1")
            await until(lambda: len(events.events) >= 5)
            told = [event.seq for event in events.events if event.seq]
            assert told == [1, 2]
            beats = [event for event in events.events if event.WhichOneof("event") is None]
            assert len(beats) >= 2
            events.close()
            await until(lambda: service.watching == 0)
            ended = await watch(player, "ends")
            await until(lambda: ended.ended)
            assert ended.error is None

    runs(scenario())


def test_absent_service_is_unavailable_until_it_is_back(
    runs: Runs, brokers: Brokers, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with forwarding(brokers, tmp_path) as (_, service, player):
            events = await watch(player, "t1")
            await until(lambda: service.watching == 1)
            await service.stop()
            await until(lambda: events.ended)
            assert events.error is not None
            assert events.error.code == errors.Code.UNAVAILABLE
            with pytest.raises(errors.Unavailable, match="MATCHMAKING_AWAY") as refusal:
                await create(player, "skirmish")
            assert refusal.value.retry_after_s == 1.0
            await service.start()
            async with asyncio.timeout(30):
                while True:
                    try:
                        assert (await create(player, "skirmish")).ticket_id == "t1"
                        break
                    except errors.Unavailable:
                        await asyncio.sleep(0.1)

    runs(scenario())


def test_native_clients_get_the_same(runs: Runs, brokers: Brokers, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with forwarding(brokers, tmp_path) as (running, service, player):
            channel = NativeChannel(f"127.0.0.1:{running.settings.native_port}")
            request = mm.CreateTicketRequest(request_id="1", queue="skirmish").SerializeToString()
            answer = await channel.unary(
                SERVICE + "CreateTicket", request, token=player.session.access_token
            )
            assert mm.CreateTicketResponse.FromString(answer).ticket.ticket_id == "t1"
            assert service.callers[0].player_id == player.session.player_id
            with pytest.raises(errors.Unauthenticated, match="TOKEN_INVALID"):
                await channel.unary(SERVICE + "CreateTicket", request, token="made.up.token")
            await channel.close()

    runs(scenario())
