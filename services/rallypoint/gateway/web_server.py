"""The web edge: listens, keeps count of connections, sweeps out the late ones, and drains.

    edge = Edge(methods, settings=…, fan_out=…, tasks=…, guard=…, files=StaticFiles(root))
    port = await edge.listen("0.0.0.0", 8080)
    …
    await edge.drain(timeout_s=10)

Methods must be complete when the edge is made. All tasks run in `tasks` and let no exception out.
"""

import asyncio
import socket
from collections import Counter
from dataclasses import dataclass

from rallypoint.gateway import calls
from rallypoint.gateway.calls_stream import StreamCore
from rallypoint.gateway.domain import buckets
from rallypoint.gateway.fanout import FanOut, FanOutStatistics
from rallypoint.gateway.static import StaticFiles
from rallypoint.gateway.web_core import Core, Details, Held
from rallypoint.gateway.web_drain import InputDrain
from rallypoint.gateway.web_plan import Planner
from rallypoint.gateway.web_protocol import Connection
from rallypoint.gateway.web_settings import EdgeSettings
from rallypoint.kit import errors, metrics, status

SWEEP_S = 0.5
_UNSENT_BYTES = 16 * 1024
"""What the kernel takes for a client before it is sent: what waits longer shall be seen here."""
_BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class EdgeStatistics:
    """What the edge holds now."""

    connections: int
    """Open."""
    busy: int
    """Of them with a call or a stream."""
    unsent_bytes: int
    """Answers and frames that clients have not read yet, beyond the kernel's buffers."""
    armed: int
    """Of them read by the drain."""
    addresses: int
    """Different clients' addresses (IPv6 by /64)."""


class Edge:
    """The gRPC-Web server of a gateway. Implements `web_core.Registry`."""

    def __init__(
        self,
        methods: calls.Methods,
        *,
        settings: EdgeSettings,
        fan_out: FanOut,
        tasks: asyncio.TaskGroup,
        guard: calls.Guard,
        again: calls.Again | None = None,
        files: StaticFiles | None = None,
        details: Details = status.to_details,
        drain: InputDrain | None = None,
    ) -> None:
        self._settings = settings
        loop = asyncio.get_running_loop()
        self._fan_out = fan_out
        self._core = Core(
            loop=loop,
            tasks=tasks,
            settings=settings,
            planner=Planner(methods, settings, files),
            guard=guard,
            again=again,
            streams=StreamCore(loop, tasks, fan_out, settings.max_pending_bytes),
            details=details,
            drain=drain,
        )
        rate = settings.new_connections_per_ip_per_s
        self._arrivals = buckets.Buckets(buckets.Rate(rate, 2 * rate))
        self._unlimited = buckets.Ranges((*settings.trusted_ranges, *settings.proxies))
        self._connections: set[Held] = set()
        self._per_address: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._pushed = fan_out.statistics()
        self._empty = asyncio.Event()

    async def listen(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Serve; return the port bound (`port` 0: any free one). Raises Unavailable PORT_IN_USE."""
        loop = self._core.loop
        try:
            self._server = await loop.create_server(
                lambda: Connection(self._core, self),
                host,
                port,
                reuse_port=reuse_port,
                backlog=_BACKLOG,
            )
        except OSError as error:
            message = f"cannot listen on {host}:{port}: {error}"
            raise errors.Unavailable("PORT_IN_USE", message) from error
        for listener in self._server.sockets:  # those accepted take it over
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._sweeper = self._core.tasks.create_task(self._sweep(), name="web.sweep")
        bound: socket.socket = self._server.sockets[0]
        return int(bound.getsockname()[1])

    def admit(self, connection: Held) -> errors.RallypointError | None:
        """Register a connection, or say why it may not stay. It is forgotten in either case."""
        self._connections.add(connection)
        key = buckets.address_key(connection.peer)
        self._per_address[key] += 1
        metrics.GATEWAY_CONNECTIONS.inc()
        settings = self._settings
        if len(self._connections) > settings.max_connections:
            return errors.ResourceExhausted("CONNECTIONS", "this gateway is full", retry_after_s=1)
        if connection.peer in self._unlimited:
            return None
        if self._per_address[key] > settings.max_connections_per_ip:
            return errors.ResourceExhausted(
                "CONNECTIONS_PER_ADDRESS", "too many connections from this address", retry_after_s=1
            )
        wait_s = self._arrivals.take(key, self._core.loop.time())
        if wait_s:
            return errors.ResourceExhausted(
                "CONNECTION_RATE", "too many new connections", retry_after_s=wait_s
            )
        return None

    def replace(self, connection: Held, successor: Held) -> None:
        """The same connection under another protocol."""
        self._connections.remove(connection)
        self._connections.add(successor)

    def forget(self, connection: Held) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        key = buckets.address_key(connection.peer)
        self._per_address[key] -= 1
        if not self._per_address[key]:
            del self._per_address[key]
        metrics.GATEWAY_CONNECTIONS.dec()
        if not self._connections:
            self._empty.set()

    async def _sweep(self) -> None:
        """Close what is late. One pass over all connections instead of a timer for each request."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self._core.loop.time()
            for connection in [late for late in self._connections if late.expires < now]:
                connection.expire()
            self._count_pushed()
            self._core.planner.publish()

    def _count_pushed(self) -> None:
        before, now = self._pushed, self._fan_out.statistics()
        if now == before:
            return
        count = metrics.GATEWAY_FANOUT_MESSAGES.labels
        count("sent").inc(now.messages - before.messages)
        count("behind").inc(now.behind - before.behind)
        count("cut").inc(now.cut - before.cut)
        metrics.GATEWAY_FANOUT_BYTES.inc(now.bytes - before.bytes)
        self._pushed = now

    def statistics(self) -> EdgeStatistics:
        """What the edge holds now."""
        return EdgeStatistics(
            connections=len(self._connections),
            busy=sum(not connection.idle for connection in self._connections),
            unsent_bytes=sum(connection.unsent for connection in self._connections),
            armed=self._core.drain.connections if self._core.drain is not None else 0,
            addresses=len(self._per_address),
        )

    @property
    def backend(self) -> str:
        """Which backend writes to clients."""
        return self._fan_out.name

    def fan_out_statistics(self) -> FanOutStatistics:
        """What the fan-out did since start."""
        return self._fan_out.statistics()

    async def drain(self, *, timeout_s: float) -> None:
        """Stop: accept nothing new, end streams with their farewell, let calls finish, then cut."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(timeout_s):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.transport.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._core.drain is not None:
            self._core.drain.close()
        self._core.planner.publish()
