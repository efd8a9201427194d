"""KEDA's external scaler: how many servers a set needs, from what is claimed and played now.

The same arithmetic as the operator's own autoscaling, one policy per trigger. KEDA makes the HPA,
which keeps its pace; `spec.autoscaling` of the set must be left out then, or both would scale.
"""

from __future__ import annotations

import asyncio
import datetime
import math
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio

from rallypoint.fleet.claims import Claims
from rallypoint.fleet.domain import autoscaling
from rallypoint.fleet.domain.autoscaling import Load
from rallypoint.fleet.domain.game_server_set import PERCENT, Capacity, Policy, PolicyType
from rallypoint.fleet.domain.nodes import Registry
from rallypoint.internal.keda import externalscaler_pb2 as keda
from rallypoint.internal.keda import externalscaler_pb2_grpc
from rallypoint.kit import errors, names, waiting
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import SetName

LOOK_S: Final = 1.0
_TYPES: Final[Mapping[str, PolicyType]] = {
    "RoomBuffer": "RoomBuffer", "PlayerBuffer": "PlayerBuffer", "ServerBuffer": "ServerBuffer",
}  # fmt: skip
_MOST_STREAMS: Final = 256

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Trigger:
    """What the metadata of a ScaledObject's trigger ask for."""

    set_name: SetName
    policy: Policy
    rooms_each: int
    """0: what its servers say."""
    players_each: int

    @property
    def metric(self) -> str:
        """The metric's name."""
        return f"rallypoint-{self.set_name}-{self.policy.type.lower()}"


def parse(metadata: Mapping[str, str]) -> Trigger:
    """Read a trigger's metadata; InvalidArgument SCALER_INVALID says what is wrong."""
    name = metadata.get("set", "")
    kind = _TYPES.get(metadata.get("type", "RoomBuffer"))
    buffer = metadata.get("buffer", "")
    if kind is None:
        raise _invalid(f"type is one of {', '.join(_TYPES)}")
    if not re.fullmatch(PERCENT, buffer) or len(buffer) > 8:
        raise _invalid("buffer is a number or a percentage")
    try:
        names.check_name(name, "set")
    except errors.InvalidArgument as error:
        raise _invalid(error.message) from error
    return Trigger(
        SetName(name),
        Policy(name="keda", type=kind, buffer=buffer),
        rooms_each=_count(metadata, "rooms", 0),
        players_each=_count(metadata, "players", Capacity().players),
    )


def _count(metadata: Mapping[str, str], name: str, otherwise: int) -> int:
    text = metadata.get(name, "")
    if not text:
        return otherwise
    if not re.fullmatch(r"[1-9]\d{0,6}", text):
        raise _invalid(f"{name} is a number above 0: what one server holds")
    return int(text)


def _invalid(message: str) -> errors.InvalidArgument:
    return errors.InvalidArgument("SCALER_INVALID", f"metadata of the trigger: {message}")


class ExternalScaler(externalscaler_pb2_grpc.ExternalScalerServicer):
    """See protos/rallypoint/internal/keda/externalscaler.proto."""

    def __init__(
        self, *, claims: Claims, registry: Registry, clock: Clock, stopping: asyncio.Event
    ) -> None:
        self._stopping = stopping
        self._claims = claims
        self._registry = registry
        self._clock = clock
        self._streams = 0

    async def IsActive(
        self, request: keda.ScaledObjectRef, context: Context
    ) -> keda.IsActiveResponse:
        """Tell whether any server is needed."""
        need = await self._need(parse(request.scaler_metadata))
        return keda.IsActiveResponse(result=need > 0)

    async def StreamIsActive(
        self, request: keda.ScaledObjectRef, context: Context
    ) -> AsyncIterator[keda.IsActiveResponse]:
        """Tell it at once and when it changes."""
        trigger, told = parse(request.scaler_metadata), None
        if self._streams >= _MOST_STREAMS:
            raise errors.ResourceExhausted(
                "SCALER_BUSY", "too many watch sets already", retry_after_s=LOOK_S
            )
        self._streams += 1
        try:
            while not self._stopping.is_set():
                active = await self._need(trigger) > 0
                if active != told:
                    told = active
                    yield keda.IsActiveResponse(result=active)
                await waiting.happens(self._stopping, LOOK_S)
        finally:
            self._streams -= 1

    async def GetMetricSpec(
        self, request: keda.ScaledObjectRef, context: Context
    ) -> keda.GetMetricSpecResponse:
        """Name the metric: one of it is one server."""
        trigger = parse(request.scaler_metadata)
        spec = keda.MetricSpec(metric_name=trigger.metric, target_size=1, target_size_float=1.0)
        return keda.GetMetricSpecResponse(metric_specs=[spec])

    async def GetMetrics(
        self, request: keda.GetMetricsRequest, context: Context
    ) -> keda.GetMetricsResponse:
        """Tell how many servers are needed."""
        trigger = parse(request.scaled_object_ref.scaler_metadata)
        need = await self._need(trigger)
        value = keda.MetricValue(
            metric_name=request.metric_name or trigger.metric,
            metric_value=need,
            metric_value_float=float(need),
        )
        return keda.GetMetricsResponse(metric_values=[value])

    async def _need(self, trigger: Trigger) -> int:
        view = await self._claims.view(trigger.set_name)
        seen = self._registry.sightings(trigger.set_name)
        usable = self._registry.usable(trigger.set_name, "", self._clock.monotonic())
        here = [one.node for one in seen]
        silent = {node.place for node in here if not node.draining} - {n.place for n in usable}
        load = Load(
            rooms=sum(view.used.values()),
            unmet=view.unmet,
            players=sum(one.load.players for one in seen),
            occupied_servers=sum(place not in silent for place in view.used),
            lost_servers=len(silent),
            stuck_rooms=sum(view.used.get(place, 0) for place in silent),
        )
        each = trigger.rooms_each or max((node.capacity for node in here), default=0)
        found = autoscaling.need(
            trigger.policy,
            load,
            rooms_each=each or Capacity().rooms,
            players_each=trigger.players_each,
            now=datetime.datetime.fromtimestamp(self._clock.now(), datetime.UTC),
            asked={},
        )
        return math.ceil(found.servers) if found else 0
