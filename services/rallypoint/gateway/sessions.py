"""SessionService: a credential becomes a session, a session is renewed, a session ends.

OpenSession and RefreshSession are public, CloseSession is the caller's. An access token is a JWT
that no server stores (`tokens`); a refresh token is `<family>.<secret>`, of which Redis keeps
only the SHA-256, one hash per family. Each use replaces it; a second use of any token of a family
revokes the family. A client whose answer was lost therefore opens a new session with its
credential, which gives the same player.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rallypoint.gateway import calls
from rallypoint.gateway.domain import identity
from rallypoint.gateway.tokens import AccessTokens, Session
from rallypoint.gateway.tokens_studio import StudioTokens
from rallypoint.kit import errors, keys, metrics, names
from rallypoint.kit.clock import Clock
from rallypoint.kit.store import Store
from rallypoint.v1 import session_pb2

SERVICE = "/rallypoint.v1.SessionService/"
PACKAGE = "rallypoint.gateway"
_MAX_REFRESH_CHARACTERS = 128
_MAX_JWT_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The lives of tokens and the clients that are welcome."""

    access_life_s: float = 900.0
    """Life of an access token."""
    refresh_life_s: float = 30 * 86_400.0
    """Life of a refresh token; each use starts it anew."""
    oldest_builds: tuple[str, ...] = ()
    """`game=build`: older clients get CLIENT_OUTDATED."""

    def oldest(self) -> Mapping[str, str]:
        """The oldest build by game."""
        return dict(entry.split("=", 1) for entry in self.oldest_builds)


class SessionApi:
    """The handlers of SessionService."""

    def __init__(
        self,
        access: AccessTokens,
        studio: StudioTokens,
        store: Store,
        *,
        clock: Clock,
        settings: SessionSettings,
        refused: Callable[[str], None],
    ) -> None:
        self._access = access
        self._studio = studio
        self._clock = clock
        self._settings = settings
        self._oldest = settings.oldest()
        self._refused = refused
        self._open = store.load(PACKAGE, "sessions_open.lua")
        self._rotate = store.load(PACKAGE, "sessions_rotate.lua")
        self._close = store.load(PACKAGE, "sessions_close.lua")

    def methods(self) -> list[calls.Method]:
        """What the edges serve."""
        return [
            calls.UnaryMethod(
                SERVICE + "OpenSession",
                session_pb2.OpenSessionRequest,
                session_pb2.OpenSessionResponse,
                self.open_session,
                max_bytes=8192,
                public=True,
            ),
            calls.UnaryMethod(
                SERVICE + "RefreshSession",
                session_pb2.RefreshSessionRequest,
                session_pb2.RefreshSessionResponse,
                self.refresh_session,
                max_bytes=4096,
                public=True,
            ),
            calls.UnaryMethod(
                SERVICE + "CloseSession",
                session_pb2.CloseSessionRequest,
                session_pb2.CloseSessionResponse,
                self.close_session,
                max_bytes=4096,
            ),
        ]

    async def open_session(
        self, call: calls.Call, request: session_pb2.OpenSessionRequest
    ) -> session_pb2.OpenSessionResponse:
        """Start a session; the same credential gives the same player."""
        names.check_name(request.game, "game")
        identity.check_client(
            game=request.game,
            build=request.build,
            protocol=request.protocol,
            oldest=self._oldest,
        )
        player_id, known_name = await self._credential(call, request)
        name = identity.clean_name(request.display_name or known_name, player_id)
        family, secret = names.new_id(), secrets.token_urlsafe(32)
        await self._open(
            keys=[keys.gw_refresh(family)],
            args=[_hash(secret), self._refresh_ms(), player_id, name],
        )
        metrics.GATEWAY_SESSIONS.labels("opened").inc()
        session = self._session(player_id, name, family, secret)
        return session_pb2.OpenSessionResponse(session=session)

    async def refresh_session(
        self, call: calls.Call, request: session_pb2.RefreshSessionRequest
    ) -> session_pb2.RefreshSessionResponse:
        """Trade a refresh token for a new pair."""
        family, presented = _split(request.refresh_token)
        secret = secrets.token_urlsafe(32)
        verdict, player_id, name = await self._rotate(
            keys=[keys.gw_refresh(family)],
            args=[_hash(presented), _hash(secret), self._refresh_ms()],
        )
        if verdict != b"OK":
            self._refused(call.peer)
            metrics.GATEWAY_SESSIONS.labels("refresh_refused").inc()
            reason = "REFRESH_REUSED" if verdict == b"REUSED" else "REFRESH_UNKNOWN"
            raise errors.Unauthenticated(reason, "please open a new session")
        metrics.GATEWAY_SESSIONS.labels("refreshed").inc()
        session = self._session(player_id.decode(), name.decode(), family, secret)
        return session_pb2.RefreshSessionResponse(session=session)

    async def close_session(
        self, call: calls.Call, request: session_pb2.CloseSessionRequest
    ) -> session_pb2.CloseSessionResponse:
        """Revoke the caller's family. The access token ends by itself within its life."""
        session: Session = call.session
        family, _ = _split(request.refresh_token)
        if not await self._close(keys=[keys.gw_refresh(family)], args=[session.player_id]):
            raise errors.PermissionDenied("SESSION_FOREIGN", "the session is somebody else's")
        metrics.GATEWAY_SESSIONS.labels("closed").inc()
        return session_pb2.CloseSessionResponse()

    async def _credential(
        self, call: calls.Call, request: session_pb2.OpenSessionRequest
    ) -> tuple[str, str]:
        """The player the credential stands for and the name it brings."""
        match request.WhichOneof("credential"):
            case "guest":
                return identity.guest_id(request.guest.device_secret), ""
            case "token":
                return await self._studio_player(call, request.token.jwt)
            case _:
                raise errors.InvalidArgument("CREDENTIAL_MISSING", "send a guest or a token")

    async def _studio_player(self, call: calls.Call, jwt: str) -> tuple[str, str]:
        try:
            if len(jwt) > _MAX_JWT_CHARACTERS:
                raise errors.Unauthenticated("CREDENTIAL_INVALID", "the token is too long")
            issuer, subject, name = await self._studio.verify(jwt)
        except errors.Unauthenticated:
            self._refused(call.peer)
            raise
        return identity.studio_id(issuer, subject), name

    def _session(self, player_id: str, name: str, family: str, secret: str) -> session_pb2.Session:
        token, expires_s = self._access.issue(player_id=player_id, display_name=name, family=family)
        session = session_pb2.Session(
            player_id=player_id,
            display_name=name,
            access_token=token,
            refresh_token=f"{family}.{secret}",
        )
        session.access_expire_time.FromSeconds(int(expires_s))
        refresh_until = self._clock.now() + self._settings.refresh_life_s
        session.refresh_expire_time.FromSeconds(int(refresh_until))
        return session

    def _refresh_ms(self) -> int:
        return int(self._settings.refresh_life_s * 1000)


def _split(token: str) -> tuple[str, str]:
    """Family and secret of a refresh token; Unauthenticated `REFRESH_UNKNOWN` for other texts."""
    family, dot, secret = token.partition(".")
    if not dot or len(token) > _MAX_REFRESH_CHARACTERS or not family.isalnum():
        raise errors.Unauthenticated("REFRESH_UNKNOWN", "please open a new session")
    return family, secret


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
