"""Run the operator: watch always, act while leading, serve webhooks from every replica."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rallypoint.fleet.fences import Fences
from rallypoint.fleet.hosts import Hosts
from rallypoint.fleet.operator import webhooks
from rallypoint.fleet.operator.acts import MANAGER, Acts
from rallypoint.fleet.operator.config import Settings
from rallypoint.fleet.operator.epochs import Epochs
from rallypoint.fleet.operator.leaving import Leaving
from rallypoint.fleet.operator.revising import Revising
from rallypoint.fleet.operator.scaling import Scaling
from rallypoint.fleet.operator.servers import Servers
from rallypoint.fleet.operator.sets import Sets
from rallypoint.fleet.operator.slots import Slots
from rallypoint.fleet.operator.world import World
from rallypoint.kit.runtime import Runtime
from rallypoint.kube import config, errors
from rallypoint.kube.api import Api
from rallypoint.kube.certificates import Certificates, service_hosts
from rallypoint.kube.controller import Controller
from rallypoint.kube.domain.election import Terms
from rallypoint.kube.informer import Informers
from rallypoint.kube.kinds import EVENTS, LEASES, SECRETS
from rallypoint.kube.leader import Leader
from rallypoint.kube.recorder import Recorder
from rallypoint.kube.transport import Transport

log = logging.getLogger(__name__)
LEASE = "rallypoint-operator"
SERVER_WORKERS = 32
SET_WORKERS = 4
TRUST_RETRY_S = 5.0
RENEW_S = 3600.0


@dataclass(frozen=True, slots=True)
class Operator:
    """The parts that live as long as the process."""

    settings: Settings
    runtime: Runtime
    transport: Transport
    world: World
    hosts: Hosts
    leader: Leader
    certificates: Certificates | None = None


async def serve(settings: Settings, runtime: Runtime) -> None:
    """Run until asked to stop."""
    found = config.detect(os.environ, context=settings.kube_context or None)
    hosts = Hosts()
    try:
        async with Transport(found) as transport:
            await _serve(settings, runtime, transport, hosts)
    finally:
        await hosts.close()


async def _serve(settings: Settings, runtime: Runtime, transport: Transport, hosts: Hosts) -> None:
    terms = Terms(settings.lease_s, settings.renew_s, settings.retry_s)
    leader = Leader(
        Api(transport, LEASES, manager=MANAGER),
        LEASE,
        identity=f"{runtime.settings.instance}_{runtime.incarnation}",
        namespace=settings.own_namespace,
        terms=terms,
        clock=runtime.clock,
    )
    async with Informers(transport, manager=MANAGER) as informers:
        world = World(
            informers, namespace=settings.watch_namespace, bus=runtime.bus, hosts=hosts,
            clock=runtime.clock,
        )  # fmt: skip
        runtime.spawn(world.listen(), name="operator.listen")
        await informers.wait_synced()
        await world.watch.caught_up.wait()
        async with _webhooks(settings, runtime, transport) as certificates, leader:
            operator = Operator(settings, runtime, transport, world, hosts, leader, certificates)
            leading = runtime.spawn(_lead_again_and_again(operator), name="operator.lead")
            runtime.health.status(lambda: {"leading": leader.leading})
            runtime.health.set_ready(ready=True)
            await runtime.wait_stopping()
            runtime.health.set_ready(ready=False)
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)


@asynccontextmanager
async def _webhooks(
    settings: Settings, runtime: Runtime, transport: Transport
) -> AsyncIterator[Certificates | None]:
    """Serve admission and conversion, if they are asked for."""
    if not settings.webhook_port:
        yield None
        return
    certificates = Certificates(
        Api(transport, SECRETS, manager=MANAGER),
        settings.webhook_secret,
        namespace=settings.own_namespace,
        hosts=service_hosts(settings.webhook_service, settings.own_namespace),
    )
    await certificates.ensure(datetime.datetime.now(datetime.UTC))
    runtime.spawn(_keep_fresh(certificates), name="operator.certificates")
    async with webhooks.server(certificates).listening(port=settings.webhook_port):
        yield certificates


async def _keep_fresh(certificates: Certificates) -> None:
    """Renew the certificate in time; what fails is tried again in an hour, weeks before its end."""
    while True:
        await asyncio.sleep(RENEW_S)
        try:
            await certificates.ensure(datetime.datetime.now(datetime.UTC))
        except errors.KubeError as error:
            log.warning("certificate is not renewed: %s", error)


async def _lead_again_and_again(operator: Operator) -> None:
    """Act while leading, each time from a view that is as new as this term."""
    while True:
        await operator.leader.wait_leading()
        term = asyncio.create_task(lead(operator), name="operator.term")
        ended = asyncio.create_task(operator.leader.wait_ended(), name="operator.ended")
        try:
            await asyncio.wait((term, ended), return_when=asyncio.FIRST_COMPLETED)
            if term.done():
                await term  # a bug: half an operator serves nobody
        finally:
            term.cancel()
            ended.cancel()
            await asyncio.gather(term, ended, return_exceptions=True)


async def lead(operator: Operator) -> None:
    """Reconcile everything until cancelled."""
    settings, runtime, world = operator.settings, operator.runtime, operator.world
    gate, transport = operator.leader.gate, operator.transport
    fences = Fences(runtime.store)
    recorder = Recorder(
        Api(transport, EVENTS, manager=MANAGER, gate=gate),
        component=MANAGER,
        instance=runtime.settings.instance,
    )
    leases = Api(transport, LEASES, manager=MANAGER, gate=gate)
    epochs = Epochs(fences, leases, LEASE, namespace=settings.own_namespace)
    acts = Acts(
        transport, gate, epochs=epochs, fences=fences, hosts=operator.hosts, recorder=recorder
    )
    revising = Revising(acts.revisions, world, runtime.clock)
    leaving = Leaving(world, acts, gone_after_s=settings.gone_after_s)
    slots = Slots(runtime.store, runtime.clock)
    sets = Sets(
        settings, world, acts, revising=revising, leaving=leaving, slots=slots,
        clock=runtime.clock,
    )  # fmt: skip
    servers = Servers(world, acts, revising)
    of_sets = Controller("sets", sets.reconcile, workers=SET_WORKERS, clock=runtime.clock)
    of_servers = Controller(
        "servers", servers.reconcile, workers=SERVER_WORKERS, clock=runtime.clock
    )
    scaling = Scaling(world, acts, sets, clock=runtime.clock, period_s=settings.autoscale_period_s)
    of_scales = Controller("scales", scaling.reconcile, workers=SET_WORKERS, clock=runtime.clock)

    def set_changed(key: str) -> None:
        of_sets.add_after(key, settings.pass_period_s)
        of_scales.add_after(key, settings.scale_after_s)

    with world.listeners.added(server=of_servers.add, set_=set_changed):
        for item in world.sets.lister:
            of_sets.add(item.key)
            of_scales.add(item.key)
        for server in world.servers.lister:
            of_servers.add(server.key)
        async with asyncio.TaskGroup() as group:
            group.create_task(recorder.run(), name="operator.events")
            group.create_task(of_sets.run(), name="operator.sets")
            group.create_task(of_servers.run(), name="operator.servers")
            group.create_task(of_scales.run(), name="operator.scales")
            if operator.certificates is not None:
                group.create_task(_entrusted(operator), name="operator.trust")


async def _entrusted(operator: Operator) -> None:
    """Have the API server trust our webhooks, whatever it takes."""
    settings, certificates = operator.settings, operator.certificates
    assert certificates is not None
    while True:
        try:
            await webhooks.entrust(
                operator.transport, gate=operator.leader.gate, manager=MANAGER,
                ca=certificates.ca, name=settings.webhook_configuration,
                service=settings.webhook_service, own_namespace=settings.own_namespace,
                watched=settings.watch_namespace,
            )  # fmt: skip
        except errors.KubeError as error:
            log.warning("webhooks are not known yet: %s", error)
            await asyncio.sleep(TRUST_RETRY_S)
        else:
            return
