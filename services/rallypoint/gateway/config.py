"""Settings of the gateway, from the environment (`RALLYPOINT_<FIELD>`, nested ones flattened)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from rallypoint.gateway.admin_access import AdminSettings
from rallypoint.gateway.attach import LinkSettings
from rallypoint.gateway.limits import LimitSettings
from rallypoint.gateway.matchmaking import MatchmakingSettings
from rallypoint.gateway.native import NativeLimits
from rallypoint.gateway.replays import ReplaySettings
from rallypoint.gateway.rooms import RoomSettings
from rallypoint.gateway.rooms_open import OpenRoomSettings
from rallypoint.gateway.rooms_sweep import SweepSettings
from rallypoint.gateway.sessions import SessionSettings
from rallypoint.gateway.web_settings import EdgeSettings
from rallypoint.kit import errors
from rallypoint.kit.runtime import RuntimeSettings

CLUSTER_KEY_BYTES_MIN = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """What a gateway process is told."""

    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    edge: EdgeSettings = field(default_factory=EdgeSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    matchmaking: MatchmakingSettings = field(default_factory=MatchmakingSettings)
    rooms: RoomSettings = field(default_factory=RoomSettings)
    open_rooms: OpenRoomSettings = field(default_factory=OpenRoomSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    replays: ReplaySettings = field(default_factory=ReplaySettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
    link: LinkSettings = field(default_factory=LinkSettings)
    native: NativeLimits = field(default_factory=NativeLimits)

    edge_backend: str = "auto"
    """What writes frames and reads inputs: `c` past the event loop, where it was compiled at
    install, `uv` through it; `auto`: c if there is one."""
    web_host: str = "127.0.0.1"
    """Where browsers come in: gRPC-Web over HTTP/1.1 and the web client's files."""
    web_port: int = 8080
    """0: any free one."""
    reuse_port: bool = False
    """Let several gateways share the web port; the kernel spreads the connections."""
    web_root: Path | None = None
    """The built web client; none: only calls are answered."""
    native_host: str = "127.0.0.1"
    """Where native gRPC comes in, over h2c."""
    native_port: int = 8090
    """0: any free one; below 0: no native gRPC."""
    matchmaking_address: str = "127.0.0.1:9092"
    """Where MatchmakingService listens, host:port."""
    fleet_address: str = "127.0.0.1:9091"
    """Where AllocationService listens, host:port; for rooms that players make."""
    cluster_key: str = ""
    """Hex, at least 32 digits, the same for all gateways: seals stream tokens. Empty: made at
    start, so that a gateway alone works and its stream tokens die with it."""
    signing_key_file: Path | None = None
    """The Ed25519 keys of access tokens (PEM); none: `signing-key.pem` in the data directory,
    made with mode 0600 when absent."""
    jwks_issuers: tuple[str, ...] = ()
    """Studios' identities, each `iss aud algorithm file-or-url`."""
    room_lost_after_s: float = 45.0
    """How long a room's streams wait for a node that its record still names; longer than fleet
    looks for a place for the room."""

    def cluster_key_bytes(self) -> bytes:
        """The key of stream tokens; FailedPrecondition when it is not hex or too short."""
        if not self.cluster_key:
            return secrets.token_bytes(32)
        try:
            key = bytes.fromhex(self.cluster_key)
        except ValueError:
            key = b""
        if len(key) < CLUSTER_KEY_BYTES_MIN:
            raise errors.FailedPrecondition(
                "SETTING_INVALID",
                "RALLYPOINT_CLUSTER_KEY is not a key: set it to 32 or more hex digits",
            )
        return key

    def signing_key_path(self) -> Path:
        """Where the signing keys are."""
        return self.signing_key_file or self.runtime.data_dir / "signing-key.pem"
