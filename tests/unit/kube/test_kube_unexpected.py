"""What nobody foresaw: it is told, waits end, and a lease is still looked after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from rallypoint.kube import errors
from rallypoint.kube.api import Api
from rallypoint.kube.config import ClusterConfig
from rallypoint.kube.domain.election import Terms
from rallypoint.kube.informer import Informers
from rallypoint.kube.kinds import CONFIG_MAPS, LEASES
from rallypoint.kube.leader import Leader
from rallypoint.kube.objects import ConfigMap
from rallypoint.kube.transport import Transport

LIMIT_S = 20
PAGE = {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "a"}}]}


async def answer(request: web.Request) -> web.Response:
    """One ConfigMap, no lease; what is written is taken."""
    if request.method == "POST":
        return web.json_response(await request.json(), status=201)
    if "leases" in request.path:
        return web.json_response({"kind": "Status", "reason": "NotFound"}, status=404)
    return web.json_response(PAGE)


@asynccontextmanager
async def answered() -> AsyncIterator[Transport]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        _, port = runner.addresses[0][:2]
        async with (
            asyncio.timeout(LIMIT_S),
            Transport(ClusterConfig("odd", f"http://127.0.0.1:{port}")) as transport,
        ):
            yield transport
    finally:
        await runner.cleanup()


def test_an_informer_that_ends_is_told_and_ends_all_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: ConfigMap) -> Iterable[str]:
        raise ZeroDivisionError("no such index")

    async def scenario() -> None:
        async with answered() as transport, Informers(transport, manager="t") as informers:
            cache = informers.informer(CONFIG_MAPS)
            cache.add_index("broken", broken)
            version = asyncio.create_task(cache.wait_version("9"), name="wait")
            told = "cluster odd: .*ZeroDivisionError no such index"
            with pytest.raises(errors.KubeError, match=told):
                await informers.wait_synced()
            with pytest.raises(errors.KubeError, match=told):
                await version
            with pytest.raises(errors.KubeError, match=told):
                await cache.wait_version("9")

    asyncio.run(scenario())
    assert "informer v1/configmaps ended" in caplog.text


def test_a_try_that_fails_oddly_does_not_end_the_lease(caplog: pytest.LogCaptureFixture) -> None:
    faults = [ZeroDivisionError("no such gate")]

    def gate() -> float:
        if faults:
            raise faults.pop()
        return 5.0

    async def scenario() -> None:
        async with answered() as transport:
            leases = Api(transport, LEASES, manager="t", gate=gate)
            terms = Terms(duration_s=4, renew_s=2.5, retry_s=0.05)
            async with Leader(leases, "op", identity="me", terms=terms) as leader:
                await leader.wait_leading()

    asyncio.run(scenario())
    assert "no such gate" in caplog.text
