"""A match is played on two real nodes; then one of them is cut off, killed, drained.

The rooms' pods are GameServers of the real operator. Whatever is broken: no server is deleted while
a room is on it, rooms go on, every claim is that of a room, and the set is whole again.
Promises: docs/recovery.md, docs/migration.md and docs/fleet.md.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import pytest

from rallypoint.kit.names import RoomId
from tests.kube import game_stack
from tests.kube.conftest import Runs
from tests.kube.game_stack import Game, until
from tests.support import images
from tests.support.cluster.machines import Cluster
from tests.support.cluster.node import Node
from tests.support.players import Player, assert_resumed, playing, resumed, send_inputs
from tests.support.players import until as eventually

QUIET_S = 2.5
NAMESPACE = "game"


@pytest.fixture(scope="module")
def game(cluster: Cluster) -> Iterator[Game]:
    """The game on the cluster, its services on the first node."""
    if reason := images.missing():
        pytest.skip(reason)
    made = images.built()
    for name in ("services", "nats", "redis"):
        for node in cluster.nodes:
            node.pull(made / f"{name}.tar")
    cluster.server.does("create", "namespace", NAMESPACE)
    first = cluster.nodes[0]
    where = {"core": first.name, "address": first.host.address}
    try:
        yield game_stack.deploy(cluster.server, NAMESPACE, **where)
    finally:
        # The tests that come next have the machine to themselves, a second try has the name.
        cluster.server.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        cluster.server.kubectl("-n", NAMESPACE, "delete", "pod", "--all", "--force")
        cluster.server.kubectl("wait", "--for=delete", f"namespace/{NAMESPACE}", "--timeout=60s")


@pytest.fixture
def second(game: Game, cluster: Cluster) -> Iterator[Node]:
    """The node that is broken; each begins with one room node."""
    game.spread([node.name for node in cluster.nodes])
    yield cluster.nodes[1]
    until(lambda: game.has_capacity(2), "capacity is back")


Match = tuple[tuple[Player, Player], str, Mapping[str, list[RoomId]]]


@asynccontextmanager
async def match_on(game: Game, node: Node) -> AsyncIterator[Match]:
    """Two players who never stop pushing, in a match on a node; its server, and those deleted."""
    (pod,) = [pod for pod, where in game.room_pods().items() if where == node.name]
    async with (
        game.deletions() as deleted,
        playing(game.url, "duel", "skirmish") as players,
        asyncio.TaskGroup() as tasks,
    ):
        pushing = [tasks.create_task(send_inputs(player)) for player in players]
        await game.bring(players[0], pod)
        await asyncio.sleep(QUIET_S)
        yield players, pod, deleted
        await game.wait_accounted()
        assert not any(deleted.values()), f"deleted with rooms: {deleted}"
        for task in pushing:
            task.cancel()


async def wait_resumed(players: tuple[Player, Player], epoch: int) -> None:
    """Wait until play goes on after an epoch, and check that nothing was lost but time."""
    await eventually(resumed(players, epoch + 1))
    assert_resumed(players, epoch)


async def wait_two_on(game: Game, name: str) -> None:
    """Wait until both room nodes are on one of the cluster's nodes."""
    where = [name, name]
    await asyncio.to_thread(until, lambda: list(game.room_pods().values()) == where, "capacity")


def test_a_match_is_played_on_the_cluster(game: Game) -> None:
    words = ["-m", "rallypoint", "bots", "--game", "tictactoe", "--count", "4", "--matches", "1"]
    done = subprocess.run(
        [sys.executable, *words, "--url", game.url, "--json"],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    score = json.loads(done.stdout)
    assert (score["matches"], score["errors"]) == (4, {}), done.stderr


def test_play_resumes_elsewhere_after_a_pod_was_killed(
    game: Game, second: Node, runs: Runs
) -> None:
    async def scenario() -> None:
        async with match_on(game, second) as (players, pod, deleted):
            epoch = players[0].seen.epoch
            uid, _ = (await asyncio.to_thread(game.servers))[pod]
            second.kill_containers(pod)
            await wait_resumed(players, epoch)
            # Its kubelet starts the container again: the server is the same, and takes rooms.
            await asyncio.to_thread(until, lambda: game.has_capacity(2), "capacity")
            assert (await asyncio.to_thread(game.servers))[pod][0] == uid
            assert deleted == {}

    runs(scenario())


def test_players_notice_nothing_of_a_drained_node(game: Game, second: Node, runs: Runs) -> None:
    async def scenario() -> None:
        async with match_on(game, second) as (players, pod, deleted):
            epoch = players[0].seen.epoch
            drain = ("drain", second.name, "--delete-emptydir-data", "--timeout=60s")
            await asyncio.to_thread(game.server.does, *drain)
            await wait_resumed(players, epoch)
            assert pod not in game.room_pods()
            await eventually(lambda: pod in deleted)
            for player in players:
                (left_at, left_tick), (_, next_tick) = (
                    player.seen.last(epoch),
                    player.seen.next(epoch),
                )
                assert next_tick > left_tick, "a move loses no tick"
                assert left_at > 0

    try:
        runs(scenario())
    finally:
        game.server.does("uncordon", second.name)


def test_rooms_go_on_while_their_kubelet_is_dead(
    game: Game, second: Node, cluster: Cluster, runs: Runs
) -> None:
    """Kubernetes makes another pod meanwhile; the room stays until the kubelet is back."""

    async def scenario() -> None:
        async with match_on(game, second) as (players, pod, deleted):
            epoch = players[0].seen.epoch
            second.kill_program("kubelet")
            try:
                await wait_two_on(game, cluster.nodes[0].name)
                owner = (await game.owners())[players[0].room.seat.room_id]
                assert (owner.node_id, players[0].seen.epoch) == (pod, epoch)
                assert deleted == {}, "its pod has not ended, as far as anybody knows"
            finally:
                second.start_program("kubelet")
            # Now it hears that the pod was given up, and ends it: the room moves.
            await wait_resumed(players, epoch)

    runs(scenario())


def test_play_resumes_elsewhere_after_a_node_was_cut_off(
    game: Game, second: Node, cluster: Cluster, runs: Runs
) -> None:
    async def scenario() -> None:
        async with match_on(game, second) as (players, pod, deleted):
            epoch = players[0].seen.epoch
            cluster.network.cut(second.host)
            try:
                await wait_resumed(players, epoch)
                await wait_two_on(game, cluster.nodes[0].name)
            finally:
                cluster.network.heal(second.host)
            gone = ("wait", "--for=delete", f"pod/{pod}", "--timeout=60s")
            await asyncio.to_thread(game.kubectl, *gone)
            await eventually(lambda: pod in deleted)
            for player in players:
                player.seen.check()  # nothing was heard of the room that was cut off

    runs(scenario())
