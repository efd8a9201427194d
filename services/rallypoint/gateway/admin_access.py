"""Who is an operator: whoever shows the admin token, or a studio's JWT with the admin claim.

Without either in the settings nobody is, and AdminService is not served at all.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rallypoint.gateway import calls
from rallypoint.gateway.tokens_studio import StudioTokens
from rallypoint.kit import errors

TOKEN_CHARACTERS_MIN = 16
_BEARER = "Bearer "


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Who may see and end what runs. Empty: nobody."""

    admin_token: str = field(default="", repr=False)
    """A secret of at least 16 characters that operators show."""
    admin_token_file: Path | None = None
    """A file that holds it, instead."""
    admin_claim: str = ""
    """`name=value`: a claim that makes a studio's JWT an operator's; a list may contain the
    value. The issuer must be one of RALLYPOINT_JWKS_ISSUERS."""

    def token(self) -> str:
        """The token; FailedPrecondition when it cannot be read or is too short."""
        token = self.admin_token
        if self.admin_token_file is not None:
            try:
                token = self.admin_token_file.read_text().strip()
            except OSError as error:
                raise _invalid("ADMIN_TOKEN_FILE cannot be read") from error
        if token and len(token) < TOKEN_CHARACTERS_MIN:
            raise _invalid(f"ADMIN_TOKEN is shorter than {TOKEN_CHARACTERS_MIN} characters")
        return token

    def claim(self) -> tuple[str, str]:
        """Name and value of the claim, both empty without one."""
        name, equals, value = self.admin_claim.partition("=")
        if self.admin_claim and not (name and equals and value):
            raise _invalid("ADMIN_CLAIM is not name=value")
        return name, value


class Operators:
    """Tells operators from others. `refused` is told the address of who is none."""

    def __init__(
        self, settings: AdminSettings, studio: StudioTokens, *, refused: Callable[[str], None]
    ) -> None:
        self._token = settings.token().encode()
        self._claim, self._value = settings.claim()
        self._studio = studio
        self._refused = refused

    @property
    def exist(self) -> bool:
        """Whether anybody may be one."""
        return bool(self._token or self._claim)

    async def check(self, call: calls.Call) -> None:
        """Let an operator's call pass; Unauthenticated ADMIN_ONLY for all others."""
        header = call.metadata.get("authorization", "")
        shown = header.removeprefix(_BEARER) if header.startswith(_BEARER) else ""
        if self._token and hmac.compare_digest(shown.encode(), self._token):
            return
        if self._claim and shown.count(".") == 2 and await self._has_claim(shown):
            return
        self._refused(call.peer)
        raise errors.Unauthenticated("ADMIN_ONLY", "this is for operators")

    async def _has_claim(self, token: str) -> bool:
        try:
            claims: Mapping[str, Any] = await self._studio.claims(token)
        except errors.Unauthenticated:
            return False
        found = claims.get(self._claim)
        return self._value in found if isinstance(found, list) else found == self._value


def _invalid(message: str) -> errors.FailedPrecondition:
    return errors.FailedPrecondition("SETTING_INVALID", f"RALLYPOINT_{message}")
