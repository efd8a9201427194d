"""What the tests of the runtime share: transports, objects to play with, waiting for outcomes."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rallypoint.kube import config
from rallypoint.kube.api import Api, Scope
from rallypoint.kube.domain.backoff import Backoff
from rallypoint.kube.informer import Informer
from rallypoint.kube.kinds import CONFIG_MAPS
from rallypoint.kube.objects import ConfigMap, ObjectMeta
from rallypoint.kube.reflector import Pace
from rallypoint.kube.transport import Patience, Transport
from tests.kube.proxy import Proxy
from tests.support import waiting
from tests.support.kubernetes import ApiServer

WAIT_S = 60.0

until = functools.partial(waiting.until, within_s=WAIT_S, every_s=0.02)
QUICK = Pace(
    page_items=7, watch_s=20, silence_s=1.0, relist_spread_s=0.2,
    backoff=Backoff(first_s=0.05, most_s=0.5),
)  # fmt: skip
PATIENT = Patience(backoff=Backoff(first_s=0.02, most_s=0.2))


@asynccontextmanager
async def connected(server: ApiServer) -> AsyncIterator[Transport]:
    """A transport as the administrator, by the kubeconfig."""
    async with Transport(config.from_files([server.kubeconfig])) as transport:
        yield transport


@asynccontextmanager
async def proxied(server: ApiServer) -> AsyncIterator[tuple[Proxy, Transport]]:
    """A transport that goes through a proxy which can be made to fail."""
    async with (
        Proxy(server).running() as proxy,
        Transport(proxy.config, patience=PATIENT, rng=random.Random(1)) as transport,
    ):
        yield proxy, transport


def config_maps(transport: Transport, manager: str = "test") -> Api[ConfigMap]:
    """Calls on ConfigMaps."""
    return Api(transport, CONFIG_MAPS, manager=manager)


def config_map(name: str, namespace: str, **data: str) -> ConfigMap:
    """A ConfigMap."""
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data=data)


@asynccontextmanager
async def informed(
    transport: Transport, namespace: str, *, pace: Pace = QUICK
) -> AsyncIterator[Informer[ConfigMap]]:
    """A running informer of a namespace's ConfigMaps; its first list may not be in yet."""
    informer = Informer(config_maps(transport), Scope(namespace), pace=pace)
    task = asyncio.create_task(informer.run(), name="informer")
    try:
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
