"""An edge with a few methods of its own, and a raw client that sends what no library would."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.wrappers_pb2 import BytesValue

from rallypoint.gateway import calls, fanout
from rallypoint.gateway.domain import grpcweb
from rallypoint.gateway.native import NativeEdge
from rallypoint.gateway.static import StaticFiles
from rallypoint.gateway.web_server import Edge
from rallypoint.gateway.web_settings import EdgeSettings
from rallypoint.kit import errors, status
from tests.support import waiting
from tests.support.backends import chosen

HOST = "127.0.0.1"

until = functools.partial(waiting.until, within_s=20)
SERVICE = "/rallypoint.test.EchoService/"
SETTINGS = EdgeSettings(trusted_ranges=("127.0.0.0/8",), origins=("https://play.test",))
FAREWELL = BytesValue(value=b"farewell").SerializeToString()


@dataclass
class Service:
    """The methods, and what they saw."""

    fan_out: fanout.FanOut
    calls: list[calls.Call] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    open: int = 0
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def methods(self) -> calls.Methods:
        """Return the registry."""
        unary = {"Echo": self.echo, "Slow": self.slow, "Fail": self.fail, "Refuse": self.refuse}
        unary["Break"] = self.break_out
        found: list[calls.Method] = [
            calls.UnaryMethod(SERVICE + name, BytesValue, BytesValue, handler, max_bytes=1000)
            for name, handler in unary.items()
        ]
        watch = calls.StreamMethod(
            SERVICE + "Watch", BytesValue, BytesValue, self.watch, farewell=FAREWELL
        )
        found += [watch, calls.StreamMethod(SERVICE + "Count", BytesValue, BytesValue, self.count)]
        return calls.Methods(found)

    def echo(self, call: calls.Call, message: BytesValue) -> BytesValue:
        """Answer at once."""
        self.calls.append(call)
        return message

    async def slow(self, call: calls.Call, message: BytesValue) -> BytesValue:
        """Answer after the seconds the message names."""
        self.open += 1
        try:
            await asyncio.sleep(float(message.value))
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.open -= 1
        return message

    def fail(self, call: calls.Call, message: BytesValue) -> BytesValue:
        """Have a bug."""
        raise ValueError("the secret of this process")

    async def break_out(self, call: calls.Call, message: BytesValue) -> BytesValue:
        """Answer with metadata that no header can carry."""
        call.trailers.append(("x-name", "two\nlines"))
        return message

    def refuse(self, call: calls.Call, message: BytesValue) -> BytesValue:
        """Refuse with a wait."""
        raise errors.ResourceExhausted("TOO_OFTEN", "100 % too often — wait", retry_after_s=2)

    async def watch(self, call: calls.Call, message: BytesValue, outlet: calls.Outlet) -> None:
        """Stay in the fan-out until the client leaves."""
        self.open += 1
        self.slots.append(outlet.slot)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.open -= 1

    async def count(self, call: calls.Call, message: BytesValue, outlet: calls.Outlet) -> None:
        """Send as many messages as the message says, then fail if it is odd."""
        for number in range(int(message.value)):
            outlet.send(wrap(b"%d" % number))
            await outlet.wait_writable()
        if int(message.value) % 2:
            raise errors.Aborted("ODD", "an odd number")


def wrap(value: bytes) -> bytes:
    """Return a serialized BytesValue."""
    return BytesValue(value=value).SerializeToString()


@dataclass
class Running:
    """An edge that serves."""

    edge: Any
    port: int
    service: Service
    fan_out: fanout.FanOut


@asynccontextmanager
async def web(
    settings: EdgeSettings = SETTINGS,
    *,
    guard: calls.Guard = calls.open_door,
    files: StaticFiles | None = None,
    limits: fanout.FanOutLimits | None = None,
) -> AsyncIterator[Running]:
    """Run a web edge."""
    fan_out = fanout.make(
        chosen(), limits or fanout.FanOutLimits(), clock=asyncio.get_running_loop().time
    )
    service = Service(fan_out)
    async with asyncio.TaskGroup() as tasks:
        edge = Edge(
            service.methods(),
            settings=settings,
            fan_out=fan_out,
            tasks=tasks,
            guard=guard,
            files=files,
        )
        try:
            yield Running(edge, await edge.listen(HOST, 0), service, fan_out)
        finally:
            await edge.drain(timeout_s=1)


@asynccontextmanager
async def native(
    settings: EdgeSettings = SETTINGS, *, guard: calls.Guard = calls.open_door, **options: Any
) -> AsyncIterator[Running]:
    """Run a native edge."""
    fan_out = fanout.make(chosen(), fanout.FanOutLimits(), clock=asyncio.get_running_loop().time)
    service = Service(fan_out)
    async with asyncio.TaskGroup() as tasks:
        edge = NativeEdge(
            service.methods(),
            settings=settings,
            fan_out=fan_out,
            tasks=tasks,
            guard=guard,
            **options,
        )
        try:
            yield Running(edge, await edge.listen(HOST, 0), service, fan_out)
        finally:
            await edge.drain(timeout_s=1)


def tuned(**changes: Any) -> EdgeSettings:
    """Return the settings with changes."""
    return dataclasses.replace(SETTINGS, **changes)


# --- the raw client ---


def body(value: bytes = b"hello") -> bytes:
    """Return a framed request."""
    return grpcweb.frame(wrap(value))


def request(method: str = "Echo", data: bytes | None = None, **headers: str | None) -> bytes:
    """Return the bytes of a call. Header names take `_` for `-`; None leaves one out."""
    data = body() if data is None else data
    fields: dict[str, str | None] = {
        "host": "edge.test",
        "content-type": "application/grpc-web+proto",
        "content-length": str(len(data)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"POST {SERVICE}{method} HTTP/1.1", *lines, "", ""]).encode() + data


@dataclass
class Response:
    """What came back."""

    http_status: int
    headers: dict[str, str]
    body: bytes

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        """The frames of the body."""
        found, data = [], self.body
        while data:
            size = int.from_bytes(data[1:5], "big")
            found.append((data[0], data[5 : 5 + size]))
            data = data[5 + size :]
        return found

    @property
    def messages(self) -> list[bytes]:
        """The values of the messages."""
        return [BytesValue.FromString(data).value for flag, data in self.frames if not flag]

    @property
    def trailers(self) -> dict[str, str]:
        """The trailer frame, or the headers of a response without one."""
        last = self.frames[-1] if self.headers["content-type"].startswith("application/") else None
        return parse_fields(last[1].decode()) if last is not None else self.headers

    @property
    def code(self) -> errors.Code:
        """The status."""
        return errors.Code(int(self.trailers["grpc-status"]))

    @property
    def error(self) -> errors.RallypointError:
        """The error in the details."""
        import base64

        encoded = self.trailers["grpc-status-details-bin"]
        return status.from_details(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))


def parse_fields(text: str) -> dict[str, str]:
    """Return header lines as a dictionary."""
    pairs = (line.partition(":") for line in text.split("\r\n") if line)
    return {name.strip(): value.strip() for name, _, value in pairs}


class Wire:
    """One TCP connection to an edge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Write without waiting."""
        self.writer.write(data)

    async def head(self) -> Response:
        """Read a response's head."""
        async with asyncio.timeout(30):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        line, _, fields = text.partition("\r\n")
        return Response(int(line.split(" ")[1]), parse_fields(fields), b"")

    async def chunk(self) -> bytes:
        """Read a chunk; empty at the end."""
        async with asyncio.timeout(30):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def response(self) -> Response:
        """Read a whole response."""
        response = await self.head()
        async with asyncio.timeout(30):
            if response.headers.get("transfer-encoding") == "chunked":
                while part := await self.chunk():
                    response.body += part
            elif length := response.headers.get("content-length"):
                response.body = await self.reader.readexactly(int(length))
        return response

    async def call(self, data: bytes) -> Response:
        """Send and read."""
        self.send(data)
        return await self.response()

    async def ends(self) -> bytes:
        """Read until the other side closes; returns what came."""
        async with asyncio.timeout(30):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def wire(running: Running) -> AsyncIterator[Wire]:
    """Connect."""
    reader, writer = await asyncio.open_connection(HOST, running.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
