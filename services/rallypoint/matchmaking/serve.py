"""The matchmaking process: lanes, leaders and the gRPC server.

Draining: not ready, open streams are told to reconnect, leaders stop and give their leases up; a
match whose room is still being made is finished by the next leader.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from typing import Any

from rallypoint.internal.v1 import allocation_pb2_grpc
from rallypoint.kit import rpc
from rallypoint.kit.runtime import Runtime
from rallypoint.matchmaking import attention
from rallypoint.matchmaking.assigner import Assigner
from rallypoint.matchmaking.config import MatchmakingSettings
from rallypoint.matchmaking.domain import queues
from rallypoint.matchmaking.domain.pace import Pace
from rallypoint.matchmaking.lane import Lane
from rallypoint.matchmaking.rating_store import RatingStore
from rallypoint.matchmaking.service import MatchmakingService
from rallypoint.matchmaking.ticket_store import TicketStore
from rallypoint.v1 import matchmaking_pb2_grpc

SERVICE = "rallypoint.v1.MatchmakingService"
NEEDS = ("bus", "store")


async def serve(settings: MatchmakingSettings, runtime: Runtime) -> None:
    """Run until asked to stop. Raises InvalidArgument `QUEUE_INVALID` for a bad queue document."""
    lanes = {
        name: _lane(config, settings, runtime)
        for name, config in queues.parse_all(settings.queues).items()
    }
    runtime.health.status(lambda: {"queues": {name: _status(lanes[name]) for name in lanes}})
    channel = rpc.channel(settings.fleet_address, name="matchmaking")
    fleet: Any = allocation_pb2_grpc.AllocationServiceStub(channel)
    server = rpc.make_server(runtime)
    service = MatchmakingService(lanes, runtime.stopping)
    matchmaking_pb2_grpc.add_MatchmakingServiceServicer_to_server(service, server)
    port = rpc.listen(server, runtime.settings.grpc_host, runtime.settings.grpc_port)
    runtime.health.status(lambda: {"grpc_port": port})
    async with asyncio.TaskGroup() as group:
        await server.start()
        _set_ready(runtime, ready=True)
        refreshing = [
            group.create_task(attention.run(lane), name=f"attention.{name}")
            for name, lane in lanes.items()
        ]
        leaders = await _lead(lanes, Assigner(fleet, settings), runtime, group)
        await runtime.wait_stopping()
        _set_ready(runtime, ready=False)
        await server.stop(settings.runtime.drain_s / 2)
        for task in (*refreshing, *leaders):
            task.cancel()
    await channel.close()


async def _lead(
    lanes: Mapping[str, Lane], assigner: Assigner, runtime: Runtime, group: asyncio.TaskGroup
) -> list[asyncio.Task[None]]:
    """Start the leaders. Calls are answered meanwhile: importing numpy takes longer than them."""
    await asyncio.to_thread(importlib.import_module, "rallypoint.matchmaking.leader")
    from rallypoint.matchmaking import leader

    identity = leader.Identity(runtime.settings.instance, runtime.incarnation)
    return [
        group.create_task(leader.run(lane, runtime.bus, assigner, identity), name=f"leader.{name}")
        for name, lane in lanes.items()
    ]


def _lane(config: queues.QueueConfig, settings: MatchmakingSettings, runtime: Runtime) -> Lane:
    store = runtime.store
    return Lane(
        config=config,
        tickets=TicketStore(
            store,
            config.queue,
            retention_s=settings.ticket_retention_s,
            unattended_s=config.unattended_s,
        ),
        ratings=RatingStore(store, config.queue),
        clock=runtime.clock,
        pace=Pace(settings.queue_cycle_ms / 1000, settings.queue_gap_ms / 1000),
    )


def _set_ready(runtime: Runtime, *, ready: bool) -> None:
    runtime.health.set_ready(ready)
    runtime.health.set_ready(ready, SERVICE)


def _status(lane: Lane) -> dict[str, Any]:
    return {
        "leading": lane.leading,
        "epoch": lane.epoch,
        "tickets": len(lane.records),
        "assigning": lane.assigning,
        "cycle_ms": round(lane.cycle_ms, 3),
        "watchers": len(lane.hub),
    }
