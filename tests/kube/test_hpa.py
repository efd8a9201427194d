"""The HPA of a real controller manager scales a set through /scale, and finds its pods."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.kube.conftest import Fleets, Runs
from tests.kube.fleet_stack import Fleet


def _hpa(fleet: Fleet, *, least: int, most: int) -> dict[str, Any]:
    target = {"apiVersion": "rallypoint.dev/v1", "kind": "GameServerSet", "name": fleet.name}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": fleet.name, "namespace": fleet.namespace},
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": cpu}],
        },
    }


async def _conditions(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """What the HPA says of itself: status and reason, by type."""
    words = ("-n", fleet.namespace, "get", "hpa", fleet.name, "-o", "json")
    found = json.loads(await asyncio.to_thread(fleet.cluster.does, *words))
    conditions = found.get("status", {}).get("conditions") or ()
    return {one["type"]: (one["status"], one["reason"]) for one in conditions}


def test_an_hpa_scales_a_set_and_reads_its_selector(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator()
            await fleet.apply(replicas=1)
            await fleet.ready(1)
            await fleet.until(lambda: bool(fleet.status("selector")), "the selector")
            item = json.dumps(_hpa(fleet, least=3, most=4))
            await asyncio.to_thread(fleet.cluster.does, "apply", "-f", "-", stdin=item)
            await fleet.ready(3)
            assert fleet.set.spec.replicas == 3
            # Nobody measures CPU here; that it asked for these pods' shows that it has found them.
            async with asyncio.timeout(60):
                while "ScalingActive" not in (found := await _conditions(fleet)):  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
            assert found["AbleToScale"][0] == "True"
            assert found["ScalingActive"][1] == "FailedGetResourceMetric"

    runs(scenario())
