"""Claims that hang, as kubectl shows them: real claims in a real Redis, a real API server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from rallypoint.cli.brokers import Brokers
from rallypoint.fleet import resources
from rallypoint.fleet.claims import Claims
from rallypoint.fleet.domain.claims import Claim
from rallypoint.fleet.mirror import Mirror
from rallypoint.kit.clock import SystemClock
from rallypoint.kit.names import RoomId, SetName
from rallypoint.kit.store import Store
from tests.kube.conftest import Runs
from tests.kube.stack import connected
from tests.support.kubernetes import ApiServer

SET = SetName("arena")
TTL_S = 4.0


def _server(server: ApiServer, namespace: str) -> None:
    server.does("apply", "--server-side", "-f", "-", stdin="---\n".join(resources.files().values()))
    names = [f"crd/{resource.name}" for resource in resources.ALL]
    server.does("wait", "--for=condition=Established", "--timeout=30s", *names)
    item = {
        "apiVersion": "rallypoint.dev/v1",
        "kind": "GameServer",
        "metadata": {"name": "arena-0", "namespace": namespace},
        "spec": {"setName": "arena", "ordinal": 0},
    }
    server.does("apply", "-f", "-", stdin=json.dumps(item))


def _told(server: ApiServer, namespace: str) -> tuple[list[str], str, list[str]]:
    """The claims of the server, its version, and who owns parts of its status."""
    found = json.loads(
        server.does("get", "rgs", "arena-0", "-n", namespace, "-o", "json", "--show-managed-fields")
    )
    claims = found.get("status", {}).get("claims", [])
    meta = found["metadata"]
    owners = [one["manager"] for one in meta["managedFields"] if one.get("subresource")]
    return [one["requestId"] for one in claims], meta["resourceVersion"], owners


def test_claims_that_hang_are_told_and_others_cost_nothing(
    server: ApiServer, namespace: str, runs: Runs, tmp_path: Path
) -> None:
    _server(server, namespace)
    brokers = Brokers(tmp_path / "brokers")
    brokers.start()

    async def scenario() -> None:
        store = await Store.connect(brokers.redis.url)
        claims = Claims(store, SystemClock(), ttl_s=TTL_S, closing_s=5, moving_s=5)
        await claims.adopt(SET, [])

        async def claimed(room: str) -> Claim:
            candidates = [("arena-0|a", 8)]
            taken = await claims.take(SET, RoomId(room), epoch=1, candidates=candidates)
            assert taken.claim is not None
            return taken.claim

        async with connected(server) as transport:
            mirrors = [
                Mirror(transport, claims=claims, store=store, namespace=namespace, holder=name)
                for name in ("one", "two")
            ]

            async def both() -> tuple[list[str], str, list[str]]:
                for mirror in mirrors:
                    await mirror.once()
                return await asyncio.to_thread(_told, server, namespace)

            _, untouched, _ = await both()
            await claims.confirm(SET, RoomId("quick"), await claimed("quick"))
            hanging = await claimed("hanging")
            assert (await both())[1] == untouched
            await asyncio.sleep(2.1)
            told, version, owners = await both()
            assert (told, owners) == (["hanging"], ["fleet-allocator"])
            assert (await both())[1] == version
            await claims.confirm(SET, RoomId("hanging"), hanging)
            # The next process begins with what stands there.
            await store.delete("fleet:mirror")
            mirrors.reverse()
            assert (await both())[0] == []
        await store.close()

    try:
        runs(scenario())
    finally:
        brokers.stop()
