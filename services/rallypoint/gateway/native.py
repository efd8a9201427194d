"""The native edge: the same methods over HTTP/2 without TLS, by grpcio.

    edge = NativeEdge(methods, settings=…, fan_out=…, tasks=…, guard=…, health=…, reflection=False)
    port = await edge.listen("0.0.0.0", 8090)
    …
    await edge.drain(timeout_s=10)

Meant for a private network or behind something that speaks TLS. Connections are bounded as those of
the web edge are: in all, by address (`native_crowd`), and in how long they may do nothing. Every
method is registered as one that takes a stream of requests: the library would hold a unary call
without a message for ever and take several for one, so we count them ourselves. The HPACK table is
off: grpc-core keeps headers that it failed to parse in it, and one bad header of one client behind
a proxy would fail the calls of all the others on that connection (docs: edge tests, `hpack`).
"""

import asyncio
import binascii
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from rallypoint.gateway import calls, calls_faults, native_health, web_metrics
from rallypoint.gateway.calls_stream import StreamCore
from rallypoint.gateway.domain import grpcweb
from rallypoint.gateway.fanout import FanOut
from rallypoint.gateway.native_crowd import NativeCrowd
from rallypoint.gateway.native_outlet import NativeOutlet
from rallypoint.gateway.web_settings import EdgeSettings
from rallypoint.kit import errors, rpc, status, telemetry
from rallypoint.kit.health import Health

_Context = grpc.aio.ServicerContext[bytes, bytes]
_MOST_MS = 99_999_999  # eight digits, as grpc-timeout has at most
_STATUS = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class NativeLimits:
    """What a native client may take."""

    native_streams_per_connection: int = 100
    """Calls at the same time on one HTTP/2 connection."""
    native_header_bytes: int = 16 * 1024
    """Request metadata."""
    native_ping_interval_s: float = 10.0
    """Pings that come faster are answered by closing the connection."""


def _options(limits: NativeLimits, settings: EdgeSettings, max_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", int(settings.request_timeout_s * 1000)),
        ("grpc.max_connection_idle_ms", int(settings.idle_timeout_s * 1000)),
        ("grpc.http2.hpack_table_size.decoder", 0),
        ("grpc.max_concurrent_streams", limits.native_streams_per_connection),
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.max_metadata_size", limits.native_header_bytes),
        ("grpc.absolute_max_metadata_size", limits.native_header_bytes),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            int(limits.native_ping_interval_s * 1000),
        ),
        ("grpc.so_reuseport", 0),
    ]


class NativeEdge:
    """The native gRPC server of a gateway."""

    def __init__(
        self,
        methods: calls.Methods,
        *,
        settings: EdgeSettings,
        fan_out: FanOut,
        tasks: asyncio.TaskGroup,
        guard: calls.Guard,
        health: Health | None = None,
        reflection: bool = False,
        limits: NativeLimits | None = None,
        details: Callable[[errors.RallypointError], bytes] = status.to_details,
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._details = details
        self._loop = asyncio.get_running_loop()
        self._streams = StreamCore(self._loop, tasks, fan_out, settings.max_pending_bytes)
        self._tasks = tasks
        self._crowd = NativeCrowd(settings)
        self._looking: asyncio.Task[None] | None = None
        self._open: set[NativeOutlet] = set()
        largest = max((method.max_bytes for method in methods), default=calls.MESSAGE_MAX_BYTES)
        options = _options(limits or NativeLimits(), settings, largest)
        self._server = grpc.aio.server(options=options)
        handlers = self._handlers(methods)
        self._unguarded: frozenset[str] = frozenset()
        if health is not None:
            found = self._handlers(native_health.methods(health))
            handlers |= found
            self._unguarded = frozenset(found)
        self._server.add_generic_rpc_handlers((_Router(handlers),))
        if reflection:
            _reflect(self._server, methods)

    async def listen(self, host: str, port: int) -> int:
        """Serve; return the port bound (`port` 0: any free one). Raises Unavailable PORT_IN_USE."""
        bound = rpc.listen_plain(self._server, host, port)
        await self._server.start()
        looking = calls_faults.contained(lambda: self._crowd.run(bound), lambda: None)
        self._looking = self._tasks.create_task(looking, name="native.crowd")
        return bound

    async def drain(self, *, timeout_s: float) -> None:
        """Stop: refuse new calls, end streams with their farewell, let calls finish, then cut."""
        for outlet in list(self._open):
            outlet.retire(calls_faults.draining())
        await self._server.stop(timeout_s)
        if self._looking is not None:
            self._looking.cancel()

    def _handlers(self, methods: calls.Methods) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for method in methods:
            tally = web_metrics.Tally(method.path)
            if isinstance(method, calls.StreamMethod):
                behavior: Any = self._stream(method, tally)
                found[method.path] = grpc.stream_stream_rpc_method_handler(behavior)
            else:
                behavior = self._unary(method, tally)
                found[method.path] = grpc.stream_unary_rpc_method_handler(behavior)
        return found

    def _call(self, context: _Context, method: calls.Method) -> calls.Call:
        metadata: dict[str, str] = {}
        for key, value in context.invocation_metadata() or ():
            text = value if isinstance(value, str) else _to_base64(value)
            metadata[key] = f"{metadata[key]}, {text}" if key in metadata else text
        wish = context.time_remaining()
        if wish is not None:  # the library takes the header away
            metadata["grpc-timeout"] = f"{min(int(wish * 1000) + 1, _MOST_MS)}m"
        peer = context.peer()
        return calls.Call(
            method.path,
            metadata,
            _ip(peer),
            self._loop.time() + self._timeout_s(wish, method),
            telemetry.edge_parent(metadata.get("traceparent", "")),
            connection=peer,
        )

    def _timeout_s(self, wish: float | None, method: calls.Method) -> float:
        settings = self._settings
        if isinstance(method, calls.StreamMethod):
            cap = default = settings.stream_timeout_cap_s
        else:
            cap, default = settings.unary_timeout_cap_s, settings.unary_timeout_s
        return default if wish is None else min(wish, cap)

    def _unary(self, method: calls.UnaryMethod, tally: web_metrics.Tally) -> Any:
        async def behavior(requests: AsyncIterator[bytes], context: _Context) -> bytes:
            call = self._call(context, method)
            reply = b""
            recorded = not calls.is_hot(method)
            with calls_faults.traced(call, self._loop.time, recorded=recorded) as outcome:
                async with asyncio.timeout_at(call.deadline):
                    reply = await self._answer(method, call, requests)
            error = outcome.error
            tally.count(errors.Code.OK if error is None else error.code)
            await self._begin(call, context)
            await self._end(call, context, error)
            return reply

        return behavior

    async def _answer(
        self, method: calls.UnaryMethod, call: calls.Call, requests: AsyncIterator[bytes]
    ) -> bytes:
        message = await self._message(method, call, requests)
        reply = method.handler(call, message)
        if not isinstance(reply, (bytes, Message)):
            reply = await reply
        return reply if isinstance(reply, bytes) else reply.SerializeToString()

    async def _message(
        self, method: calls.Method, call: calls.Call, requests: AsyncIterator[bytes]
    ) -> Message:
        self._crowd.check(call.connection)
        if method.path not in self._unguarded:
            self._guard(call, method)
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                body = await _one(requests)
        except TimeoutError:
            raise calls_faults.request_late() from None
        if len(body) > method.max_bytes:
            raise grpcweb.too_large(method.max_bytes)
        try:
            return method.request.FromString(body)
        except DecodeError:
            raise calls_faults.malformed_message() from None

    def _stream(self, method: calls.StreamMethod, tally: web_metrics.Tally) -> Any:
        async def behavior(
            requests: AsyncIterator[bytes], context: _Context
        ) -> AsyncIterator[bytes]:
            call = self._call(context, method)
            outlet = NativeOutlet(self._streams, method, call, tally=tally)
            self._open.add(outlet)
            outlet.run(lambda: self._handle(method, call, requests, outlet))
            try:
                begun = False
                while (message := await outlet.queue.next()) is not None:
                    if not begun:
                        begun = True
                        await self._begin(call, context)
                    yield message
            finally:
                self._open.discard(outlet)
                outlet.leave()
            if not begun:
                await self._begin(call, context)
            slow = errors.ResourceExhausted("SLOW_READER", "the client reads too slowly")
            await self._end(call, context, slow if outlet.queue.aborted else outlet.error)

        return behavior

    async def _handle(
        self,
        method: calls.StreamMethod,
        call: calls.Call,
        requests: AsyncIterator[bytes],
        outlet: NativeOutlet,
    ) -> None:
        message = await self._message(method, call, requests)
        await method.handler(call, message, outlet)

    async def _begin(self, call: calls.Call, context: _Context) -> None:
        if call.headers:
            await context.send_initial_metadata(_metadata(call.headers))

    async def _end(
        self, call: calls.Call, context: _Context, error: errors.RallypointError | None
    ) -> None:
        trailers = _metadata(call.trailers)
        if error is None:
            context.set_trailing_metadata(trailers)
            return
        if encoded := self._details(error):
            trailers += ((rpc.DETAILS, encoded),)
        await context.abort(_STATUS[int(error.code)], error.message, trailers)


async def _one(requests: AsyncIterator[bytes]) -> bytes:
    """Return the only message of a request."""
    body: bytes | None = None
    async for message in requests:
        if body is not None:
            raise errors.Unimplemented("REQUEST_MULTIPLE", "more than one message")
        body = message
    if body is None:
        raise errors.Unimplemented("REQUEST_EMPTY", "the request has no message")
    return body


class _Router(grpc.GenericRpcHandler):
    def __init__(self, handlers: dict[str, Any]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a path, None when there is none."""
        return self._handlers.get(handler_call_details.method)


def _reflect(server: grpc.aio.Server, methods: calls.Methods) -> None:
    from grpc_reflection.v1alpha import reflection  # development only

    names = [*methods.services(), "grpc.health.v1.Health", reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server)


def _metadata(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str | bytes], ...]:
    found: list[tuple[str, str | bytes]] = []
    for name, value in pairs:
        key = name.lower()
        found.append((key, _from_base64(value) if key.endswith("-bin") else value))
    return tuple(found)


def _to_base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode().rstrip("=")


def _from_base64(value: str) -> bytes:
    return binascii.a2b_base64(value + "=" * (-len(value) % 4))


def _ip(peer: str) -> str:
    """Return the address in `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    kind, _, rest = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return rest.rpartition(":")[0].strip("[]")
