"""The CRDs on a real API server: accepted, enforced with their words, as kubectl expects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rallypoint.fleet import resources
from rallypoint.fleet.domain.game_server import GameServer, GameServerSpec
from rallypoint.fleet.domain.game_server_set import (
    Autoscaling,
    GameServerSet,
    GameServerSetSpec,
    Policy,
)
from rallypoint.kube import errors
from rallypoint.kube.api import Api, Scope
from rallypoint.kube.informer import Informers
from rallypoint.kube.objects import ObjectMeta
from tests.kube.conftest import Runs
from tests.kube.stack import connected
from tests.support.kubernetes import ApiServer


@pytest.fixture(scope="module")
def crds(server: ApiServer) -> ApiServer:
    """The API server with our kinds, as `rallypoint crd generate` writes them."""
    server.does("apply", "--server-side", "-f", "-", stdin="---\n".join(resources.files().values()))
    names = [f"crd/{resource.name}" for resource in resources.ALL]
    server.does("wait", "--for=condition=Established", "--timeout=30s", *names)
    return server


def set_of(namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "rallypoint.dev/v1",
        "kind": "GameServerSet",
        "metadata": {"name": "arena", "namespace": namespace},
        "spec": spec,
    }


def server_of(namespace: str, name: str = "arena-3", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "rallypoint.dev/v1",
        "kind": "GameServer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"setName": "arena", "ordinal": 3, **spec},
    }


def refused(server: ApiServer, item: dict[str, Any]) -> str:
    done = server.kubectl("apply", "-f", "-", stdin=json.dumps(item))
    assert done.returncode != 0, "it was accepted"
    return done.stderr


BUFFER = {"name": "rooms", "type": "RoomBuffer", "buffer": "15%"}
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "min above max": (
        {"autoscaling": {"min": 5, "max": 4, "policies": [BUFFER]}},
        "autoscaling.min is above autoscaling.max",
    ),
    "an update that cannot move": (
        {"update": {"maxSurge": "0%", "maxUnavailable": 0}},
        "maxSurge and maxUnavailable cannot both be zero",
    ),
    "a schedule without times": (
        {"autoscaling": {"max": 4, "policies": [{"name": "night", "type": "Schedule"}]}},
        "type Schedule needs a schedule",
    ),
    "a buffer without a size": (
        {"autoscaling": {"max": 4, "policies": [{"name": "rooms", "type": "RoomBuffer"}]}},
        "need a buffer",
    ),
    "one policy twice": (
        {"autoscaling": {"max": 4, "policies": [BUFFER, BUFFER]}},
        "Duplicate value",
    ),
    "too many replicas": ({"replicas": 50_001}, "should be less than or equal to 50000"),
    "a strange ordinal": ({"reservedOrdinals": ["7-"]}, "should match"),
    "an unknown word": ({"scheduling": "Random"}, 'supported values: "Packed", "Distributed"'),
    "a drain of two days": ({"drain": {"timeoutSeconds": 172_800}}, "less than or equal to 86400"),
    "a percentage of text": ({"update": {"maxSurge": "much"}}, "should match"),
}


@pytest.mark.parametrize("case", REFUSALS, ids=str)
def test_a_set_that_breaks_a_rule_is_refused_with_its_words(
    crds: ApiServer, namespace: str, case: str
) -> None:
    spec, message = REFUSALS[case]
    assert message in refused(crds, set_of(namespace, **spec))


def test_a_servers_name_and_identity_are_guarded(crds: ApiServer, namespace: str) -> None:
    named = refused(crds, server_of(namespace, "arena-4"))
    assert "a server is named <setName>-<ordinal>" in named
    crds.does("apply", "-f", "-", stdin=json.dumps(server_of(namespace)))
    words = ("-n", namespace, "patch", "rgs", "arena-3", "--type=merge", "-p")
    done = crds.kubectl(*words, '{"spec":{"ordinal":4}}')
    assert "setName and ordinal are the server's identity" in done.stderr


def test_only_impossible_changes_of_phase_are_refused(crds: ApiServer, namespace: str) -> None:
    crds.does("apply", "-f", "-", stdin=json.dumps(server_of(namespace)))

    def phase(name: str) -> str:
        patch = json.dumps({"status": {"phase": name}})
        words = ("-n", namespace, "patch", "rgs", "arena-3", "--subresource=status")
        return crds.kubectl(*words, "--type=merge", "-p", patch).stderr

    assert [phase(name) for name in ("Starting", "Full", "Ready", "Failed")] == [""] * 4
    assert "a server that has Failed can only terminate" in phase("Ready")
    assert phase("Terminating") == ""
    assert "a server that is Terminating cannot come back" in phase("Ready")
    more_rooms = json.dumps({"status": {"occupancy": {"rooms": 9, "capacityRooms": 8}}})
    words = ("-n", namespace, "patch", "rgs", "arena-3", "--subresource=status", "--type=merge")
    assert "more rooms than the server has" in crds.kubectl(*words, "-p", more_rooms).stderr


def test_kubectl_shows_scales_and_explains(crds: ApiServer, namespace: str) -> None:
    crds.does("apply", "-f", "-", stdin=json.dumps(set_of(namespace, replicas=2)))
    mine = ("-n", namespace)
    crds.does(*mine, "scale", "rgss/arena", "--replicas=7")
    wanted = crds.does(*mine, "get", "rgss", "arena", "-o", "jsonpath={.spec.replicas}")
    assert wanted == "7"
    status = {"replicas": 5, "desiredReplicas": 7, "rooms": {"used": 31}, "selector": "set=arena"}
    patch = json.dumps({"status": status})
    crds.does(*mine, "patch", "rgss", "arena", "--subresource=status", "--type=merge", "-p", patch)
    heads, row = crds.does(*mine, "get", "rgss").splitlines()
    assert heads.split() == (
        ["NAME", "DESIRED", "CURRENT", "READY", "EMPTY", "OCCUPIED", "UPDATED", "ROOMS", "AGE"]
    )
    assert row.split()[:8] == ["arena", "7", "5", "0", "0", "0", "0", "31"]
    wide = crds.does(*mine, "get", "rgss", "-o", "wide").splitlines()[0]
    assert {"PLAYERS", "DRAINING", "REASON"} <= set(wide.split())
    scale = json.loads(
        crds.does(*mine, "get", "rgss", "arena", "--subresource=scale", "-o", "json")
    )
    assert scale["status"] == {"replicas": 5, "selector": "set=arena"}
    crds.does("apply", "-f", "-", stdin=json.dumps(server_of(namespace)))
    assert crds.does(*mine, "get", "rgs").splitlines()[0].split() == (
        ["NAME", "PHASE", "ROOMS", "PLAYERS", "ADDRESS", "NODE", "REV", "AGE"]
    )
    both = crds.does(*mine, "get", "fleet", "-o", "name").split()
    assert both == ["gameserver.rallypoint.dev/arena-3", "gameserverset.rallypoint.dev/arena"]
    explained = crds.does("explain", "rgss.spec.scaleIn.minIdleSeconds")
    assert "How long it must have been empty." in explained


def test_defaults_are_filled_in_as_the_types_have_them(
    runs: Runs, crds: ApiServer, namespace: str
) -> None:
    """What Python means by absence is what the API server writes for it."""

    async def scenario() -> None:
        async with connected(crds) as transport:
            api = Api(transport, resources.GAME_SERVER_SETS, manager="test")
            policies = (Policy(name="rooms", type="RoomBuffer", buffer=5),)
            spec = GameServerSetSpec(autoscaling=Autoscaling(max=9, policies=policies))
            meta = ObjectMeta(name="arena", namespace=namespace)
            made = await api.create(GameServerSet(metadata=meta, spec=spec))
            assert made.spec == spec
            written = json.loads(crds.does("-n", namespace, "get", "rgss", "arena", "-o", "json"))
            assert written["spec"]["scaleIn"]["minIdleSeconds"] == 60
            assert written["spec"]["update"]["maxSurge"] == "25%"

    runs(scenario())


def test_servers_are_found_by_their_fields(runs: Runs, crds: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with connected(crds) as transport:
            api = Api(transport, resources.GAME_SERVERS, manager="test")
            for set_name, ordinal in (("a", 0), ("a", 1), ("b", 0)):
                name = f"{set_name}-{ordinal}"
                meta = ObjectMeta(name=name, namespace=namespace)
                spec = GameServerSpec(set_name=set_name, ordinal=ordinal)
                await api.create(GameServer(metadata=meta, spec=spec))
            await api.apply(
                "a-1", {"status": {"phase": "Ready"}}, namespace=namespace, subresource="status"
            )
            of_a = Scope(namespace, fields="spec.setName=a")
            assert [item.metadata.name for item in await api.list(of_a)] == ["a-0", "a-1"]
            async with Informers(transport, manager="test") as informers:
                ready = informers.informer(
                    resources.GAME_SERVERS, Scope(namespace, fields="status.phase=Ready")
                )
                await informers.wait_synced()
                assert [item.metadata.name for item in ready.lister] == ["a-1"]

    runs(scenario())


def test_scale_writes_replicas_and_nothing_else(
    runs: Runs, crds: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with connected(crds) as transport:
            api = Api(transport, resources.GAME_SERVER_SETS, manager="autoscaler")
            await api.apply("arena", {"spec": {"capacity": {"rooms": 4}}}, namespace=namespace)
            scaled = await api.set_scale("arena", 12, namespace=namespace)
            assert scaled.spec.replicas == 12
            assert (await api.get_scale("arena", namespace=namespace)).spec.replicas == 12
            found = await api.get("arena", namespace=namespace)
            assert (found.spec.replicas, found.spec.capacity.rooms) == (12, 4)
            with pytest.raises(errors.Invalid, match="50000"):
                await api.set_scale("arena", 50_001, namespace=namespace)

    runs(scenario())
