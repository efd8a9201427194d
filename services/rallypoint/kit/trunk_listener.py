"""Where trunks arrive (`trunk`): each offered to one peer by a token that opens it once.

    listener = TrunkListener()
    port = await listener.listen(host, 0)
    offer = listener.offer(opened)              # goes to the peer over gRPC
    listener.withdraw(offer)                    # no longer wanted; idempotent

A connection has `HANDSHAKE_S` to say a token that was offered and not yet used, and nothing behind
it; anything else ends it. So many may be at it at once, more are turned away: a peer that finds no
way in stays with gRPC.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from rallypoint.kit import errors, metrics, rpc
from rallypoint.kit.trunk import HANDSHAKE_S, MESSAGE_BYTES_MAX, TOKEN_BYTES, Trunk, watch_peer

logger = logging.getLogger(__name__)

OFFER_S: Final = 10.0
"""How long an offer stands."""
UNPROVEN_MAX: Final = 64
"""Connections that have not said their token yet."""

Opened = Callable[[Trunk], None]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a peer must know to open its trunk."""

    port: int
    token: bytes = field(repr=False)


class TrunkListener:
    """Takes trunks in."""

    def __init__(
        self, *, message_bytes_max: int = MESSAGE_BYTES_MAX, handshake_s: float = HANDSHAKE_S
    ) -> None:
        self.handshake_s = handshake_s
        self._message_bytes_max = message_bytes_max
        self._offers: dict[bytes, tuple[Opened, asyncio.TimerHandle]] = {}
        self._unproven: set[_Arrival] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def is_open(self) -> bool:
        """Whether trunks can arrive."""
        return self._server is not None

    async def listen(self, host: str, port: int) -> int:
        """Take connections at `port` (0: any free one), as `rpc.secure` said; the port.

        Raises Unavailable PORT_IN_USE when it cannot be bound.
        """
        tls = rpc.mutual_tls()
        secured: dict[str, Any] = {}
        if tls is not None:
            secured = {"ssl": tls.serving, "ssl_handshake_timeout": self.handshake_s}
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Arrival(self), host.strip("[]"), port, **secured
            )
        except OSError as error:
            raise errors.Unavailable("PORT_IN_USE", f"cannot listen on {host}:{port}") from error
        self._port = self._server.sockets[0].getsockname()[1]
        return self._port

    def offer(self, opened: Opened) -> Offer:
        """Let one trunk in; `opened` is called with it once it came."""
        token = secrets.token_bytes(TOKEN_BYTES)
        expiry = asyncio.get_running_loop().call_later(OFFER_S, self._offers.pop, token, None)
        self._offers[token] = (opened, expiry)
        return Offer(self._port, token)

    def withdraw(self, offer: Offer) -> None:
        """Take an offer back, if it still stands."""
        if found := self._offers.pop(offer.token, None):
            found[1].cancel()

    def close(self) -> None:
        """Take no more; trunks that are open go on."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for arrival in tuple(self._unproven):
            arrival.refuse("closing")

    def arrived(self, arrival: _Arrival) -> None:
        """Judge a new connection."""
        self._unproven.add(arrival)
        if len(self._unproven) > UNPROVEN_MAX:
            arrival.refuse("crowded")

    def prove(self, arrival: _Arrival, said: bytes) -> None:
        """Judge what it said first; a token is good once."""
        found = self._offers.pop(said, None)
        if found is None:
            arrival.refuse("token")
            return
        opened, expiry = found
        expiry.cancel()
        opened(Trunk(arrival.proven(), message_bytes_max=self._message_bytes_max))

    def gone(self, arrival: _Arrival) -> None:
        """Forget a connection that has proved itself or is over."""
        self._unproven.discard(arrival)


class _Arrival(asyncio.Protocol):
    """A connection that has not said its token yet."""

    def __init__(self, listener: TrunkListener) -> None:
        self._listener = listener
        self._said = b""
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Give it its time."""
        self._transport = transport
        watch_peer(transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._listener.handshake_s, self.refuse, "late")
        self._listener.arrived(self)

    def data_received(self, data: bytes) -> None:
        """Collect the token. The peer says nothing else before it was told that we took it."""
        self._said += data
        if len(self._said) >= TOKEN_BYTES:
            self._listener.prove(self, self._said)

    def connection_lost(self, error: Exception | None) -> None:
        """It gave up, or was refused."""
        self._over()

    def proven(self) -> asyncio.Transport:
        """Give the connection away."""
        assert self._transport is not None
        self._over()
        return self._transport

    def refuse(self, cause: str) -> None:
        """End it without a word."""
        metrics.TRUNKS_REFUSED.labels(cause).inc()
        logger.info("trunk_refused", extra={"cause": cause})
        self._over()
        if self._transport is not None:
            self._transport.abort()

    def _over(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._listener.gone(self)
