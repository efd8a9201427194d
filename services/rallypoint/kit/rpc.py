"""Internal gRPC: one way to make servers and channels, one place where errors become statuses.

A handler raises `kit.errors`; the caller sees the canonical code, the message, and a
google.rpc.Status in `grpc-status-details-bin`. Anything else that a handler raises is logged and
becomes INTERNAL with the trace id in the metadata. Stream handlers must be async generators:
`context.read/write` handlers break under tracing. Every server answers `grpc.health.v1.Health` from
`kit.health`. Once `secure` was called, all internal servers and channels of the process speak
mutual TLS: it is one switch, like tracing, so that no caller can forget it; what clients see
(`listen_plain`, `plain_channel`) stays as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio

from rallypoint.kit import addresses, errors, health, rpc_interceptor, rpc_trace, status, telemetry
from rallypoint.kit.names import PlayerId
from rallypoint.kit.security import MutualTls

PLAYER_ID = "rallypoint-player-id"
"""Metadata: who calls, set by the gateway after it verified the session. Trusted inside only."""
DISPLAY_NAME = "rallypoint-display-name-bin"
"""Metadata: the caller's shown name, UTF-8 bytes."""
DETAILS = "grpc-status-details-bin"

Options = Sequence[tuple[str, int | str]]

_KEEPALIVE: Options = (
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)
_SERVER: Options = (*_KEEPALIVE, ("grpc.so_reuseport", 0))
_CHANNEL: Options = (
    *_KEEPALIVE,
    # A peer that restarts is back within a second; the default back-off would wait up to 120.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Retries are ours to decide: they need the request_id of the call.
    ("grpc.enable_retries", 0),
)

_tls: MutualTls | None = None


class Host(Protocol):
    """What a server needs of its process; `kit.runtime.Runtime` is one."""

    @property
    def health(self) -> health.Health:
        """Say what the process says about itself."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the gateway verified it."""

    player_id: PlayerId
    display_name: str


def make_server(host: Host, *, options: Options = ()) -> grpc.aio.Server:
    """Return a server with our interceptors and health; add servicers, `listen`, then `start()`."""
    server = grpc.aio.server(
        interceptors=[*telemetry.server_interceptors(), rpc_interceptor.ErrorInterceptor()],
        options=[*_SERVER, *options],
    )
    rpc_interceptor.add_health(server, host.health)
    return server


def secure(tls: MutualTls | None) -> None:
    """Have `listen` and `channel` speak mutual TLS from now on; None: plaintext."""
    global _tls
    _tls = tls


def mutual_tls() -> MutualTls | None:
    """Return what `secure` said, for internal connections that are not gRPC's."""
    return _tls


def listen(server: grpc.aio.Server, host: str, port: int) -> int:
    """Bind an internal server, as `secure` said; return the port (`port` 0: any free one).

    Raises Unavailable PORT_IN_USE when it cannot be bound.
    """
    if _tls is None:
        return listen_plain(server, host, port)
    credentials = grpc.ssl_server_credentials(
        [(_tls.key, _tls.cert)], root_certificates=_tls.ca, require_client_auth=True
    )
    try:
        return server.add_secure_port(addresses.joined(host, port), credentials)
    except RuntimeError as error:
        raise _in_use(host, port) from error


def listen_plain(server: grpc.aio.Server, host: str, port: int) -> int:
    """Bind a server that clients call, in plaintext; else as `listen`."""
    try:
        return server.add_insecure_port(addresses.joined(host, port))
    except RuntimeError as error:
        raise _in_use(host, port) from error


def _in_use(host: str, port: int) -> errors.Unavailable:
    return errors.Unavailable("PORT_IN_USE", f"cannot listen on {addresses.joined(host, port)}")


def channel(address: str, *, name: str, options: Options = ()) -> grpc.aio.Channel:
    """Return a channel to an internal server (host:port), as `secure` said.

    `name` says who calls, in the user agent.
    """
    if _tls is None:
        return plain_channel(address, name=name, options=options)
    credentials = grpc.ssl_channel_credentials(_tls.ca, _tls.key, _tls.cert)
    named: Options = ()
    if _tls.server_name:
        named = (("grpc.ssl_target_name_override", _tls.server_name),)
    made = grpc.aio.secure_channel(
        address,
        credentials,
        options=[*_channel_options(name), *named, *options],
        interceptors=telemetry.client_interceptors(),
    )
    return _traced(made)


def plain_channel(address: str, *, name: str, options: Options = ()) -> grpc.aio.Channel:
    """Return a channel without TLS, as players' programs make one; else as `channel`."""
    made = grpc.aio.insecure_channel(
        address,
        options=[*_channel_options(name), *options],
        interceptors=telemetry.client_interceptors(),
    )
    return _traced(made)


def public_channel(address: str, *, name: str, roots: bytes | None = None) -> grpc.aio.Channel:
    """Return a channel over TLS to a server that a CA vouches for, as players' programs make one.

    `roots` are CAs as PEM; without them those that gRPC comes with.
    """
    made = grpc.aio.secure_channel(
        address,
        grpc.ssl_channel_credentials(roots),
        options=_channel_options(name),
        interceptors=telemetry.client_interceptors(),
    )
    return _traced(made)


def _traced(made: grpc.aio.Channel) -> grpc.aio.Channel:
    return made if telemetry.enabled() else rpc_trace.HandingOn(made)


def _channel_options(name: str) -> Options:
    return (*_CHANNEL, ("grpc.primary_user_agent", f"rallypoint-{name}"))


def to_error(error: grpc.aio.AioRpcError) -> errors.RallypointError:
    """Return our error for a failed call: from its details when it has them, else from its code."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS and isinstance(value, bytes):
            return status.from_details(value)
    code: int = error.code().value[0]
    name = error.code().name
    return errors.from_code(code, name, error.details() or "")


@contextlib.asynccontextmanager
async def calling() -> AsyncIterator[None]:
    """Raise what a call inside fails with as our error.

    Closing a channel cancels its calls, and these say so as if their task were cancelled: where
    nobody cancelled that it is Unavailable, or a worker would end without a word.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise to_error(error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise errors.Unavailable("CHANNEL_CLOSED", "the channel was closed meanwhile") from error


def caller(context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
    """Return who calls, or raise Unauthenticated CALLER_UNKNOWN when the gateway did not say."""
    player_id, display_name = "", ""
    for key, value in context.invocation_metadata() or ():
        if key == PLAYER_ID and isinstance(value, str):
            player_id = value
        elif key == DISPLAY_NAME and isinstance(value, bytes):
            display_name = value.decode("utf-8", "replace")
    if not player_id:
        raise errors.Unauthenticated("CALLER_UNKNOWN", "the call names no player")
    return Caller(PlayerId(player_id), display_name)


def remaining_s(context: grpc.aio.ServicerContext[Any, Any], cap_s: float) -> float:
    """Return how long the caller still waits, at most `cap_s`."""
    left = context.time_remaining()
    return cap_s if left is None else max(0.0, min(cap_s, left))
