"""Compose a gateway and run it: sessions, guard, matchmaking, rooms behind two edges.

Start: keys, then both listeners, then ready. Stop: not ready ▸ nothing new is accepted ▸ streams
get a RECONNECT control and end ▸ calls under way finish ▸ Attach streams close. The heavy
cryptography is loaded in the background once the gateway is ready.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from dataclasses import dataclass
from typing import Any

from rallypoint.gateway import (
    admin,
    calls,
    fanout,
    limits,
    matchmaking,
    rooms,
    sessions,
    tokens,
    tokens_keys,
    tokens_studio,
    web_drain,
)
from rallypoint.gateway.admin_access import Operators
from rallypoint.gateway.config import Settings
from rallypoint.gateway.native import NativeEdge
from rallypoint.gateway.node_channels import NodeChannels
from rallypoint.gateway.replays import Replays
from rallypoint.gateway.rooms_board import Board
from rallypoint.gateway.rooms_inputs import PlainInputs
from rallypoint.gateway.rooms_list import RoomList
from rallypoint.gateway.rooms_moves import Moves
from rallypoint.gateway.rooms_node import Node
from rallypoint.gateway.rooms_open import OpenRooms
from rallypoint.gateway.rooms_recovery import Recovery
from rallypoint.gateway.rooms_registry import Place, Registry
from rallypoint.gateway.rooms_stream import Stream
from rallypoint.gateway.rooms_sweep import Sweep
from rallypoint.gateway.spectating import Spectating
from rallypoint.gateway.static import StaticFiles
from rallypoint.gateway.web_server import Edge
from rallypoint.internal.v1.events_pb2 import OwnRecord, ResultFact
from rallypoint.kit import errors, metrics, names, rpc, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.runtime import Runtime
from rallypoint.v1 import room_pb2

log = logging.getLogger(__name__)

GAUGES_EVERY_S = 5.0


@dataclass(slots=True)
class Gateway:
    """The parts of a running gateway."""

    access: tokens.AccessTokens
    studio: tokens_studio.StudioTokens
    guard: limits.Guard
    streams: limits.StreamLimit
    methods: calls.Methods
    board: Board
    registry: Registry
    sweep: Sweep
    recovery: Recovery
    inputs: PlainInputs
    room_list: RoomList
    open_rooms: OpenRooms
    nodes: NodeChannels
    operators: Operators


async def serve(settings: Settings, runtime: Runtime) -> None:
    """Run until asked to stop."""
    loop = asyncio.get_running_loop()
    channel = rpc.channel(settings.matchmaking_address, name=runtime.settings.instance)
    fleet = rpc.channel(settings.fleet_address, name=runtime.settings.instance)
    fan_out = _fan_out(settings, clock=loop.time)
    gateway = compose(
        settings, runtime, fan_out=fan_out, matchmaking_channel=channel, fleet_channel=fleet
    )
    web, native = _edges(gateway, settings, runtime, fan_out)
    runtime.health.status(lambda: _status(gateway, web))
    _spawn_background(gateway, runtime)
    await _listen(settings, web, native)
    # What start-up made lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    runtime.health.set_ready(True)
    runtime.spawn(_warm(gateway.access), name="gateway.warm")
    await runtime.wait_stopping()
    runtime.health.set_ready(False)
    await _drain(gateway, web, native, timeout_s=runtime.settings.drain_s)
    await gateway.nodes.close()
    await channel.close()
    await fleet.close()


def _fan_out(settings: Settings, *, clock: fanout.Clock) -> fanout.FanOut:
    """The fan-out that the settings name; FailedPrecondition when there is none."""
    try:
        return fanout.make(settings.edge_backend, fanout.FanOutLimits(), clock=clock)
    except (KeyError, ImportError) as problem:
        choices = ", ".join((fanout.AUTO, *fanout.BACKENDS))
        raise errors.FailedPrecondition(
            "SETTING_INVALID",
            f"RALLYPOINT_EDGE_BACKEND cannot be {settings.edge_backend!r}: set it to {choices}"
            " (c is there when a C compiler was, at install)",
        ) from problem


def _edges(
    gateway: Gateway, settings: Settings, runtime: Runtime, fan_out: fanout.FanOut
) -> tuple[Edge, NativeEdge | None]:
    """The two ways in; native gRPC only when it has a port."""
    web = Edge(
        gateway.methods,
        settings=settings.edge,
        fan_out=fan_out,
        tasks=runtime.tasks,
        guard=gateway.guard,
        again=gateway.guard.again,
        files=_files(gateway, settings),
        drain=_input_drain(gateway, settings, runtime) if fan_out.name == "c" else None,
    )
    if settings.native_port < 0:
        return web, None
    native = NativeEdge(
        gateway.methods,
        settings=settings.edge,
        fan_out=fan_out,
        tasks=runtime.tasks,
        guard=gateway.guard,
        health=runtime.health,
        reflection=runtime.settings.environment == "development",
        limits=settings.native,
    )
    return web, native


def _files(gateway: Gateway, settings: Settings) -> StaticFiles | None:
    """The built web client; without operators, without their page."""
    if settings.web_root is None:
        return None
    without = () if gateway.operators.exist else ("operator",)
    return StaticFiles(settings.web_root, without=without)


def _input_drain(gateway: Gateway, settings: Settings, runtime: Runtime) -> web_drain.InputDrain:
    """The drain in C."""
    from rallypoint.gateway import _edge  # only where it was compiled

    return web_drain.InputDrain(
        _edge.Drain(),
        gateway.guard,
        gateway.inputs,
        loop=asyncio.get_running_loop(),
        now_s=runtime.clock.now,
        lead_s=settings.link.tick_lead_s,
        clock=runtime.clock.monotonic,
    )


async def _listen(settings: Settings, web: Edge, native: NativeEdge | None) -> None:
    native_port = 0
    if native is not None:
        native_port = await native.listen(settings.native_host, settings.native_port)
    web_port = await web.listen(
        settings.web_host, settings.web_port, reuse_port=settings.reuse_port
    )
    log.info("listening", extra={"web_port": web_port, "native_port": native_port})


async def _drain(
    gateway: Gateway, web: Edge, native: NativeEdge | None, *, timeout_s: float
) -> None:
    """Both edges at once, then the links: their last leaves reach the nodes."""
    drains = [web.drain(timeout_s=timeout_s)]
    if native is not None:
        drains.append(native.drain(timeout_s=timeout_s))
    await asyncio.gather(*drains)
    for node in gateway.registry.nodes:
        node.link.close()


def compose(
    settings: Settings,
    runtime: Runtime,
    *,
    fan_out: fanout.FanOut,
    matchmaking_channel: Any,
    fleet_channel: Any,
) -> Gateway:
    """The object graph, without listeners and tasks."""
    loop = asyncio.get_running_loop()
    seeds = tokens_keys.load_or_create(settings.signing_key_path())
    access = tokens.AccessTokens(seeds, runtime.clock, life_s=settings.sessions.access_life_s)
    issuers = [tokens_studio.parse_issuer(text) for text in settings.jwks_issuers]
    studio = tokens_studio.StudioTokens(issuers, runtime.clock)
    guard = limits.Guard(
        access, settings.limits, trusted=settings.edge.trusted_ranges, clock=loop.time
    )
    streams = limits.StreamLimit(settings.rooms.streams_per_player)
    board, registry, room_api = _rooms(settings, runtime, streams=streams, fan_out=fan_out)
    session_api = sessions.SessionApi(
        access,
        studio,
        runtime.store,
        clock=runtime.clock,
        settings=settings.sessions,
        refused=guard.failed,
    )
    matchmaking_api = matchmaking.MatchmakingApi(
        matchmaking_channel, streams, clock=loop.time, settings=settings.matchmaking
    )
    room_list = RoomList()
    nodes = NodeChannels(clock=loop.time)
    open_rooms = _open_rooms(settings, runtime, room_list, nodes=nodes, fleet=fleet_channel)
    operators = Operators(settings.admin, studio, refused=guard.failed)
    admin_api = admin.AdminApi(operators, fleet_channel, nodes, locate=Owners(runtime.bus).place)
    return Gateway(
        access=access,
        studio=studio,
        guard=guard,
        streams=streams,
        methods=calls.Methods(
            [
                *session_api.methods(),
                *matchmaking_api.methods(),
                *room_api.methods(),
                *open_rooms.methods(),
                *admin_api.methods(),
                *_recorded(settings, runtime, operators, streams=streams, room_list=room_list),
            ]
        ),
        board=board,
        registry=registry,
        sweep=_sweep(settings, runtime, board, registry=registry, access=access),
        inputs=room_api.plain,
        recovery=_recovery(settings, runtime, board, registry),
        room_list=room_list,
        open_rooms=open_rooms,
        nodes=nodes,
        operators=operators,
    )


def _rooms(
    settings: Settings, runtime: Runtime, *, streams: limits.StreamLimit, fan_out: fanout.FanOut
) -> tuple[Board, Registry, rooms.RoomApi]:
    """RoomService and what carries it."""
    gateway_id = f"{runtime.settings.instance}/{runtime.incarnation}"

    def stream_token(stream: Stream) -> bytes:
        return api.stream_token(stream)

    def open_node(address: str) -> Node:
        node = Node(address, board, gateway_id=gateway_id, settings=settings.link)
        runtime.spawn(node.link.run(), name=f"attach {address}")
        return node

    board = Board(fan_out, stream_token, runtime.clock.monotonic)
    registry = Registry(board, Owners(runtime.bus).place, open_node)
    board.on_move = Moves(board, registry).take
    api = rooms.RoomApi(
        board,
        registry,
        streams,
        clock=runtime.clock,
        cluster_key=settings.cluster_key_bytes(),
        settings=settings.rooms,
    )
    return board, registry, api


def _recorded(
    settings: Settings,
    runtime: Runtime,
    operators: Operators,
    *,
    streams: limits.StreamLimit,
    room_list: RoomList,
) -> list[calls.Method]:
    """ReplayService, and its part of AdminService."""
    loop_time = asyncio.get_running_loop().time
    replays = Replays(runtime.bus, operators, streams, clock=loop_time, settings=settings.replays)
    spectating = Spectating(
        runtime.bus, room_list, streams, clock=runtime.clock,
        spawn=lambda coroutine, name: runtime.spawn(coroutine, name=name),
        settings=settings.replays,
    )  # fmt: skip
    return [*replays.methods(), *spectating.methods()]


def _sweep(
    settings: Settings,
    runtime: Runtime,
    board: Board,
    *,
    registry: Registry,
    access: tokens.AccessTokens,
) -> Sweep:
    """What looks after the quiet and the slow."""
    return Sweep(
        board,
        lambda: registry.rooms,
        session_end_s=access.session_end_s,
        now_s=runtime.clock.now,
        settings=settings.sweep,
    )


def _recovery(settings: Settings, runtime: Runtime, board: Board, registry: Registry) -> Recovery:
    return Recovery(
        board,
        registry,
        give_up_s=settings.room_lost_after_s,
        result=Owners(runtime.bus).result,
    )


def _open_rooms(
    settings: Settings, runtime: Runtime, room_list: RoomList, *, nodes: NodeChannels, fleet: Any
) -> OpenRooms:
    """The part of RoomService that makes rooms and finds them."""
    return OpenRooms(
        fleet,
        runtime.bus.kv(subjects.OWNERS.name),
        room_list,
        nodes,
        trusted=settings.edge.trusted_ranges,
        clock=asyncio.get_running_loop().time,
        settings=settings.open_rooms,
    )


class Owners:
    """Reads `rooms/own.<room>`."""

    def __init__(self, bus: Bus) -> None:
        self._kv = bus.kv(subjects.OWNERS.name)

    async def place(self, room_id: str) -> Place | None:
        """Where a room runs; None when it has no owner; Unavailable without NATS."""
        entry = await self._kv.get(subjects.own(names.RoomId(room_id)))
        if entry is None or entry.value is None:
            return None
        record = OwnRecord.FromString(entry.value)
        return Place(record.address, record.epoch)

    async def result(self, room_id: str) -> room_pb2.MatchResult | None:
        """The result of a match that ended within the last minute; raises as `place` does."""
        entry = await self._kv.get(subjects.result_key(names.RoomId(room_id)))
        if entry is None or entry.value is None:
            return None
        return ResultFact.FromString(entry.value).result


def _spawn_background(gateway: Gateway, runtime: Runtime) -> None:
    runtime.spawn(gateway.sweep.run(), name="gateway.sweep")
    runtime.spawn(gateway.recovery.run(), name="gateway.recovery")
    runtime.spawn(gateway.studio.run(), name="gateway.jwks")
    owners = runtime.bus.kv(subjects.OWNERS.name)
    runtime.spawn(gateway.room_list.run(owners), name="gateway.room-list")
    runtime.spawn(gateway.nodes.run(), name="gateway.node-channels")
    runtime.spawn(_gauges(gateway), name="gateway.gauges")


async def _warm(access: tokens.AccessTokens) -> None:
    """Pay for the cryptography's imports before the first player does."""
    await asyncio.to_thread(access.warm)


async def _gauges(gateway: Gateway) -> None:
    """Keep the gauges and forget what is idle."""
    loop = asyncio.get_running_loop()
    dropped = 0
    while True:
        await asyncio.sleep(GAUGES_EVERY_S)
        registry = gateway.registry
        registry.sweep(loop.time())
        nodes = list(registry.nodes)
        attached = sum(node.link.attached for node in nodes)
        metrics.GATEWAY_NODES.labels("attached").set(attached)
        metrics.GATEWAY_NODES.labels("away").set(len(nodes) - attached)
        metrics.GATEWAY_ROOMS.set(len(list(registry.rooms)))
        metrics.GATEWAY_ROOM_STREAMS.set(len(gateway.board.by_slot))
        slow = sum(stream.slow is not None for stream in gateway.board.by_slot.values())
        metrics.GATEWAY_SLOW_STREAMS.set(slow)
        now_dropped = sum(node.link.dropped_inputs for node in nodes)
        metrics.GATEWAY_INPUTS_DROPPED.inc(max(0, now_dropped - dropped))
        dropped = now_dropped


def _status(gateway: Gateway, edge: Edge) -> dict[str, Any]:
    """What /statusz says."""
    return {
        "streams": len(gateway.board.by_slot),
        "players": gateway.streams.players(),
        "rooms": len(list(gateway.registry.rooms)),
        "inputs_per_s": round(gateway.sweep.inputs_per_s, 1),
        "connections": edge.statistics().connections,
        "backend": edge.backend,
        "armed": edge.statistics().armed,
        "behind": edge.fan_out_statistics().behind,
        "slow": sum(stream.slow is not None for stream in gateway.board.by_slot.values()),
        "nodes": {node.address: node.link.way for node in gateway.registry.nodes},
    }
