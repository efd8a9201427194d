"""From a request's head to the plan for serving it: every check that needs no body.

Order: origin (403), verb (405), then for calls content-type (415), HTTP version (505), method,
grpc-encoding and grpc-timeout. What a gRPC-Web client sent correctly enough to understand an
answer is refused in the body of a 200, so that its status is never hidden by CORS or an HTTP code;
the rest by an HTTP status. A plan belongs to the bytes of a head and serves again when they repeat.
"""

from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty

from rallypoint.gateway import calls, web_metrics
from rallypoint.gateway.domain import (
    buckets,
    grpcweb,
    http_response,
    origin,
    websocket_handshake,
)
from rallypoint.gateway.domain.http_request import Head, Refusal, upgrade_refused
from rallypoint.gateway.static import StaticFiles
from rallypoint.gateway.web_settings import EdgeSettings
from rallypoint.kit import errors, telemetry


@dataclass(slots=True)
class RpcPlan:
    """How to serve calls with one head."""

    method: calls.Method
    metadata: dict[str, str]
    peer: str
    tally: web_metrics.Tally
    mode: grpcweb.Mode = grpcweb.Mode.BINARY
    cors: bytes = b""
    close: bool = False
    head: bytes = b""
    """The response's head as far as it is known."""
    max_body_bytes: int = 0
    gzip: bool = False
    timeout_s: float = 0.0
    """How long the call may take, the client's wish and our limits considered."""
    client_timeout: bool = False
    """The client named the deadline."""
    trace_parent: str = ""
    sampled: bool = False


@dataclass(slots=True)
class ReadyPlan:
    """A response that is known already: a preflight or a file."""

    response: tuple[bytes, ...]
    close: bool
    max_body_bytes: int = 0


@dataclass(slots=True)
class SocketPlan:
    """The connection becomes a WebSocket."""

    response: bytes
    peer: str
    """The client's address, as of calls."""
    max_body_bytes: int = 0


Plan = RpcPlan | ReadyPlan | SocketPlan


class Planner:
    """Judges heads. One per edge; knows no connection."""

    def __init__(
        self, methods: calls.Methods, settings: EdgeSettings, files: StaticFiles | None
    ) -> None:
        self._methods = methods
        self._settings = settings
        self._files = files
        self._origins = origin.Origins(settings.origins)
        self._proxies = buckets.Ranges(settings.proxies)
        self._tallies = {method.path: web_metrics.Tally(method.path) for method in methods}

    def publish(self) -> None:
        """Bring the metrics up to date."""
        for tally in self._tallies.values():
            tally.publish()

    def plan(self, head: Head, peer: str) -> Plan:
        """Return the plan for a head, or raise Refusal."""
        came_from = head.headers.get("origin", "")
        if not self._origins.allows(came_from, head.headers.get("host", "")):
            denied = errors.PermissionDenied("ORIGIN_DENIED", "this origin may not call")
            raise Refusal(403, denied)
        close = not head.keep_alive
        if head.path == websocket_handshake.PATH and head.method == "GET":
            return SocketPlan(websocket_handshake.answer(head), self._address(peer, head.headers))
        if head.upgrade:
            raise upgrade_refused()
        if head.method == "POST":
            return self._call(head, peer, close=close)
        if head.method == "OPTIONS":
            lines = origin.preflight_lines(came_from) if came_from else b"allow: POST, OPTIONS\r\n"
            return ReadyPlan((http_response.head(204, lines, length=None, close=close),), close)
        if head.method in ("GET", "HEAD") and self._methods.get(head.path) is None:
            return self._file(head, close=close)
        raise Refusal(405, errors.Unimplemented("VERB_UNSUPPORTED", "calls are made with POST"))

    def _file(self, head: Head, *, close: bool) -> ReadyPlan:
        if self._files is None:
            raise Refusal(404, errors.NotFound("FILE_UNKNOWN", "there is no such page"))
        parts = self._files.respond(head.path, head.headers, close=close)
        return ReadyPlan(parts[:1] if head.method == "HEAD" else parts, close)

    def _call(self, head: Head, peer: str, *, close: bool) -> RpcPlan:
        headers = head.headers
        mode = grpcweb.mode(headers.get("content-type", ""))
        if mode is None:
            wrong = errors.InvalidArgument("CONTENT_TYPE", "content-type is not grpc-web+proto")
            raise Refusal(415, wrong)
        if head.version != "1.1":
            raise Refusal(505, errors.Unimplemented("HTTP_VERSION", "calls need HTTP/1.1"))
        cors = origin.allow_lines(headers.get("origin", ""))
        plan = self._unchecked(head.path, headers, self._address(peer, headers))
        unary = not isinstance(plan.method, calls.StreamMethod)
        shape = http_response.unary_head if unary else http_response.stream_head
        plan.mode = mode
        plan.cors = cors
        plan.close = close
        plan.head = shape(mode, cors, close=close)
        plan.max_body_bytes = grpcweb.body_limit(plan.method.max_bytes, mode)
        try:
            self._complete(plan, headers)
        except errors.RallypointError as error:
            raise Refusal(200, error, plan=plan) from None
        return plan

    def within(self, path: str, headers: dict[str, str], peer: str) -> RpcPlan:
        """The plan for a call within a WebSocket; Refusal when it cannot be served."""
        plan = self._unchecked(path, headers, peer)
        try:
            self._complete(plan, headers)
        except errors.RallypointError as error:
            raise Refusal(200, error, plan=plan) from None
        return plan

    def _unchecked(self, path: str, headers: dict[str, str], peer: str) -> RpcPlan:
        return RpcPlan(
            method=self._methods.get(path) or _UNKNOWN,
            metadata=headers,
            peer=peer,
            tally=self._tallies.get(path, web_metrics.UNKNOWN),
        )

    def _complete(self, plan: RpcPlan, headers: dict[str, str]) -> None:
        if plan.method is _UNKNOWN:
            raise errors.Unimplemented("METHOD_UNKNOWN", "there is no such method")
        plan.gzip = grpcweb.is_gzip(headers.get("grpc-encoding", ""))
        plan.timeout_s, plan.client_timeout = self._timeout(plan, headers.get("grpc-timeout", ""))
        if trace_parent := headers.get("traceparent", ""):
            plan.trace_parent = telemetry.edge_parent(trace_parent)
            plan.sampled = plan.trace_parent.endswith("01") and not calls.is_hot(plan.method)

    def _timeout(self, plan: RpcPlan, wish: str) -> tuple[float, bool]:
        settings = self._settings
        if isinstance(plan.method, calls.StreamMethod):
            default = cap = settings.stream_timeout_cap_s
        else:
            default, cap = settings.unary_timeout_s, settings.unary_timeout_cap_s
        if not wish:
            return default, False
        wished = grpcweb.parse_timeout(wish)
        return (wished, True) if wished < cap else (cap, False)

    def _address(self, peer: str, headers: dict[str, str]) -> str:
        forwarded = headers.get("x-forwarded-for", "")
        return buckets.client_address(peer, forwarded, self._proxies) if forwarded else peer


def _never(call: calls.Call, message: object) -> bytes:
    raise errors.Unimplemented("METHOD_UNKNOWN", f"there is no {call.method}")


_UNKNOWN = calls.UnaryMethod("unknown", Empty, Empty, _never, public=True)
