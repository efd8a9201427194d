"""What is wrong with a set that no schema can tell: said to whoever applies it, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from rallypoint.fleet.domain import autoscaling, cron
from rallypoint.fleet.domain.game_server_set import GameServerSet, Schedule

OURS = "rallypoint.dev/"


@dataclass(frozen=True, slots=True)
class Review:
    """Errors forbid, warnings are shown."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def review(item: GameServerSet) -> Review:
    """Return what is to be said about a set."""
    return Review(tuple(_errors(item)), tuple(_warnings(item)))


def _errors(item: GameServerSet) -> Iterator[str]:
    template, scaling = item.spec.template, item.spec.autoscaling
    containers: Any = (template.spec.pod.get("spec") or {}).get("containers") or ()
    names = [one.get("name") for one in containers if isinstance(one, dict)]
    if not names:
        yield "spec.template.spec.pod.spec.containers is empty: a server needs a container"
    elif template.spec.container and template.spec.container not in names:
        yield (
            f"spec.template.spec.container is {template.spec.container!r}, the pod has "
            f"{', '.join(map(str, names))}"
        )
    labels = {**template.metadata.labels, **template.metadata.annotations}
    for name in sorted(labels):
        if name.startswith(OURS):
            yield f"spec.template.metadata has {name}: names under {OURS} are the operator's"
    for policy in scaling.policies if scaling else ():
        if policy.schedule is not None and (trouble := _trouble(policy.schedule)):
            yield f"spec.autoscaling.policies[{policy.name}].schedule: {trouble}"


def _trouble(schedule: Schedule) -> str:
    try:
        cron.parse(schedule.cron)
        ZoneInfo(schedule.time_zone)
        autoscaling.duration(schedule.duration)
    except (ValueError, OSError, KeyError) as error:
        return str(error)
    return ""


def _warnings(item: GameServerSet) -> Iterator[str]:
    spec = item.spec
    if spec.replicas is not None and spec.autoscaling is not None:
        yield "spec.replicas is autoscaling's to write: leave it out of the manifest"
    for entry in spec.reserved_ordinals:
        first, _, last = entry.partition("-")
        if last and int(last) < int(first):
            yield f"spec.reservedOrdinals: {entry} runs backwards and reserves nothing"
    for port in spec.template.spec.ports:
        if port.policy in ("Dynamic", "Passthrough"):
            yield f"port {port.name}: policy {port.policy} is not supported yet, nothing is opened"
