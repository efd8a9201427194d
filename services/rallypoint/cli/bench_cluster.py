"""A namespace of a cluster for a bench, with our kinds known there."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator

from rallypoint.fleet import resources
from rallypoint.kube import crd, errors
from rallypoint.kube.api import Api
from rallypoint.kube.kinds import NAMESPACES
from rallypoint.kube.objects import Namespace, ObjectMeta
from rallypoint.kube.transport import Transport

MANAGER = "rallypoint-bench"


@contextlib.asynccontextmanager
async def namespace(transport: Transport) -> AsyncIterator[str]:
    """Make a namespace, deleted at the end; without a controller manager what is in it stays."""
    name = f"{MANAGER}-{secrets.token_hex(3)}"
    spaces = Api(transport, NAMESPACES, manager=MANAGER)
    await _crds(transport)
    await spaces.create(Namespace(metadata=ObjectMeta(name=name)))
    try:
        yield name
    finally:
        await spaces.delete(name)


async def _crds(transport: Transport) -> None:
    """Have the API server know our kinds; what is there already is left as it is."""
    for custom in resources.ALL:
        try:
            await Api(transport, custom.kind, manager=MANAGER).list()
        except errors.NotFound:
            await crd.install(transport, custom, manager=MANAGER)
