"""HTTP/1.1 requests: bytes in, judged requests out.

    parser = RequestParser(limits, judge)
    parser.feed(data)                      # may raise Refusal; what came before it is in `ready`
    while parser.ready: serve(parser.ready.popleft())

`judge(head)` sees every complete head before any of its body is taken, and returns the plan for it
or raises Refusal. The plan says how long the body may be. After a Refusal the parser is of no more
use: the connection is answered and closed, so no smuggled bytes are ever read as a request.

A client repeats its head byte for byte on a connection. Such a hot head is compared, not parsed:
it has its plan already, and the same content-length. Parsing is httptools (llhttp, as in Node.js).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import httptools

from rallypoint.kit import errors

_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one request, and the requests waiting on one connection, may take."""

    max_header_bytes: int = 16 * 1024
    """Request line and header fields together."""
    max_header_fields: int = 64
    """Header fields."""
    max_pipelined: int = 16
    """Requests that may arrive before the one being served is answered."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head. Header names are lower case; repeated ones are joined by ", "."""

    method: str
    target: str
    headers: dict[str, str]
    version: str
    keep_alive: bool
    upgrade: bool = False
    """The client asks to speak WebSocket from here on."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


class Plan(Protocol):
    """What a judge returns: how the request will be served."""

    @property
    def max_body_bytes(self) -> int:
        """The longest body that may follow."""


class Refusal(Exception):
    """A request that will not be served. `http_status` and the error say why; then we close."""

    def __init__(
        self, http_status: int, error: errors.RallypointError, *, plan: Plan | None = None
    ) -> None:
        super().__init__(http_status, error)
        self.http_status = http_status
        self.error = error
        self.plan = plan


Judge = Callable[[Head], Plan]


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request."""

    plan: Plan
    body: bytes


@dataclass(slots=True)
class Hot:
    """The last head of this connection and how long a request with it is."""

    head: bytes
    length: int
    plan: Plan


@dataclass(slots=True)
class _Partial:
    """The request being received."""

    target: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    fields: int = 0
    field_bytes: int = 0
    plan: Plan | None = None
    body: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    counted: int = 0
    """Bytes of its head so far; then of what has come without any of its body, as trailers do."""
    counted_at: int = -1
    """`body_bytes` when counting began; -1: its head is not complete."""


class RequestParser:
    """The parser of one connection. The `on_…` methods are called by httptools."""

    def __init__(self, limits: HttpLimits, judge: Judge) -> None:
        self.ready: deque[Request] = deque()
        self._limits = limits
        self._judge = judge
        self._parser = httptools.HttpRequestParser(self)
        self._partial: _Partial | None = None
        self._refusal: Refusal | None = None
        self._hot: Hot | None = None
        self._completed = 0
        self._beyond: bytes | None = None

    @property
    def beyond(self) -> bytes | None:
        """What followed the last request if that asked for an upgrade: not HTTP any more."""
        return self._beyond

    @property
    def between(self) -> bool:
        """True while no request is partly received."""
        return self._partial is None

    @property
    def at_rest(self) -> bool:
        """True while nothing is partly received and nothing received waits to be served."""
        return self._partial is None and not self.ready

    @property
    def hot(self) -> Hot | None:
        """The head that would be known again."""
        return self._hot

    @property
    def wants_continue(self) -> bool:
        """True when the client waits for a 100 before it sends the body of an accepted head."""
        partial = self._partial
        return (
            partial is not None
            and partial.plan is not None
            and not partial.body
            and partial.headers.get("expect", "").lower() == "100-continue"
        )

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection. Raises Refusal."""
        hot = self._hot
        if hot is not None and self._partial is None:
            if len(data) == hot.length and data.startswith(hot.head):
                if len(self.ready) >= self._limits.max_pipelined:
                    raise _too_far_ahead()
                self.ready.append(Request(hot.plan, data[len(hot.head) :]))
                return
            self._hot = None
        whole = self._partial is None
        self._completed = 0
        self._parse(data)
        if whole and self._completed == 1 and self._partial is None and self._beyond is None:
            self._remember(data)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._refusal is not None or self._beyond is not None:
                raise self._refusal or malformed() from None
            self._beyond = data[upgrade.args[0] :]
        except httptools.HttpParserError as parse_error:
            raise self._refusal or malformed() from parse_error
        if self._refusal is not None:
            raise self._refusal
        if self._partial is not None:
            self._count(self._partial, len(data))

    def _count(self, partial: _Partial, size: int) -> None:
        """Bound what the library keeps of a field before it shows it to us, in trailers too."""
        if partial.plan is not None and partial.body_bytes > partial.counted_at:
            partial.counted, partial.counted_at = 0, partial.body_bytes
        # What follows a request in the same read is not counted: its offset is not known.
        elif not self._completed:
            partial.counted += size
        if partial.counted > self._limits.max_header_bytes:
            raise _head_too_large()

    def _remember(self, data: bytes) -> None:
        """Keep the head if `data` was exactly one request whose body has a content-length."""
        request = self.ready[-1]
        head = data[: len(data) - len(request.body)]
        if head.endswith(_END_OF_HEAD) and head.find(_END_OF_HEAD) == len(head) - 4:
            self._hot = Hot(head, len(data), request.plan)

    def _refuse(self, refusal: Refusal) -> None:
        self._refusal = self._refusal or refusal
        raise refusal

    def on_message_begin(self) -> None:
        """Start a request."""
        if len(self.ready) >= self._limits.max_pipelined:
            self._refuse(_too_far_ahead())
        self._partial = _Partial()

    def on_url(self, url: bytes) -> None:
        """Take (a part of) the target."""
        partial = self._taken(len(url))
        partial.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header field."""
        partial = self._taken(len(name) + len(value) + 4)
        partial.fields += 1
        if partial.fields > self._limits.max_header_fields:
            error = errors.ResourceExhausted("HEADER_FIELDS", "the request has too many headers")
            self._refuse(Refusal(431, error))
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        known = partial.headers.get(key)
        partial.headers[key] = text if known is None else f"{known}, {text}"

    def _taken(self, size: int) -> _Partial:
        partial = self._partial
        if partial is None:  # httptools calls on_message_begin first
            raise RuntimeError("a header outside of a request")
        partial.field_bytes += size
        if partial.field_bytes > self._limits.max_header_bytes:
            self._refuse(_head_too_large())
        return partial

    def on_headers_complete(self) -> None:
        """Have the head judged."""
        partial = self._taken(0)
        parser = self._parser
        upgrade = parser.should_upgrade()
        if upgrade and (self.ready or partial.headers.get("upgrade", "").lower() != "websocket"):
            self._refuse(upgrade_refused())
        head = Head(
            method=parser.get_method().decode("latin-1"),
            target=partial.target.decode("latin-1"),
            headers=partial.headers,
            version=parser.get_http_version(),
            keep_alive=parser.should_keep_alive(),
            upgrade=upgrade,
        )
        try:
            partial.plan = self._judge(head)
        except Refusal as refusal:
            self._refuse(refusal)
        length = partial.headers.get("content-length", "")
        if length.isdigit() and partial.plan is not None:
            self._check_body(int(length), partial.plan)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        partial = self._taken(0)
        if partial.plan is None:
            raise RuntimeError("a body before its head")
        partial.body_bytes += len(body)
        self._check_body(partial.body_bytes, partial.plan)
        partial.body.append(body)

    def _check_body(self, size: int, plan: Plan) -> None:
        if size > plan.max_body_bytes:
            error = errors.ResourceExhausted(
                "MESSAGE_TOO_LARGE", f"the body is larger than {plan.max_body_bytes} bytes"
            )
            self._refuse(Refusal(413, error, plan=plan))

    def on_message_complete(self) -> None:
        """Hand the request over."""
        partial = self._taken(0)
        if partial.plan is None:
            raise RuntimeError("a request without a head")
        body = partial.body[0] if len(partial.body) == 1 else b"".join(partial.body)
        self._partial = None
        self._completed += 1
        self.ready.append(Request(partial.plan, body))


def upgrade_refused() -> Refusal:
    """Return the refusal of a protocol that is not spoken at this path."""
    error = errors.InvalidArgument("UPGRADE_REFUSED", "only plain HTTP/1.1 is spoken here")
    return Refusal(400, error)


def malformed() -> Refusal:
    """Return the refusal of bytes that are not HTTP."""
    return Refusal(400, errors.InvalidArgument("HTTP_MALFORMED", "the request cannot be parsed"))


def _too_far_ahead() -> Refusal:
    return Refusal(429, errors.ResourceExhausted("PIPELINE_LIMIT", "too many requests in advance"))


def _head_too_large() -> Refusal:
    return Refusal(431, errors.ResourceExhausted("HEADER_BYTES", "the request's head is too large"))
