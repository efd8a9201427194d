"""The HPA of a real controller manager scales a set through /scale: by pods, and by our metric."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp import web

from rallypoint.internal.keda import externalscaler_pb2 as keda
from rallypoint.internal.keda import externalscaler_pb2_grpc
from rallypoint.kit import rpc
from tests.kube.conftest import Fleets, Runs
from tests.kube.fleet_stack import Fleet

CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}


def _hpa(fleet: Fleet, metric: Mapping[str, Any], *, least: int, most: int) -> dict[str, Any]:
    target = {"apiVersion": "rallypoint.dev/v1", "kind": "GameServerSet", "name": fleet.name}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": fleet.name, "namespace": fleet.namespace},
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [metric],
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
            item = json.dumps(_hpa(fleet, {"type": "Resource", "resource": CPU}, least=3, most=4))
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


METRIC = "rallypoint-servers"
GROUP = "external.metrics.k8s.io"


@asynccontextmanager
async def adapter(fleet: Fleet) -> AsyncIterator[None]:
    """What KEDA's metrics server does: an external metric that is what our scaler answers."""

    async def known(_: web.Request) -> web.Response:
        metric = {"name": METRIC, "namespaced": True, "kind": "ExternalMetricValueList"}
        resources = [{**metric, "singularName": "", "verbs": ["get"]}]
        listed = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/v1beta1"}
        return web.json_response({**listed, "resources": resources})

    async def value(_: web.Request) -> web.Response:
        at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found = {"metricName": METRIC, "metricLabels": {}, "timestamp": at}
        items = [{**found, "value": str(await need(fleet))}]
        kind = {"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/v1beta1"}
        return web.json_response({**kind, "metadata": {}, "items": items})

    app = web.Application()
    app.router.add_get(f"/apis/{GROUP}/v1beta1", known)
    app.router.add_get(f"/apis/{GROUP}/v1beta1/namespaces/{{namespace}}/{METRIC}", value)
    assert fleet.cluster.authority is not None
    pair = fleet.cluster.authority.issue("adapter")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "localhost", 0, ssl_context=context).start()
        with registered(fleet, runner.addresses[0][1]):
            yield
    finally:
        await runner.cleanup()


@contextmanager
def registered(fleet: Fleet, port: int) -> Iterator[None]:
    """Have the API server pass the metric's API on to us, by a name instead of a cluster's IP."""
    meta = {"name": "adapter", "namespace": fleet.namespace}
    place = {"type": "ExternalName", "externalName": "localhost"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": place}
    name = f"v1beta1.{GROUP}"
    spec = {
        "group": GROUP, "version": "v1beta1", "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100, "versionPriority": 100, "service": {**meta, "port": port},
    }  # fmt: skip
    api = {
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name}, "spec": spec,
    }  # fmt: skip
    both = json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, api]})
    fleet.cluster.does("apply", "-f", "-", stdin=both)
    try:
        yield
    finally:
        fleet.cluster.does("delete", "apiservice", name)


async def need(fleet: Fleet) -> int:
    """Ask the scaler of the fleet that runs, as KEDA does."""
    metadata = {"set": fleet.name, "buffer": "1", "rooms": "2"}
    ref = keda.ScaledObjectRef(name="s", namespace="s", scaler_metadata=metadata)
    async with rpc.channel(fleet.allocator, name="keda") as channel, rpc.calling():
        stub: Any = externalscaler_pb2_grpc.ExternalScalerStub(channel)
        reply = await stub.GetMetrics(keda.GetMetricsRequest(scaled_object_ref=ref))
    return int(reply.metric_values[0].metric_value)


def test_an_hpa_follows_the_rooms_by_the_metric_that_keda_reads(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        async with fleets(capacity=2) as fleet, adapter(fleet):
            fleet.operator()
            await fleet.apply(replicas=1, capacity={"rooms": 2}, scaleIn={"minIdleSeconds": 0})
            await fleet.ready(1)
            one = {
                "metric": {"name": METRIC},
                "target": {"type": "AverageValue", "averageValue": 1},
            }
            item = _hpa(fleet, {"type": "External", "external": one}, least=1, most=4)
            at_once = {"stabilizationWindowSeconds": 0}
            item["spec"]["behavior"] = {"scaleDown": at_once, "scaleUp": at_once}
            await asyncio.to_thread(fleet.cluster.does, "apply", "-f", "-", stdin=json.dumps(item))
            rooms = [f"{fleet.name}-{number}" for number in range(3)]
            for room in rooms[:2]:
                await fleet.allocate(room)
            await fleet.ready(2)  # three slots: two rooms, one free
            assert (await _conditions(fleet))["ScalingActive"] == ("True", "ValidMetricFound")
            for room in rooms[:2]:
                await fleet.release(room)
            await fleet.ready(1)
            assert fleet.set.spec.replicas == 1

    runs(scenario())
