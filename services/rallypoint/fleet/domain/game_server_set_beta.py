"""GameServerSet as v1beta1 had it, and how objects go from one version to the other.

The one difference: `scaleIn.idleSeconds` of v1beta1 is `scaleIn.minIdleSeconds` in v1. Conversion
works on plain JSON values, so that what this program does not know is carried through as it is.
"""

from __future__ import annotations

from typing import Annotated, Any

from rallypoint.fleet.domain.game_server_set import (
    GameServerSet,
    GameServerSetSpec,
    Order,
    ScaleIn,
)
from rallypoint.kube.objects import Object
from rallypoint.kube.schema import Field

GROUP = "rallypoint.dev"
BETA, STABLE = f"{GROUP}/v1beta1", f"{GROUP}/v1"
_BEFORE, _NOW = "idleSeconds", "minIdleSeconds"


class ScaleInBeta(Object, frozen=True, kw_only=True):
    """How empty servers go. An occupied or claimed one is never a candidate."""

    idle_seconds: Annotated[
        int, Field("How long it must have been empty.", minimum=0, maximum=86_400)
    ] = 60
    max_per_step: Annotated[int, Field("At most so many at once.", minimum=1, maximum=1000)] = 100
    order: Annotated[tuple[Order, ...], Field("Which go first.", list_type="set", max_items=5)] = (
        ScaleIn().order
    )


class GameServerSetSpecBeta(GameServerSetSpec, frozen=True, kw_only=True):
    """What is wanted. The operator never writes here but through /scale."""

    scale_in: Annotated[ScaleInBeta, Field("How empty servers go.")] = ScaleInBeta()  # type: ignore[assignment]


class GameServerSetBeta(GameServerSet, frozen=True, kw_only=True):
    """So many game servers of one template."""

    spec: GameServerSetSpecBeta


def convert(item: dict[str, Any], wanted: str) -> dict[str, Any]:
    """Return an object in the wanted version; ValueError where there is no way."""
    have = item.get("apiVersion")
    if have == wanted:
        return item
    if (have, wanted) == (BETA, STABLE):
        return _renamed(item, wanted, _BEFORE, _NOW)
    if (have, wanted) == (STABLE, BETA):
        return _renamed(item, wanted, _NOW, _BEFORE)
    raise ValueError(f"no way from {have} to {wanted}")


def _renamed(item: dict[str, Any], wanted: str, old: str, new: str) -> dict[str, Any]:
    result = {**item, "apiVersion": wanted}
    spec = item.get("spec")
    scale_in = spec.get("scaleIn") if isinstance(spec, dict) else None
    if isinstance(spec, dict) and isinstance(scale_in, dict) and old in scale_in:
        renamed = {new if key == old else key: value for key, value in scale_in.items()}
        result["spec"] = {**spec, "scaleIn": renamed}
    return result
