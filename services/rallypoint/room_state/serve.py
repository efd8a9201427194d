"""Start a room node, run it, drain it."""

import gc
import logging
from collections.abc import Mapping
from importlib import metadata

import grpc.aio

from rallypoint.games.definition import Definition
from rallypoint.internal.v1 import events_pb2, room_admin_pb2_grpc, room_transfer_pb2_grpc
from rallypoint.kit import addresses, names, rpc
from rallypoint.kit.runtime import Runtime
from rallypoint.kit.settings import SettingsError
from rallypoint.kit.trunk_listener import TrunkListener
from rallypoint.room_state import catalog
from rallypoint.room_state.admin import RoomAdminService
from rallypoint.room_state.arrivals import Arrivals
from rallypoint.room_state.backfills import Backfills
from rallypoint.room_state.closing import Closer
from rallypoint.room_state.config import Settings
from rallypoint.room_state.departures import Departures
from rallypoint.room_state.draining import Drain
from rallypoint.room_state.facts import RoomFacts
from rallypoint.room_state.freezing import Freezing
from rallypoint.room_state.listing import Listings
from rallypoint.room_state.node import Node
from rallypoint.room_state.recorder import Recorder
from rallypoint.room_state.registration import Registration
from rallypoint.room_state.service import SERVICE, RoomHostService
from rallypoint.room_state.transfer_service import RoomTransferService

logger = logging.getLogger(__name__)

DRAIN_SHARE = 0.8
"""Of the time to drain: what rooms have to end; the rest is for telling fleet."""

FLUSH_S = 2.0
"""How long a node waits at its end for the last recordings to be stored."""


async def serve(settings: Settings, runtime: Runtime) -> None:
    """Run the installed games until asked to stop."""
    await run(settings, runtime, catalog.load(settings.games, settings.extra_games))


async def run(settings: Settings, runtime: Runtime, definitions: Mapping[str, Definition]) -> None:
    """Run games until asked to stop; then let all rooms move, or end them when everything ends."""
    names.check_id(settings.node_id, "node_id")
    names.check_name(settings.set, "set")
    facts = RoomFacts(runtime.bus, settings.node_id)
    closer = Closer(runtime.bus, facts, clock=runtime.clock, wait_s=settings.result_wait_s)
    recorder = _recorder(settings, runtime)
    node = Node(
        settings, definitions, spawn=runtime.spawn, facts=facts, closer=closer,
        bus=runtime.bus, clock=runtime.clock, sink=recorder,
    )  # fmt: skip
    freezing = Freezing(node, runtime.bus, after_s=settings.freeze_after_s)
    trunks = await _trunks(settings, runtime)
    service = RoomHostService(
        node, trunks, incarnation=runtime.incarnation, spawn=runtime.spawn, freezing=freezing
    )
    server = rpc.make_server(runtime)
    service.add_to(server)
    room_admin_pb2_grpc.add_RoomAdminServiceServicer_to_server(RoomAdminService(node), server)
    registration = Registration(runtime.bus, node)
    drain = _add_moves(server, service, registration, runtime=runtime, node=node)
    port = rpc.listen(server, runtime.settings.grpc_host, runtime.settings.grpc_port)
    await server.start()
    record = registration.record = _record(settings, runtime, port, sorted(definitions))
    await registration.register()
    listings = Listings(runtime.bus, lambda: [placed.room for placed in node.rooms.values()])
    runtime.spawn(facts.run(), name="facts")
    backfills = Backfills(runtime.bus, node.wishful, record.address)
    runtime.spawn(listings.run(), name="listings")
    runtime.spawn(backfills.run(), name="backfills")
    runtime.spawn(node.snapshots.run(), name="snapshots")
    runtime.spawn(freezing.run(), name="freezing")
    runtime.spawn(registration.run(), name="registration")
    runtime.spawn(registration.beat(), name="heartbeat")
    runtime.health.status(node.status)
    # What start-up made lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    runtime.health.set_ready(ready=True, service=SERVICE)
    runtime.health.set_ready(True)
    logger.info("serving", extra={"address": record.address, "games": list(record.games)})

    await runtime.wait_stopping()
    runtime.health.set_ready(False)
    runtime.health.set_ready(ready=False, service=SERVICE)
    within_s = runtime.settings.drain_s * DRAIN_SHARE
    node.draining = True
    if runtime.handing_over:
        await drain.begin(within_s)
        await registration.try_register()
        await drain.leave(within_s)
    else:
        await registration.try_register()
        await node.drain(within_s)
    service.end_attaches()
    await recorder.flush(FLUSH_S)
    await facts.flush(FLUSH_S)
    await registration.leave()
    await server.stop(grace=1.0)
    trunks.close()


def _recorder(settings: Settings, runtime: Runtime) -> Recorder:
    """What stores the recordings of rooms, at work."""
    recorder = Recorder(runtime.bus, runtime.clock, pending_bytes=settings.replay_pending_bytes)
    runtime.spawn(recorder.run(), name="recorder")
    return recorder


async def _trunks(settings: Settings, runtime: Runtime) -> TrunkListener:
    """Where gateways may open trunks, if they may."""
    listener = TrunkListener()
    if settings.trunk_port >= 0:
        await listener.listen(runtime.settings.grpc_host, settings.trunk_port)
    return listener


def _add_moves(
    server: grpc.aio.Server,
    service: RoomHostService,
    registration: Registration,
    *,
    runtime: Runtime,
    node: Node,
) -> Drain:
    """What moves rooms to other nodes and takes theirs in."""
    bus, place = runtime.bus, f"{node.settings.node_id}|{runtime.incarnation}"
    drain = Drain(node, bus)
    arrivals = Arrivals(node, bus, place=place, spawn=runtime.spawn)
    departures = Departures(node, bus, drain=drain, links=service.links, spawn=runtime.spawn)
    room_transfer_pb2_grpc.add_RoomTransferServiceServicer_to_server(
        RoomTransferService(
            node, registration, drain=drain, departures=departures, arrivals=arrivals
        ),
        server,
    )
    runtime.spawn(arrivals.run(), name="arrivals")
    return drain


def _record(
    settings: Settings, runtime: Runtime, port: int, games: list[str]
) -> events_pb2.NodeRecord:
    host = settings.advertise_host or runtime.settings.grpc_host
    return events_pb2.NodeRecord(
        node_id=settings.node_id,
        incarnation=runtime.incarnation,
        address=addresses.joined(host, port),
        set=settings.set,
        games=games,
        version=metadata.version("rallypoint"),
        capacity=settings.room_capacity,
        pod_uid=settings.pod_uid,
        labels=dict(_label(text) for text in settings.node_labels),
    )


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise SettingsError(f"RALLYPOINT_NODE_LABELS holds {text!r}: write key=value")
    return key, value
