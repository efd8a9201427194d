"""The same calls over native gRPC (HTTP/2), for tests and games that are not pages."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from rallypoint.client import tls
from rallypoint.client.channel import CALL_S, Listener
from rallypoint.kit import errors, rpc


class NativeChannel:
    """A `channel.Channel` to `host:port`."""

    def __init__(self, address: str, *, secure: bool = False) -> None:
        if secure:
            self._channel = rpc.public_channel(address, name="client", roots=tls.roots())
        else:
            self._channel = rpc.plain_channel(address, name="client")
        self._streams: set[_NativeStream] = set()

    async def unary(
        self, path: str, request: bytes, *, token: str = "", timeout_s: float = CALL_S
    ) -> bytes:
        """One call; raises the error that the server tells."""
        method: Any = self._channel.unary_unary(path, None, None)
        async with rpc.calling():
            answer: bytes = await method(request, metadata=_metadata(token), timeout=timeout_s)
        return answer

    async def stream(
        self, path: str, request: bytes, *, listener: Listener, token: str = ""
    ) -> _NativeStream:
        """Start a server stream."""
        method: Any = self._channel.unary_stream(path, None, None)
        started = _NativeStream(method(request, metadata=_metadata(token)), listener)
        self._streams.add(started)
        started.task.add_done_callback(lambda _: self._streams.discard(started))
        return started

    async def close(self) -> None:
        """Drop all connections."""
        running = {stream.task for stream in self._streams}
        for stream in tuple(self._streams):
            stream.close()
        if running:
            await asyncio.wait(running)
        await self._channel.close()


class _NativeStream:
    """Pumps a call's messages to the listener, in a task that ends with the call."""

    def __init__(self, call: Any, listener: Listener) -> None:
        self._call = call
        self._listener: Listener | None = listener
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self._pump(), name="native-stream")

    def close(self) -> None:
        """End it from here; nothing more is told."""
        self._listener = None
        self._call.cancel()

    async def _pump(self) -> None:
        error: errors.RallypointError | None = None
        try:
            async for message in self._call:
                if self._listener is not None:
                    self._listener.on_message(message)
        except grpc.aio.AioRpcError as failed:
            error = rpc.to_error(failed)
        except asyncio.CancelledError:
            error = errors.Unavailable("STREAM_CLOSED", "closed from here")
        if self._listener is not None:
            self._listener.on_end(error)


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()
