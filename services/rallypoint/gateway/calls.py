"""Calls as the gateway's handlers see them, whatever the transport.

A handler never learns whether a call came as gRPC-Web (binary or text) or as native gRPC: both
edges (`web_server`, `native`) take the same `Methods` and run the same `Guard` before a handler.

    unary     handler(call, message) -> message or serialized bytes, or an awaitable of either. A
              plain `def` that answers at once costs no task: that is the way of the hot calls.
    stream    async handler(call, message, outlet): lives as long as the stream. Returning ends the
              stream with OK, raising a RallypointError with its status, being cancelled means that
              the client left, the deadline passed or the process drains.

Errors: handlers and guards raise `kit.errors.RallypointError`; anything else reaches the client as
INTERNAL with a fixed text and a trace id, and the log with its traceback.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.protobuf.message import Message

from rallypoint.gateway.fanout import Problem
from rallypoint.kit.errors import RallypointError

MESSAGE_MAX_BYTES = 64 * 1024
INPUT_MAX_BYTES = 1024


@dataclass(slots=True)
class Call:
    """One call. `session` is filled in by the guard; the two lists by a handler, if it has to."""

    method: str
    """The path, `/rallypoint.v1.RoomService/Join`."""
    metadata: Mapping[str, str]
    """Request headers, names in lower case, several values joined by ", ". `-bin` stays base64."""
    peer: str
    """The client's IP address; behind a configured proxy the one that the proxy names."""
    deadline: float
    """When the call ends at the latest, on the event loop's clock (`loop.time()`), seconds."""
    trace_parent: str = ""
    """The W3C `traceparent` of this call's span, "" without one."""
    transport: asyncio.BaseTransport | None = None
    """The client's connection, for the span alone; None on the native edge, which hides its own."""
    connection: str = ""
    """On the native edge where it comes from, `ipv4:127.0.0.1:5000`, for the span alone."""
    session: Any = None
    """Who calls: whatever the guard knows of the session."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Response metadata sent before the first message."""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    """Response metadata sent with the status."""


class Outlet(Protocol):
    """The sending end of one server stream. Never blocks; ends by itself when the handler does."""

    @property
    def slot(self) -> int:
        """The place in the fan-out: registered at first use, removed at the end of the stream.

        Raises Aborted `STREAM_CLOSED` when it is first asked for after the end.
        """

    @property
    def closed(self) -> bool:
        """True once the stream has ended or the client has left."""

    @property
    def unsent(self) -> int:
        """Bytes that its connection has not taken yet."""

    def send(self, message: bytes) -> Problem | None:
        """Send one serialized message, in order with those of the fan-out.

        Nothing is dropped: more than `max_pending_bytes` unsent raise ResourceExhausted
        `STREAM_OVERFLOW`. Returns GONE when the stream has ended and the message went nowhere,
        BEHIND when it was sent but others still wait before it.
        """

    def end(self, error: RallypointError | None = None) -> None:
        """End the stream with OK or the error's status and cancel its handler. Idempotent."""

    def abandon(self, *, within_s: float) -> None:
        """After the end: close the connection too if what was written is not read in time."""

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once, at the stream's end, before its slot may be given to another stream.

        The handler itself hears of it later, by its cancellation: whoever pushes to slots must
        forget this one here, or the next client would get its frames.
        """

    async def wait_closed(self) -> None:
        """Wait until the client has left or the stream has ended."""

    async def wait_writable(self) -> None:
        """Wait until the connection takes more (under 64 KiB unsent) or the stream has ended."""


Reply = Message | bytes
UnaryHandler = Callable[[Call, Any], Reply | Awaitable[Reply]]
StreamHandler = Callable[[Call, Any, Outlet], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Standing:
    """What takes further messages like one that was taken, without their handler (`web_drain`)."""

    opening: bytes
    """What they start with."""
    seat: bytes
    """What a node gets in its place."""
    room: Any
    """A room with `node`, `hold`, `rhythm` and `used`, as they are then."""
    until_s: float
    """When it ends, unix time."""


class Express(Protocol):
    """How a method takes the messages that it can serve at once, for calls of a known session.

    It refuses nothing: what it does not recognize goes to the method's handler.
    """

    def recognize(self, session: Any, payload: bytes) -> Any:
        """What a serialized message asks for; None leaves it to the handler. Changes nothing."""

    def carry_out(self, asked: Any, now: float) -> None:
        """Do it, at loop time `now`. The answer is the empty message."""

    def standing(self, session: Any, payload: bytes) -> Standing | None:
        """What may take more of the kind of a recognized message; None: each is asked for."""


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """One message in, one message out."""

    path: str
    request: type[Message]
    response: type[Message]
    handler: UnaryHandler
    max_bytes: int = field(default=MESSAGE_MAX_BYTES, kw_only=True)
    """The largest request message, after decompression."""
    public: bool = field(default=False, kw_only=True)
    """The guard asks for no session."""
    rationed: bool = field(default=False, kw_only=True)
    """Costs us much more than its caller: it has a bucket of its own, a small one."""
    express: Express | None = field(default=None, kw_only=True)
    """Serves plain messages from their bytes."""


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """One message in, many out."""

    path: str
    request: type[Message]
    response: type[Message]
    handler: StreamHandler
    max_bytes: int = field(default=MESSAGE_MAX_BYTES, kw_only=True)
    """The largest request message, after decompression."""
    public: bool = field(default=False, kw_only=True)
    """The guard asks for no session."""
    farewell: bytes = field(default=b"", kw_only=True)
    """A serialized message sent before the gateway itself ends the stream (age, drain)."""


Method = UnaryMethod | StreamMethod


def is_hot(method: Method) -> bool:
    """Tell whether calls come with every tick: such calls have no spans."""
    return isinstance(method, UnaryMethod) and method.express is not None


Guard = Callable[[Call, Method], None]
"""Runs before every handler, in the event loop, never waiting; raises RallypointError to refuse."""
Again = Callable[[Any, UnaryMethod, str, float], bool]
"""Whether a session that the guard let through may pass once more, from an address at a loop time.
False takes from no bucket and says nothing: the guard has to be asked."""


def open_door(call: Call, method: Method) -> None:
    """Let every call pass: the guard of tests and benches."""


class Methods:
    """The methods a gateway serves, by path."""

    def __init__(self, methods: Iterable[Method] = ()) -> None:
        self._by_path: dict[str, Method] = {}
        for method in methods:
            self.add(method)

    def add(self, method: Method) -> None:
        """Register a method; a path can be taken once."""
        if method.path in self._by_path:
            raise ValueError(f"{method.path} is registered twice")
        self._by_path[method.path] = method

    def get(self, path: str) -> Method | None:
        """The method at a path, None when there is none."""
        return self._by_path.get(path)

    def __iter__(self) -> Iterator[Method]:
        return iter(self._by_path.values())

    def services(self) -> list[str]:
        """Full names of the services that have a method here."""
        return sorted({path.rsplit("/", 1)[0].lstrip("/") for path in self._by_path})
