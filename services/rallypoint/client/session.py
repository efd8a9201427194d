"""A player's session: opened once, its access token renewed before it ends.

async with session.connect("http://127.0.0.1:8080", name="Ada", game="skirmish") as player:
    player.player_id, await player.token()
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncIterator
from importlib import metadata

from rallypoint.client import channel as channels
from rallypoint.kit.clock import Clock, SystemClock
from rallypoint.v1 import session_pb2

SERVICE = "/rallypoint.v1.SessionService"
PROTOCOL = 1
RENEW_BEFORE_S = 60.0


class Session:
    """Whom the calls of a channel are made for."""

    def __init__(
        self, channel: channels.Channel, opened: session_pb2.Session, *, clock: Clock
    ) -> None:
        self.channel = channel
        self._clock = clock
        self._renewing = asyncio.Lock()
        self._session = opened

    @classmethod
    async def open(
        cls,
        channel: channels.Channel,
        *,
        game: str,
        name: str = "",
        device_secret: bytes = b"",
        clock: Clock | None = None,
    ) -> Session:
        """Open a guest session; the same device secret (16 to 64 bytes) gives the same player."""
        request = session_pb2.OpenSessionRequest(
            guest=session_pb2.GuestCredential(
                device_secret=device_secret or secrets.token_bytes(32)
            ),
            display_name=name,
            game=game,
            build=_build(),
            protocol=PROTOCOL,
        )
        answer = await channels.call(
            channel,
            f"{SERVICE}/OpenSession",
            request,
            answer=session_pb2.OpenSessionResponse,
        )
        return cls(channel, answer.session, clock=clock or SystemClock())

    @property
    def player_id(self) -> str:
        """The stable id."""
        return self._session.player_id

    @property
    def display_name(self) -> str:
        """The name as others see it."""
        return self._session.display_name

    @property
    def access_token(self) -> str:
        """The present access token, whether or not it is about to end."""
        return self._session.access_token

    async def token(self) -> str:
        """An access token that is good for a while yet."""
        if self._ends_soon():
            async with self._renewing:
                if self._ends_soon():
                    await self.refresh()
        return self._session.access_token

    async def refresh(self) -> None:
        """Trade the refresh token, which works once, for a new pair."""
        answer = await channels.call(
            self.channel,
            f"{SERVICE}/RefreshSession",
            session_pb2.RefreshSessionRequest(refresh_token=self._session.refresh_token),
            answer=session_pb2.RefreshSessionResponse,
        )
        self._session = answer.session

    async def close(self) -> None:
        """Revoke the session's refresh tokens."""
        await channels.call(
            self.channel,
            f"{SERVICE}/CloseSession",
            session_pb2.CloseSessionRequest(refresh_token=self._session.refresh_token),
            answer=session_pb2.CloseSessionResponse,
            token=self._session.access_token,
        )

    def _ends_soon(self) -> bool:
        end_s = self._session.access_expire_time.ToNanoseconds() / 1e9
        return end_s - self._clock.now() < RENEW_BEFORE_S


@functools.cache
def _build() -> str:
    return metadata.version("rallypoint")


@contextlib.asynccontextmanager
async def connect(
    url: str, *, game: str, name: str = "", device_secret: bytes = b""
) -> AsyncIterator[Session]:
    """A session on a channel of its own, both closed at the end."""
    channel = channels.open_channel(url)
    try:
        yield await Session.open(channel, name=name, game=game, device_secret=device_secret)
    finally:
        await channel.close()
