"""The matchmaking process: queue documents, lanes, leaders and the gRPC server.

Draining: not ready, open streams are told to reconnect, leaders stop and give their leases up; a
match whose room is still being made is finished by the next leader.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from rallypoint.internal.v1 import allocation_pb2_grpc
from rallypoint.kit import errors, rpc, subjects
from rallypoint.kit.names import QueueName
from rallypoint.kit.runtime import Runtime
from rallypoint.matchmaking import documents
from rallypoint.matchmaking.assigner import Assigner
from rallypoint.matchmaking.config import MatchmakingSettings
from rallypoint.matchmaking.lane import Lane
from rallypoint.matchmaking.lanes import Lanes
from rallypoint.matchmaking.service import MatchmakingService
from rallypoint.v1 import matchmaking_pb2_grpc

logger = logging.getLogger(__name__)

SERVICE = "rallypoint.v1.MatchmakingService"
NEEDS = ("bus", "store")
RETRY_S = 0.3


async def serve(settings: MatchmakingSettings, runtime: Runtime) -> None:
    """Run until asked to stop. Raises InvalidArgument `QUEUE_INVALID` for a bad queue file."""
    files = documents.read_directory(settings.queue_files) if settings.queue_files else None
    channel = rpc.channel(settings.fleet_address, name="matchmaking")
    fleet: Any = allocation_pb2_grpc.AllocationServiceStub(channel)
    async with asyncio.TaskGroup() as group:
        lanes = Lanes(settings, runtime, Assigner(fleet, settings), group)
        runtime.health.status(lambda: {"queues": {name: _status(lanes[name]) for name in lanes}})
        following = group.create_task(_follow(settings, runtime, lanes, files), name="documents")
        server = rpc.make_server(runtime)
        matchmaking_pb2_grpc.add_MatchmakingServiceServicer_to_server(
            MatchmakingService(lanes), server
        )
        port = rpc.listen(server, runtime.settings.grpc_host, runtime.settings.grpc_port)
        runtime.health.status(lambda: {"grpc_port": port})
        await server.start()
        await runtime.wait_stopping()
        _set_ready(runtime, ready=False)
        lanes.end_streams()
        await server.stop(settings.runtime.drain_s / 2)
        following.cancel()
        lanes.cancel()
    await channel.close()


async def _follow(
    settings: MatchmakingSettings,
    runtime: Runtime,
    lanes: Lanes,
    files: Mapping[QueueName, bytes] | None,
) -> None:
    """Write our files, then follow the documents; we are ready once we have seen them all."""
    kv, only = runtime.bus.kv(subjects.CONFIG.name), frozenset(settings.queues)
    while files is not None:
        try:
            await documents.apply(kv, files, only=only)
            break
        except errors.RallypointError as error:
            logger.info("queue_files_wait", extra={"reason": str(error)})
            await asyncio.sleep(RETRY_S)
    await documents.follow(
        kv,
        only=only,
        take=lanes.take,
        drop=lanes.drop,
        listed=lambda: None if runtime.stopping.is_set() else _set_ready(runtime, ready=True),
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
