"""The chart with its operator on a real cluster: what a release promises while it is played.

One release for all tests here, which run in any order: each leaves it as it found it. What is left
when it is removed is looked at last.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from prometheus_client.parser import text_string_to_metric_families

from rallypoint import client
from tests.kube import budgets, chart_stack, policies
from tests.kube.chart_play import (
    PAIRS,
    READY_S,
    answered,
    bots,
    careers,
    duel,
    frames,
    occupied,
    phase,
    pushing,
    queue,
    scored,
    some_occupied,
)  # fmt: skip
from tests.kube.chart_stack import Release
from tests.kube.conftest import Runs
from tests.kube.disks import BROKERS
from tests.support import browser, cgroups, chart, collector, images
from tests.support.browser import Player
from tests.support.cluster.machines import Cluster
from tests.support.collector import Collector
from tests.support.players import until

pytestmark = pytest.mark.timeout(4 * chart_stack.INSTALL_S, func_only=True)
COMPONENTS = ("gateway", "matchmaking", "fleet", "operator")
SERVICES, PROBE, NATS = (image.reference for image in images.IMAGES[:3])
CAPABILITIES = 1 << 38 | 1 << 39
"""PERFMON and BPF, as /proc shows them."""
TRY = "--timeout=60s"
PACE = {"maxStep": "100%", "periodSeconds": 2}
AUTOSCALING = {
    "min": 2,
    "max": 4,
    "policies": [{"name": "rooms", "type": "RoomBuffer", "buffer": 1}],
    "scaleOut": PACE,
    "scaleIn": {**PACE, "stabilizationSeconds": 4},
}
VALUES = (
    "operator.enabled=true",
    "gateway.replicas=2",
    "gateway.pdb.enabled=true",
    "nats.replicas=3",
    f"rooms.autoscaling={json.dumps(AUTOSCALING)}",
    'rooms.capacity={"rooms": 2, "players": 64}',
    'rooms.spec={"scheduling": "Distributed", "scaleIn": {"minIdleSeconds": 2}}',
    f"matchmaking.queues.three={queue(3, 12)}",
    f"matchmaking.queues.{PAIRS}={queue(2, 12)}",
    f"matchmaking.queues.duel={queue(2, 600)}",
)
COLLECTOR = (
    "monitoring.collector.enabled=true",
    "monitoring.collector.insecure=true",
    "monitoring.collector.keptPercent=100",
    "monitoring.collector.decidedAfter=2s",
    "monitoring.collector.resources.requests.cpu=10m",
)
PLAYED = {f"rallypoint-{name}" for name in ("gateway", "matchmaking", "fleet", "room-state")}
"""Services that the trace of a match leads through."""
BETA = """
apiVersion: rallypoint.dev/v1beta1
kind: GameServerSet
metadata: {name: beta}
spec:
  replicas: 0
  scaleIn: {idleSeconds: 7}
  template: {spec: {pod: {spec: {containers: [{name: rooms, image: none}]}}}}
"""


@pytest.fixture(scope="module")
def received(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """What the release's collector sends on, beside the API server, where pods' packets go."""
    folder = tmp_path_factory.mktemp("received")
    with collector.collector(folder, cluster.server.place) as backend:
        yield backend


@pytest.fixture(scope="module")
def shared(
    cluster: Cluster, received: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Release]:
    """The chart with operator, webhooks, probe and collector; in the end, that only CRDs are left.

    It is that of the last landing, upgraded.
    """
    backend = f"monitoring.collector.backend={received.endpoint.removeprefix('http://')}"
    before = chart_stack.cluster_wide(cluster.server)
    earlier = chart.landed(chart.LANDED, tmp_path_factory.mktemp("landed"))
    with chart_stack.installed(cluster, *VALUES, source=earlier or chart.CHART) as made:
        keys = made.keys()
        made.upgrade("logLevel=debug", *COLLECTOR, backend)
        assert made.keys() == keys
        made.wait_servers()
        yield made
        assert made.uninstall() == set()
        here = {f"namespace/{made.namespace}", f"namespace/{made.measured}"}
        assert chart_stack.cluster_wide(cluster.server) - before == here


@pytest.fixture
def release(shared: Release) -> Release:
    """It, once what was done before is over: two servers with nobody there, no pod that ends."""

    def is_calm() -> bool:
        if not all(map(chart_stack.is_up, shared.items("pods"))):
            return False
        servers = shared.items("gameservers")
        idle = {one["metadata"]["name"] for one in servers if phase(one) == "Ready"}
        return len(servers) == len(idle) == 2 and shared.pods("rooms").keys() == idle

    assert chart_stack.within(is_calm, READY_S), shared.told()
    return shared


def test_it_was_upgraded_from_the_chart_of_the_last_landing(
    release: Release, tmp_path: Path
) -> None:
    if chart.landed(chart.LANDED, tmp_path) is None:
        pytest.skip(f"installed as it is: this clone does not have {chart.LANDED}")
    first, *_, last = json.loads(release.helm("history", chart.RELEASE, "-o", "json"))
    assert (first["status"], last["status"]) == ("superseded", "deployed")


def test_servers_are_pods_that_the_operator_made(release: Release) -> None:
    pods = release.items("pods")
    assert all(chart_stack.is_ready(pod) for pod in pods)
    servers = {one["metadata"]["name"]: one for one in release.items("gameservers")}
    rooms = release.pods("rooms")
    assert rooms.keys() == servers.keys()
    assert {one["status"]["phase"] for one in servers.values()} == {"Ready"}
    for name, pod in rooms.items():
        assert [(o["kind"], o["name"]) for o in pod["metadata"]["ownerReferences"]] == [
            ("GameServer", name)
        ]


def test_policies_let_through_what_is_drawn_and_nothing_else(
    release: Release, cluster: Cluster
) -> None:
    """kube-router enforces them on the nodes, for all tests here."""

    def holds() -> bool:
        return policies.wrong(release, cluster) == []

    assert chart_stack.within(holds, READY_S), policies.wrong(release, cluster)


def test_collector_hands_on_what_every_service_and_probe_tells(
    release: Release, received: Collector, cluster: Cluster
) -> None:
    with bots(release.url, PAIRS, count=2, matches=1) as players:
        assert scored(players)["errors"] == {}
    services = {*PLAYED, "rallypoint-operator"}
    everybody = services | {node.name for node in cluster.nodes}

    def is_complete() -> bool:
        through: dict[str, set[str]] = {}
        for span in received.spans():
            through.setdefault(span.trace_id, set()).add(span.service)
        led = any(names >= PLAYED for names in through.values())
        logged = {name for name, _ in received.logs()}
        return led and logged >= services and received.metrics().keys() >= everybody

    assert chart_stack.within(is_complete, READY_S), received.metrics().keys()


def test_old_version_of_sets_is_converted_and_nonsense_is_refused(release: Release) -> None:
    release.kubectl("apply", "-f", "-", stdin=BETA)
    try:
        asked = ("-o", "jsonpath={.spec.scaleIn.minIdleSeconds}")
        assert release.kubectl("get", "gameserversets.v1.rallypoint.dev", "beta", *asked) == "7"
        schedule = {"cron": "99 * * * *", "timeZone": "UTC", "duration": "1h", "floor": 1}
        policy = {"name": "evening", "type": "Schedule", "schedule": schedule}
        patch = {"spec": {"autoscaling": {"min": 1, "max": 2, "policies": [policy]}}}
        refused = release.server.kubectl(
            "-n", release.namespace, "patch", "rgss", "beta", "--type=merge",
            "-p", json.dumps(patch),
        )  # fmt: skip
        assert 'webhook "sets.rallypoint.dev" denied' in refused.stderr, refused.stderr
        assert "'99' is not within 0-59" in refused.stderr
    finally:
        release.kubectl("delete", "rgss", "beta")


def test_pages_and_a_native_client_play_a_match_to_its_end(release: Release) -> None:
    native = f"grpc://{release.address}:{release.port('native')}"
    # Not a fixture: while a browser runs here, no other loop can.
    with browser.launched() as chromium, bots(native, "three", count=1, matches=1) as bot:
        pages = [opened(chromium, release.url, name) for name in ("Ada", "Bo")]
        for player in pages:
            player.wait_live()
        assert len({player.room_id for player in pages}) == 1
        pages[0].wait("document.querySelectorAll('.scores li').length === 3", "three are there")
        for player in pages:
            player.wait_screen("result")
            player.wait("window.rallypoint.lastRating?.matches === 1", "the match is rated")
        score = scored(bot)
    assert (score["matches"], score["errors"]) == (1, {})


def opened(chromium: Browser, url: str, name: str) -> Player:
    """Somebody at the page who has pressed Play."""
    player = Player(chromium.new_context().new_page(), name, "desktop")
    player.open(url, queue="three")
    player.play()
    return player


def test_set_grows_under_bots_and_shrinks_when_they_leave(release: Release) -> None:
    with bots(release.url, PAIRS, count=10, matches=2) as players:
        grown = chart_stack.within(lambda: len(release.pods("rooms")) > 2, READY_S)
        score = scored(players)
    assert grown, release.told()
    assert (score["matches"], score["errors"]) == (20, {})
    assert chart_stack.within(lambda: len(release.items("gameservers")) == 2, READY_S)


def test_match_outlives_an_upgrade_a_broken_one_and_its_rollback(
    release: Release, cluster: Cluster, runs: Runs
) -> None:
    newer, broken = (f"{word}-{secrets.token_hex(2)}" for word in ("newer", "broken"))
    for node in cluster.nodes:
        for image in (SERVICES, PROBE):
            name = image.partition(":")[0]
            node.tag(image, f"{name}:{newer}")
            node.tag(NATS, f"{name}:{broken}")  # a program that ends at once

    async def scenario() -> None:
        async with duel(release.url) as players, pushing(players):
            await asyncio.to_thread(release.upgrade, f"image.tag={newer}")
            await frames(players)
            await asyncio.to_thread(serves, release, newer)
            for room in (player.room for player in players):  # told to come again as it drained
                await until(lambda room=room: any("GATEWAY" in why for why in room.breaks))

            change = ("upgrade", chart.RELEASE, str(chart.CHART), chart_stack.KEEP)
            await asyncio.to_thread(release.helm, *change, "--set", f"image.tag={broken}")
            await asyncio.to_thread(chart_stack.within, lambda: is_stalled(release), READY_S)
            assert is_stalled(release), release.told()
            await asyncio.to_thread(serves, release, newer)
            await frames(players)

            back = ("rollback", chart.RELEASE, "--wait", f"--timeout={chart_stack.INSTALL_S}s")
            await asyncio.to_thread(release.helm, *back)
            await frames(players)
            await asyncio.to_thread(serves, release, newer)

    runs(scenario())
    release.wait_servers(newer)


def serves(release: Release, tag: str) -> None:
    """Every service has a pod of an image that is ready; one that is short of time may not be."""

    def is_there() -> bool:
        return all(
            any(pod["spec"]["containers"][0]["image"].endswith(tag) for pod in found.values())
            for found in map(release.pods, COMPONENTS)
        )

    assert chart_stack.within(is_there, READY_S), release.told()


def is_stalled(release: Release) -> bool:
    """Whether the operator stopped the update."""
    conditions = release.fleet().get("status", {}).get("conditions", [])
    return any(each["type"] == "UpdateStalled" and each["status"] == "True" for each in conditions)


def test_bots_lose_no_match_when_a_pod_of_each_service_is_deleted(release: Release) -> None:
    with bots(release.url, PAIRS, count=6) as players:
        assert chart_stack.within(lambda: occupied(release) != [], READY_S), release.told()
        for component in COMPONENTS:
            gone, *others = release.pods(component)
            release.kubectl("delete", "pod", gone, "--wait=false")

            def replaced(
                component: str = component, gone: str = gone, most: int = len(others)
            ) -> bool:
                now = release.pods(component)
                return gone not in now and len(now) > most

            assert chart_stack.within(replaced, READY_S), release.told()
        server, uid = some_occupied(release)
        release.kubectl("delete", "pod", server, "--wait=false")

        def played_on() -> bool:
            return uid not in release.uids().values() and occupied(release) != []

        assert chart_stack.within(played_on, READY_S), release.told()
        with bots(release.url, PAIRS, count=1, matches=1) as late:
            told = scored(late)
        assert (told["matches"], told["errors"]) == (1, {})
        # A whole match later, all of those are over that lost a service or their server.
        players.send_signal(signal.SIGINT)
        score = scored(players)
    assert score["errors"] == {}, score
    assert score["matches"] >= 6, score
    release.wait_servers()


def test_brokers_are_replaced_and_nothing_that_they_took_is_lost(
    release: Release, runs: Runs
) -> None:
    """Each server of NATS, then Redis: a match, a ticket, sessions and results outlive them."""

    async def scenario() -> None:
        async with (
            duel(release.url) as players,
            pushing(players),
            client.connect(release.url, name="Cleo", game="skirmish") as session,
            careers(release.url, count=2),
        ):
            calls = client.Matchmaking(session)
            ticket = await calls.create("three")
            waiting = asyncio.create_task(calls.find("three"))  # nobody would hold it for long
            for broker in BROKERS:
                await asyncio.to_thread(release.replace, broker)
                await frames(players)
            kept = await answered(lambda: calls.get("three"))
            assert (kept.ticket_id, waiting.done()) == (ticket.ticket_id, False)
            waiting.cancel()
            await answered(lambda: calls.cancel(ticket))
            assert [player.room.joins for player in players] == [1, 1]

    runs(scenario())


def test_node_is_drained_and_nobody_is_kicked(release: Release, runs: Runs) -> None:
    async def scenario() -> None:
        async with duel(release.url) as players, pushing(players):
            await frames(players)
            server, uid = await asyncio.to_thread(some_occupied, release)
            epoch = players[0].seen.epoch
            node = release.pods("rooms")[server]["spec"]["nodeName"]
            drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", TRY)
            try:
                with budgets.hold(release, "gateway", "nats", "operator"):
                    await asyncio.to_thread(emptied, release, drain)
                await frames(players)
                assert players[0].seen.epoch > epoch, "the room has moved"
                assert uid not in release.uids().values()
                assert node not in {pod["spec"]["nodeName"] for pod in release.items("pods")}
            finally:
                release.server.does("uncordon", node)

    runs(scenario())


def emptied(release: Release, drain: tuple[str, ...]) -> None:
    """Drain a node, in several tries where pods take their time to begin elsewhere."""
    done = chart_stack.within(lambda: release.server.kubectl(*drain).returncode == 0, 2 * READY_S)
    assert done, release.told()


def test_probe_tells_sockets_by_pod_and_has_two_rights(release: Release) -> None:
    """Every pod of the release has some: the kubelet asks each whether it is ready over TCP."""
    pods = {pod["metadata"]["name"] for pod in release.items("pods")}
    assert chart_stack.within(lambda: pods <= probed(release), READY_S), pods - probed(release)
    hierarchy = cgroups.unified_root()
    assert hierarchy
    for pod in release.probes():
        (container,) = pod["spec"]["containers"]
        wanted = {"add": ["BPF", "PERFMON"], "drop": ["ALL"]}
        assert container["securityContext"]["capabilities"] == wanted
        (status,) = pod["status"]["containerStatuses"]
        identity = status["containerID"].rpartition("//")[2]
        (cgroup,) = hierarchy.rglob(f"*{identity}*")
        processes = (cgroup / "cgroup.procs").read_text().split()
        assert processes
        for process in processes:
            assert capabilities(process, "CapBnd") == CAPABILITIES
            assert capabilities(process, "CapEff") & ~CAPABILITIES == 0


def probed(release: Release) -> set[str]:
    """The release's pods whose sockets some probe tells of."""
    return {
        sample.labels["pod_name"]
        for pod in release.probes()
        for family in text_string_to_metric_families(release.metrics(pod))
        for sample in family.samples
        if sample.labels.get("pod_namespace") == release.namespace
    }


def capabilities(process: str, which: str) -> int:
    """A set of capabilities of a process."""
    lines = Path("/proc", process, "status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith(which))
