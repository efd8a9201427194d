"""How players speak, by the scheme of the address that they are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Way:
    """One way in."""

    transport: str
    """As the tables of a run call it."""
    port: int
    """Where an address names none."""


WAYS: Final[Mapping[str, Way]] = {
    "http": Way("grpc-web", 80),
    "https": Way("grpc-web", 443),
    "ws": Way("websocket", 80),
    "wss": Way("websocket", 443),
    "grpc": Way("native", 80),
    "grpcs": Way("native", 443),
}


def transport(url: str) -> str:
    """The transport of an address; what names no way is taken as a page's, and fails as such."""
    return WAYS.get(url.partition("://")[0], WAYS["http"]).transport


def transports(url: str, native: str, native_share: float) -> frozenset[str]:
    """Those that a run was asked for."""
    more = [native] if native and native_share > 0 else []
    return frozenset(map(transport, [url, *more]))
