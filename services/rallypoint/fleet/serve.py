"""Run fleet: the allocator's gRPC server and the tasks that keep its view true."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from rallypoint.fleet import admin, service
from rallypoint.fleet.allocator import Allocator
from rallypoint.fleet.broker_watch import BrokerWatch
from rallypoint.fleet.claims import Claims
from rallypoint.fleet.cleanup import Cleanup
from rallypoint.fleet.codes import Codes
from rallypoint.fleet.config import Settings
from rallypoint.fleet.domain.nodes import Limits, Registry
from rallypoint.fleet.draining import Drains
from rallypoint.fleet.farewell import Farewell
from rallypoint.fleet.hosts import Hosts
from rallypoint.fleet.moving import Mover
from rallypoint.fleet.node_watch import NodeWatch
from rallypoint.fleet.ownership import Ownership
from rallypoint.fleet.recovery import Recovery
from rallypoint.fleet.scaler import ExternalScaler
from rallypoint.internal.keda import externalscaler_pb2_grpc
from rallypoint.internal.v1 import allocation_pb2_grpc, fleet_admin_pb2_grpc
from rallypoint.kit import errors, metrics, rpc, subjects
from rallypoint.kit.names import SetName
from rallypoint.kit.runtime import Runtime

logger = logging.getLogger(__name__)

_RETRY_S = 0.3
_MEASURE_S = 5.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """The parts of a running fleet."""

    registry: Registry
    hosts: Hosts
    claims: Claims
    watch: NodeWatch
    cleanup: Cleanup
    allocator: Allocator
    mover: Mover
    drains: Drains


def build(settings: Settings, runtime: Runtime) -> Fleet:
    """Put the parts together; nothing runs yet."""
    registry = Registry(Limits(silence_s=settings.silence_s))
    hosts = Hosts()
    owners = runtime.bus.kv(subjects.OWNERS.name)
    ownership = Ownership(owners)
    codes, clock = Codes(owners, ownership), runtime.clock
    claims = Claims(
        runtime.store, clock, ttl_s=settings.claim_ttl_s, closing_s=settings.closing_s,
        moving_s=settings.moving_s, least_ttl_s=settings.create_timeout_s * settings.node_tries,
    )  # fmt: skip

    def later(coroutine: Coroutine[Any, Any, None], name: str) -> None:
        runtime.spawn(coroutine, name=name)

    recovery = Recovery(
        settings,
        bus=runtime.bus,
        claims=claims,
        ownership=ownership,
        hosts=hosts,
        registry=registry,
        farewell=Farewell(bus=runtime.bus, claims=claims, ownership=ownership),
        clock=runtime.clock,
    )
    cleanup = Cleanup(
        bus=runtime.bus, claims=claims, ownership=ownership, codes=codes, hosts=hosts,
        registry=registry, recovery=recovery,
    )  # fmt: skip
    mover = Mover(
        settings, claims=claims, ownership=ownership, hosts=hosts, registry=registry,
        clock=runtime.clock,
    )  # fmt: skip
    watch = NodeWatch(registry, bus=runtime.bus, hosts=hosts, clock=clock)
    drains = Drains(
        mover, ownership, registry=registry, clock=clock, later=later,
        registered=watch.registered,
    )  # fmt: skip
    return Fleet(
        mover=mover,
        drains=drains,
        registry=registry,
        hosts=hosts,
        claims=claims,
        watch=watch,
        cleanup=cleanup,
        allocator=Allocator(
            settings,
            claims=claims,
            ownership=ownership,
            codes=codes,
            hosts=hosts,
            registry=registry,
            clock=runtime.clock,
            later=later,
            rebuild=recovery.rebuild,
        ),
    )


async def serve(settings: Settings, runtime: Runtime) -> None:
    """Serve until the process is asked to stop."""
    fleet = build(settings, runtime)
    server = rpc.make_server(runtime)
    allocation_pb2_grpc.add_AllocationServiceServicer_to_server(
        service.AllocationService(
            allocator=fleet.allocator,
            cleanup=fleet.cleanup,
            claims=fleet.claims,
            registry=fleet.registry,
        ),
        server,
    )
    externalscaler_pb2_grpc.add_ExternalScalerServicer_to_server(
        ExternalScaler(
            claims=fleet.claims,
            registry=fleet.registry,
            clock=runtime.clock,
            stopping=runtime.stopping,
        ),
        server,
    )
    fleet_admin_pb2_grpc.add_FleetAdminServiceServicer_to_server(
        admin.FleetAdminService(
            mover=fleet.mover, drains=fleet.drains, hosts=fleet.hosts, registry=fleet.registry
        ),
        server,
    )
    port = rpc.listen(server, settings.runtime.grpc_host, settings.runtime.grpc_port)
    await server.start()
    if settings.mirror_namespace:
        runtime.spawn(_mirror(settings, runtime, fleet), name="fleet.mirror")
    await fleet.watch.follow_heartbeats()
    runtime.spawn(fleet.watch.follow_registrations(), name="fleet.registrations")
    await fleet.watch.caught_up.wait()
    _spawn_tasks(settings, runtime, fleet)
    runtime.health.status(lambda: {"grpc_port": port, "nodes": len(fleet.registry.alive())})
    runtime.health.set_ready(ready=True, service=service.NAME)
    runtime.health.set_ready(ready=True)
    await runtime.wait_stopping()
    runtime.health.set_ready(ready=False)
    runtime.health.set_ready(ready=False, service=service.NAME)
    await server.stop(settings.runtime.drain_s)
    await fleet.hosts.close()


def _spawn_tasks(settings: Settings, runtime: Runtime, fleet: Fleet) -> None:
    started = runtime.clock.monotonic()

    async def scan() -> None:
        age_s = runtime.clock.monotonic() - started
        await fleet.cleanup.scan(unknown_is_dead=age_s > settings.unknown_node_s)

    runtime.spawn(_every(settings.ping_period_s, fleet.watch.ping_all), name="fleet.pings")
    runtime.spawn(_every(settings.sweep_period_s, fleet.cleanup.sweep), name="fleet.sweep")
    runtime.spawn(_every(_MEASURE_S, lambda: _measure(fleet)), name="fleet.measure")
    brokers = BrokerWatch(runtime.bus, runtime.store)
    runtime.spawn(_every(_MEASURE_S, brokers.look_at_streams), name="fleet.streams")
    runtime.spawn(_every(_MEASURE_S, brokers.look_at_store), name="fleet.store")
    runtime.spawn(_every(settings.scan_period_s, scan), name="fleet.scan")
    runtime.spawn(_bury(fleet), name="fleet.deaths")
    runtime.spawn(fleet.cleanup.follow_closed(), name="fleet.closed")
    runtime.spawn(fleet.drains.run(), name="fleet.drains")


async def _mirror(settings: Settings, runtime: Runtime, fleet: Fleet) -> None:
    """Tell Kubernetes of claims that hang."""
    from rallypoint.fleet.mirror import Mirror  # its imports are for those with a cluster
    from rallypoint.kube import config
    from rallypoint.kube.transport import Transport

    found = config.detect(os.environ, context=settings.kube_context or None)
    async with Transport(found) as transport:
        await Mirror(
            transport, claims=fleet.claims, store=runtime.store,
            namespace=settings.mirror_namespace, holder=runtime.incarnation,
        ).run()  # fmt: skip


async def _every(period_s: float, step: Callable[[], Awaitable[None]]) -> None:
    """Run a step each period; a broker or node that is away is waited for."""
    while True:
        await asyncio.sleep(period_s)
        try:
            await step()
        except errors.RallypointError as error:
            logger.info("step_failed", extra={"reason": str(error)})


async def _bury(fleet: Fleet) -> None:
    """Deal with deaths one by one, each until it is done."""
    while True:
        node = await fleet.watch.deaths.get()
        while True:
            try:
                await fleet.cleanup.died(node)
                break
            except errors.RallypointError as error:
                logger.warning("death_waits", extra={"node": node.node_id, "reason": str(error)})
                await asyncio.sleep(_RETRY_S)


async def _measure(fleet: Fleet) -> None:
    """Publish how many nodes and slots there are."""
    for name in fleet.registry.sets():
        nodes = [node for node in fleet.registry.alive() if node.set_name == name]
        used = await fleet.claims.used(SetName(name))
        draining = sum(node.draining for node in nodes)
        metrics.FLEET_NODES.labels(name, "draining").set(draining)
        metrics.FLEET_NODES.labels(name, "serving").set(len(nodes) - draining)
        metrics.FLEET_SLOTS.labels(name, "capacity").set(sum(node.capacity for node in nodes))
        metrics.FLEET_SLOTS.labels(name, "used").set(sum(used.values()))
