"""A real HTTP proxy before the API server that a test can make fail in chosen ways.

    proxy.fail(on("GET", watch=False), status=429, headers={"Retry-After": "1"}, times=3)

Requests and answers go over real sockets; a cut closes the connection in the middle of a line, a
stall keeps it open and says nothing more. Every request is noted, to count and to look at headers.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from rallypoint.kube.config import ClusterConfig
from tests.support.kubernetes import ApiServer


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def watch(self) -> bool:
        """Whether it is a watch."""
        return self.query.get("watch") == "true"

    @property
    def lists(self) -> bool:
        """Whether it asks for a list or a page of one."""
        return self.method == "GET" and not self.watch and "limit" in self.query


Match = Callable[[Seen], bool]


@dataclass(slots=True)
class Fault:
    """What happens to requests that match, `times` times."""

    match: Match
    times: int
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    delay_s: float = 0.0
    lose_answer: bool = False


def watches(seen: Seen) -> bool:
    """Match watches."""
    return seen.watch


def lists(seen: Seen) -> bool:
    """Match lists."""
    return seen.lists


def writes(seen: Seen) -> bool:
    """Match writes."""
    return seen.method not in ("GET", "HEAD")


class Proxy:
    """A relay of requests with faults."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.most_at_once = 0
        self._at_once = 0
        self._streams: set[web.StreamResponse] = set()
        self._stalled = asyncio.Event()
        self._stalled.set()
        self._session: aiohttp.ClientSession | None = None
        self.url = ""

    @property
    def config(self) -> ClusterConfig:
        """A configuration that reaches the API server through here."""
        return ClusterConfig(name="proxied", server=self.url)

    def kubeconfig(self, folder: Path) -> Path:
        """The same as a file."""
        path = folder / "proxied"
        named = {"cluster": "test", "user": "admin", "namespace": "default"}
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "admin", "user": {}}],
            "contexts": [{"name": "test", "context": named}],
        }  # fmt: skip
        path.write_text(json.dumps(config))
        return path

    def fail(self, match: Match, *, times: int = 1, **how: object) -> Fault:
        """Have matching requests fail."""
        fault = Fault(match, times, **how)  # type: ignore[arg-type]
        self.faults.append(fault)
        return fault

    def count(self, match: Match) -> int:
        """Return how many requests came that match."""
        return sum(match(one) for one in self.seen)

    def stall(self) -> None:
        """Keep streams open, but pass nothing on."""
        self._stalled.clear()

    def flow(self) -> None:
        """Pass on again."""
        self._stalled.set()

    async def cut(self) -> None:
        """Break all streams, each in the middle of a line."""
        for response in list(self._streams):
            with suppress(ConnectionError):  # whoever waited may have gone by itself
                await response.write(b'{"type":"MODIFIED","object":{"metad')
            self._drop(response)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Note a request, then fail it or pass it on."""
        seen = Seen(request.method, request.path, dict(request.query), dict(request.headers))
        self.seen.append(seen)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._answer(request, seen)
        finally:
            self._at_once -= 1

    async def _answer(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        fault = next((f for f in self.faults if f.times > 0 and f.match(seen)), None)
        if fault is not None:
            fault.times -= 1
            await asyncio.sleep(fault.delay_s)
            if fault.status:
                return _refusal(fault)
        response = await self._pass_on(request, streams=seen.watch)
        if fault is not None and fault.lose_answer:
            assert request.transport is not None
            request.transport.abort()
        return response

    async def _pass_on(self, request: web.Request, *, streams: bool) -> web.StreamResponse:
        assert self._session is not None
        kept = ("Content-Type", "Accept", "Traceparent", "User-Agent")
        headers = {k: v for k, v in request.headers.items() if k.title() in kept}
        async with self._session.request(
            request.method, self._server.url + request.path_qs, headers=headers,
            data=await request.read(),
        ) as answer:  # fmt: skip
            kind = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
            if not streams or answer.status != 200:
                body = await answer.read()
                return web.Response(status=answer.status, body=body, headers=kind)
            response = web.StreamResponse(headers=kind)
            await response.prepare(request)
            self._streams.add(response)
            try:
                async for chunk in answer.content.iter_any():
                    await self._stalled.wait()
                    await response.write(chunk)
            except ConnectionError:
                pass
            finally:
                self._streams.discard(response)
                if answer.connection is not None and answer.connection.transport is not None:
                    answer.connection.transport.abort()
            return response

    def _drop(self, response: web.StreamResponse) -> None:
        transport = response._req.transport if response._req else None
        if transport is not None:
            transport.abort()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        """Listen on a free port."""
        context = ssl.create_default_context(cafile=self._server.ca_file)
        context.load_cert_chain(self._server.admin.cert_file, self._server.admin.key_file)
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{rest:.*}", self.handle)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self._stalled.set()
            await runner.cleanup()
            await self._session.close()


def _refusal(fault: Fault) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": fault.status,
        "reason": fault.reason,
        "message": f"the proxy says {fault.status}",
    }
    return web.Response(
        status=fault.status,
        body=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **fault.headers},
    )
