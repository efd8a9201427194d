"""The gateway's backends that can run here; each is a parameter of the same tests."""

from __future__ import annotations

import os

from rallypoint.gateway import fanout

VARIABLE = "RALLYPOINT_EDGE_BACKEND"


def backends() -> list[str]:
    """The names; `c` only where it was compiled."""
    return [name for name in fanout.BACKENDS if name != "c" or fanout.is_compiled()]


def chosen() -> str:
    """The one that the environment names, as for a gateway."""
    return os.environ.get(VARIABLE, fanout.AUTO)
