"""Rolling updates: in place, by replacement, in parts, paused, stopped by their own failures."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rallypoint.fleet.operator.kinds import PODS
from rallypoint.kube.api import Api
from tests.kube.conftest import Fleets, Runs
from tests.kube.fleet_stack import Fleet, template
from tests.kube.proxy import Proxy

HEARD_S = 1.5
"""In which a process is heard for sure."""
QUICKLY = {
    "update": {"maxSurge": 0, "maxUnavailable": 1},
    "scaleIn": {"minIdleSeconds": 0},
}


def images(fleet: Fleet) -> dict[str, str]:
    """The image of each pod that is not going."""
    return {
        pod.metadata.name: pod.spec.containers[0].image
        for pod in fleet.pods.lister
        if pod.metadata.deletion_timestamp is None
    }


def newest(fleet: Fleet) -> str:
    """The newest revision, as the status tells it."""
    return str(fleet.status("update_revision"))


async def updated(fleet: Fleet, count: int) -> None:
    """Wait until so many servers have the newest revision, and all are ready."""
    await fleet.until(
        lambda: (
            fleet.status("observed_generation") == fleet.set.metadata.generation
            and fleet.status("updated_replicas") == count
            and fleet.status("ready_replicas") == fleet.status("replicas")
        ),
        f"{count} updated",
    )


def test_images_of_empty_servers_change_in_place_and_occupied_ones_wait(
    runs: Runs, fleets: Fleets
) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator()
            await fleet.apply(replicas=3, **QUICKLY)
            await fleet.ready(3)
            room = f"{fleet.name}-r"
            busy = await fleet.allocate(room)
            await fleet.until(lambda: fleet.phases().get(busy) == "Active", "an occupied server")
            uids = {pod.metadata.uid for pod in fleet.pods.lister}
            await fleet.apply(replicas=3, template=template("room-state:2"), **QUICKLY)
            await updated(fleet, 2)
            assert await fleet.owner(room) == busy
            assert images(fleet)[busy] == "room-state:1"
            await fleet.release(room)
            await updated(fleet, 3)
            assert set(images(fleet).values()) == {"room-state:2"}
            assert {pod.metadata.uid for pod in fleet.pods.lister} == uids
            assert fleet.status("current_revision") == fleet.status("update_revision")

    runs(scenario())


def test_an_update_in_place_that_was_interrupted_fences_nobody(
    runs: Runs, fleets: Fleets, tmp_path: Path
) -> None:
    """Its first write gives the pod the image, which starts a process; the second one is late."""

    async def scenario() -> None:
        async with fleets() as fleet, Proxy(fleet.cluster).running() as proxy:
            fleet.operator(kubeconfig=proxy.kubeconfig(tmp_path))
            await fleet.apply(replicas=1, **QUICKLY)
            await fleet.ready(1)
            (name,) = fleet.phases()
            old = fleet.troupe.nodes[name]
            late = proxy.fail(
                lambda seen: seen.method == "PATCH" and seen.path.endswith(f"/gameservers/{name}"),
                status=500, times=1000,
            )  # fmt: skip
            await fleet.apply(replicas=1, template=template("room-state:2"), **QUICKLY)
            await fleet.until(
                lambda: fleet.troupe.nodes.get(name, old) is not old, "the new process"
            )
            await asyncio.sleep(HEARD_S)
            late.times = 0
            await updated(fleet, 1)
            assert await fleet.allocate(f"{fleet.name}-r") == name

    runs(scenario())


def test_other_changes_replace_pods_in_parts_and_a_pause_holds_them(
    runs: Runs, fleets: Fleets
) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator()
            await fleet.apply(replicas=3, **QUICKLY)
            await fleet.ready(3)
            changed, before = template(terminationGracePeriodSeconds=2), newest(fleet)
            paused = {**QUICKLY, "update": {**QUICKLY["update"], "paused": True}}
            await fleet.apply(replicas=3, template=changed, **paused)
            await fleet.until(lambda: newest(fleet) != before, "the pause")
            assert fleet.status("updated_replicas") == 0
            parted = {**QUICKLY, "update": {**QUICKLY["update"], "partition": 2}}
            await fleet.apply(replicas=3, template=changed, **parted)
            await updated(fleet, 1)
            await fleet.apply(replicas=3, template=changed, **QUICKLY)
            await updated(fleet, 3)

    runs(scenario())


def test_sessions_on_an_old_revision_move_on_when_they_have_had_their_time(
    runs: Runs, fleets: Fleets
) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator()
            update = {"maxSurge": 1, "inPlace": "Never"}
            await fleet.apply(replicas=1, update=update)
            await fleet.ready(1)
            room = f"{fleet.name}-r"
            busy = await fleet.allocate(room)
            await fleet.until(lambda: fleet.phases().get(busy) == "Active", "an occupied server")
            newer = template("room-state:2")
            await fleet.apply(replicas=1, template=newer, update=update)
            await fleet.ready(2)
            assert await fleet.owner(room) == busy
            await fleet.apply(replicas=1, template=newer, update={**update, "maxSessionSeconds": 1})
            await fleet.until(lambda: busy not in fleet.phases(), "the end of the old one")
            assert [await fleet.owner(room)] == list(fleet.phases())

    runs(scenario())


def test_an_image_that_cannot_run_stops_its_update(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator()
            health = {"health": {"startupSeconds": 2}}
            await fleet.apply(replicas=3, **health)
            await fleet.ready(3)
            bad = template("room-state:none", nodeSelector={"nowhere": "true"})
            await fleet.apply(replicas=3, template=bad, **health)
            await fleet.until(lambda: failing(fleet) is not None, "a new pod")
            await say_it_waits(fleet, "ImagePullBackOff", restarts=0)
            await fleet.until(lambda: fleet.condition("UpdateStalled") == "True", "the stop")
            await fleet.until(
                lambda: set(images(fleet).values()) == {"room-state:1"}, "only the old image"
            )
            await fleet.ready(3)
            assert "UpdateStalled" in {one.reason for one in await fleet.events()}
            await fleet.apply(replicas=3, **health)
            await fleet.until(lambda: fleet.condition("UpdateStalled") == "False", "the way back")
            await fleet.ready(3)

    runs(scenario())


def test_an_image_that_crashes_stops_its_update_in_place(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator()
            await fleet.apply(replicas=3, **QUICKLY)
            await fleet.ready(3)
            fleet.troupe.plays = lambda pod: not pod.spec.containers[0].image.endswith("none")
            await fleet.apply(replicas=3, template=template("room-state:none"), **QUICKLY)
            await fleet.until(lambda: failing(fleet) is not None, "a pod with the image")
            await say_it_waits(fleet, "CrashLoopBackOff", restarts=5)
            await fleet.until(lambda: fleet.condition("UpdateStalled") == "True", "the stop")
            await fleet.ready(3)
            assert set(images(fleet).values()) == {"room-state:1"}

    runs(scenario())


def failing(fleet: Fleet) -> str | None:
    """A pod with the bad image."""
    return next((name for name, image in images(fleet).items() if image.endswith("none")), None)


async def say_it_waits(fleet: Fleet, reason: str, *, restarts: int) -> None:
    """What a kubelet says of an image that is not there, or that ends as soon as it runs."""
    name = failing(fleet)
    assert name is not None
    waiting = {"reason": reason, "message": "it does not run"}
    said = {
        "name": "rooms", "image": "room-state:none", "imageID": "", "ready": False,
        "restartCount": restarts, "state": {"waiting": waiting},
    }  # fmt: skip
    await Api(fleet.transport, PODS, manager="kubelet").merge_patch(
        name, {"status": {"containerStatuses": [said]}},
        namespace=fleet.namespace, subresource="status",
    )  # fmt: skip
