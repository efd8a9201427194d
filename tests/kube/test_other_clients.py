"""Clients of other houses agree with ours: kubectl, and kubernetes_asyncio."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kubernetes_asyncio import client, watch
from kubernetes_asyncio.config import load_kube_config

from rallypoint.fleet import resources
from rallypoint.fleet.domain.game_server import GameServer
from rallypoint.kube import crd, errors
from rallypoint.kube.api import Api, Scope
from rallypoint.kube.informer import Informer
from rallypoint.kube.transport import Transport
from tests.kube.conftest import Runs
from tests.kube.stack import connected, until
from tests.support import go
from tests.support.kubernetes import ApiServer

OURS = ("rallypoint.dev", "v1")


async def install_crds(transport: Transport) -> None:
    """Let the server know our kinds."""
    for custom in resources.ALL:
        await crd.install(transport, custom, manager="test")


@asynccontextmanager
async def both(
    server: ApiServer,
) -> AsyncIterator[tuple[Api[GameServer], client.CustomObjectsApi]]:
    """Calls on GameServers by our client and by kubernetes_asyncio."""
    async with connected(server) as transport:
        await install_crds(transport)
        settings = client.Configuration()
        await load_kube_config(config_file=str(server.kubeconfig), client_configuration=settings)
        async with client.ApiClient(settings) as theirs:
            yield (
                Api(transport, resources.GAME_SERVERS, manager="ours"),
                client.CustomObjectsApi(theirs),
            )


async def make(api: Api[GameServer], namespace: str, ordinal: int) -> GameServer:
    spec = {"setName": "arena", "ordinal": ordinal}
    return await api.apply(f"arena-{ordinal}", {"spec": spec}, namespace=namespace)


def test_each_reads_and_watches_what_the_other_wrote(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with both(server) as (ours, theirs):
            for ordinal in range(3):
                await make(ours, namespace, ordinal)
            where = (*OURS, namespace, "gameservers")
            listed = await theirs.list_namespaced_custom_object(*where)
            assert [item["spec"]["ordinal"] for item in listed["items"]] == [0, 1, 2]
            await theirs.patch_namespaced_custom_object_status(
                *where, "arena-1", {"status": {"phase": "Ready", "nodeName": "n1"}},
                _content_type="application/merge-patch+json",
            )  # fmt: skip
            found = await ours.get("arena-1", namespace=namespace)
            assert found.status is not None
            assert (found.status.phase, found.status.node_name) == ("Ready", "n1")
            version = listed["metadata"]["resourceVersion"]
            await ours.delete("arena-2", namespace=namespace)
            seen = []
            async with watch.Watch().stream(
                theirs.list_namespaced_custom_object, *where, resource_version=version
            ) as events:
                async for event in events:
                    seen.append((event["type"], event["object"]["metadata"]["name"]))
                    if len(seen) == 2:
                        break
            assert seen == [("MODIFIED", "arena-1"), ("DELETED", "arena-2")]

    runs(scenario())


def test_our_cache_follows_their_writes(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with both(server) as (ours, theirs):
            cache = Informer(ours, Scope(namespace))
            running = asyncio.create_task(cache.run())
            await cache.wait_synced()
            item = {
                "apiVersion": "rallypoint.dev/v1",
                "kind": "GameServer",
                "metadata": {"name": "arena-7"},
                "spec": {"setName": "arena", "ordinal": 7},
            }
            where = (*OURS, namespace, "gameservers")
            await theirs.create_namespaced_custom_object(*where, item)
            await until(lambda: cache.lister.get("arena-7", namespace=namespace) is not None)
            await theirs.delete_namespaced_custom_object(*where, "arena-7")
            await until(lambda: len(cache.lister) == 0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    runs(scenario())


def test_field_managers_of_kubectl_and_ours_respect_each_other(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    manifest = {
        "apiVersion": "rallypoint.dev/v1",
        "kind": "GameServerSet",
        "metadata": {"name": "arena", "namespace": namespace},
        "spec": {"replicas": 3},
    }

    async def scenario(transport: Transport) -> None:
        sets = Api(transport, resources.GAME_SERVER_SETS, manager="fleet-autoscaler")
        with pytest.raises(errors.Conflict, match='conflict with "kubectl"'):
            await sets.apply("arena", {"spec": {"replicas": 5}}, namespace=namespace)
        await sets.apply("arena", {"spec": {"capacity": {"rooms": 4}}}, namespace=namespace)

    async def whole() -> None:
        async with connected(server) as transport:
            await install_crds(transport)
            await asyncio.to_thread(applied, json.dumps(manifest))
            await scenario(transport)
        manifest["spec"] = {"replicas": 3, "capacity": {"rooms": 9}}
        done = await asyncio.to_thread(
            server.kubectl, "apply", "--server-side", "-f", "-", stdin=json.dumps(manifest)
        )
        assert 'conflict with "fleet-autoscaler"' in done.stderr

    def applied(text: str) -> None:
        server.does("apply", "--server-side", "-f", "-", stdin=text)

    runs(whole())


def test_kubectl_watches_what_we_write(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with both(server) as (ours, _):
            await make(ours, namespace, 0)
            command = [str(go.tool("kubectl")), "--kubeconfig", str(server.kubeconfig)]
            command += ["--cache-dir", str(server.folder / "kubectl"), "-n", namespace]
            command += ["get", "rgs", "-w", "--no-headers", "-o", "custom-columns=P:.status.phase"]
            watching = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            assert watching.stdout is not None
            shown = [(await watching.stdout.readline()).decode().strip()]
            for phase in ("Starting", "Ready"):
                fields = {"status": {"phase": phase}}
                await ours.apply("arena-0", fields, namespace=namespace, subresource="status")
                shown.append((await watching.stdout.readline()).decode().strip())
            watching.kill()
            await watching.wait()
            assert shown == ["<none>", "Starting", "Ready"]

    runs(scenario())


def test_kubectl_waits_for_our_conditions_and_describes_them(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    mine = ("-n", namespace)

    async def scenario() -> None:
        async with connected(server) as transport:
            await install_crds(transport)
            sets = Api(transport, resources.GAME_SERVER_SETS, manager="fleet-operator")
            await sets.apply("arena", {"spec": {"replicas": 2}}, namespace=namespace)
            wait = ("wait", "--for=condition=Available", "rgss/arena", "--timeout=50s")
            waiting = asyncio.create_task(asyncio.to_thread(server.does, *mine, *wait))
            condition = {
                "type": "Available",
                "status": "True",
                "reason": "AllReady",
                "message": "2 of 2 servers are ready",
                "lastTransitionTime": "2026-11-26T12:00:00Z",
            }
            fields = {
                "status": {"observedGeneration": 1, "readyReplicas": 2, "conditions": [condition]}
            }
            await sets.apply("arena", fields, namespace=namespace, subresource="status")
            assert await waiting == "gameserverset.rallypoint.dev/arena condition met\n"
            described = await asyncio.to_thread(server.does, *mine, "describe", "rgss", "arena")
            assert "AllReady" in described.split()
            assert "2 of 2 servers are ready" in described

    runs(scenario())
