"""Revisions: a template by the hash of what it says, numbered as they came.

A server names its revision instead of holding the template: ten thousand servers of two templates
are two templates. What makes another server (the template and the rooms it holds) is in it; how the
set is scaled, drained or updated is not, so that changing that replaces nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rallypoint.fleet.domain.game_server_set import GameServerSetSpec
from rallypoint.fleet.domain.workload import Revision

KEPT = 5
FAILED, SINCE = "rallypoint.dev/failed", "rallypoint.dev/newest-since"
_REMEMBERED = 16


def content(spec: GameServerSetSpec) -> dict[str, Any]:
    """Return what a server of this spec is made from."""
    made = {"template": msgspec.to_builtins(spec.template), "rooms": spec.capacity.rooms}
    return {**made, "scheduling": spec.scheduling}


def name(set_name: str, data: Mapping[str, Any], collisions: int = 0) -> str:
    """Return the name of a revision; the same data has the same name."""
    text = msgspec.json.encode([data, collisions], order="deterministic")
    return f"{set_name}-{hashlib.sha256(text).hexdigest()[:10]}"


def newest(known: Sequence[Revision]) -> int:
    """Return the highest number."""
    return max((one.revision for one in known), default=0)


def unused(known: Sequence[Revision], used: set[str]) -> list[Revision]:
    """Return those nobody needs: the last few stay for a look or a way back."""
    old = sorted((r for r in known if r.metadata.name not in used), key=lambda r: r.revision)
    return old[: max(0, len(old) - KEPT)]


def images(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the images of a revision's containers, by container."""
    containers = pod_spec(data).get("containers") or ()
    return {one.get("name", ""): one.get("image", "") for one in containers}


def pod_spec(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pod's spec of a revision."""
    pod = data.get("template", {}).get("spec", {}).get("pod", {})
    found: dict[str, Any] = pod.get("spec") or {}
    return found


def only_images_differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether a pod of `old` becomes one of `new` by other images alone."""
    if images(old).keys() != images(new).keys():
        return False
    return bool(_without_images(old) == _without_images(new))


def _without_images(data: Mapping[str, Any]) -> Any:
    plain = msgspec.json.decode(msgspec.json.encode(data))
    for container in pod_spec(plain).get("containers") or ():
        container.pop("image", None)
    return plain


class Failures(msgspec.Struct, frozen=True):
    """How many servers of a revision failed; the last ones, so that none is counted twice."""

    count: int = 0
    last: tuple[str, ...] = ()

    def with_these(self, uids: Sequence[str]) -> Failures:
        """Count servers that were not counted yet."""
        new = [uid for uid in uids if uid not in self.last]
        return Failures(self.count + len(new), (*self.last, *new)[-_REMEMBERED:])

    def text(self) -> str:
        """Return it as an annotation."""
        return msgspec.json.encode(self).decode()


def failures(revision: Revision) -> Failures:
    """Return what an annotation says; nothing when somebody spoiled it."""
    try:
        return msgspec.json.decode(revision.metadata.annotations.get(FAILED, "{}"), type=Failures)
    except msgspec.MsgspecError:
        return Failures()
