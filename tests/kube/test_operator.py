"""The operator on a real API server: sets become servers become pods, and what people see of it."""

from __future__ import annotations

from rallypoint.fleet.domain.pods import SET
from tests.kube.conftest import Fleets, Runs


def test_a_set_becomes_ready_servers_and_tells_of_it(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            fleet.operator()
            await fleet.apply(replicas=3)
            await fleet.ready(3)
            await fleet.until(lambda: fleet.status("ready_replicas") == 3, "the status")
            assert sorted(fleet.phases()) == [f"{fleet.name}-{n}" for n in range(3)]
            status = fleet.set.status
            assert status is not None
            assert (status.replicas, status.empty_replicas, status.updated_replicas) == (3, 3, 3)
            assert status.selector == f"{SET}={fleet.name}"
            assert status.observed_generation == fleet.set.metadata.generation
            await fleet.until(lambda: fleet.condition("Available") == "True", "Available")
            told = {one.reason for one in await fleet.events()}
            assert {"Scaled", "Ready"} <= told
            assert fleet.set.spec.replicas == 3

    runs(scenario())
