"""A condition that was to be written is written, however often the way to the API server breaks."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from aiohttp import web

from rallypoint.kube.config import ClusterConfig
from rallypoint.kube.transport import Transport
from rallypoint.probe.conditions import Conditions
from rallypoint.probe.domain import health
from rallypoint.probe.domain.pods import Server

LIMIT_S = 20
SERVER = Server("games", "arena-0", "u-1")


def test_what_one_session_did_not_write_the_next_one_writes() -> None:
    asked: asyncio.Queue[str] = asyncio.Queue()
    sessions = itertools.count()

    async def answer(request: web.Request) -> web.Response:
        asked.put_nowait(request.path)
        if next(sessions) == 0:
            await asyncio.sleep(LIMIT_S)
        return web.json_response({"metadata": {"name": "arena-0"}})

    async def scenario() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        config = ClusterConfig("odd", f"http://127.0.0.1:{runner.addresses[0][1]}")
        conditions = Conditions()
        conditions.want(SERVER, health.Opinion(healthy=False, reason="Losses", message="many"))
        try:
            for _ in range(2):
                async with Transport(config) as transport, asyncio.timeout(LIMIT_S):
                    run = asyncio.create_task(conditions.run(transport), name="run")
                    await asked.get()
                    run.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await run
        finally:
            await runner.cleanup()

    asyncio.run(scenario())
