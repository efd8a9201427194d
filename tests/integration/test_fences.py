"""Fences on a real Redis: a server is claimed or fenced, never both, whoever comes first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import pytest
from tests.integration.conftest import Connect, Runs

from rallypoint.cli.brokers import Brokers
from rallypoint.fleet.claims import Claims
from rallypoint.fleet.fences import Deposed, Fences
from rallypoint.fleet.operator.slots import Slots
from rallypoint.kit import errors, keys
from rallypoint.kit.clock import SystemClock
from rallypoint.kit.names import RoomId, SetName
from rallypoint.kit.store import Store

NODE, OTHER = "arena-0|a", "arena-1|b"


@dataclass(frozen=True)
class Fleet:
    """Claims and fences of one set that nobody has used before."""

    store: Store
    claims: Claims
    fences: Fences
    name: SetName
    fresh: Callable[[str], str]

    async def claim(self, room: str, *places: str) -> str:
        """Claim on the first place that takes it; where, or nothing."""
        candidates = [(place, 2) for place in places]
        taken = await self.claims.take(self.name, RoomId(room), epoch=1, candidates=candidates)
        return taken.claim.place if taken.claim else ""

    async def fence(self, place: str, epoch: int) -> str:
        return await self.fences.fence(self.name, place, epoch=epoch)

    async def fenced(self) -> Mapping[str, int]:
        """The fenced places with their epochs, as the operator reads them."""
        return (await Slots(self.store, SystemClock()).look(self.name)).fenced


Play = Callable[[Callable[[Fleet], Awaitable[None]]], None]


@pytest.fixture
def play(runs: Runs, brokers: Brokers, fresh: Callable[[str], str], connected: Connect) -> Play:
    """Run a scenario on a fleet of its own."""

    def run(scenario: Callable[[Fleet], Awaitable[None]]) -> None:
        async def staged() -> None:
            async with connected(brokers) as (_, store):
                claims = Claims(store, SystemClock(), ttl_s=30, closing_s=5, moving_s=5)
                await scenario(Fleet(store, claims, Fences(store), SetName(fresh("set")), fresh))

        runs(staged())

    return run


def test_a_fenced_server_takes_no_claims_and_an_opened_one_does(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        await fleet.claims.adopt(fleet.name, [])
        epoch = await fleet.fences.lead(fleet.name, known_epoch=0)
        assert await fleet.fence(NODE, epoch) == "fenced"
        assert await fleet.fence(NODE, epoch) == "fenced"
        assert await fleet.fenced() == {NODE: epoch}
        assert await fleet.claim(fleet.fresh("r"), NODE) == ""
        assert await fleet.claim(fleet.fresh("r"), NODE, OTHER) == OTHER
        await fleet.fences.lift(fleet.name, NODE, epoch=epoch)
        assert await fleet.claim(fleet.fresh("r"), NODE, OTHER) == NODE

    play(scenario)


def test_a_silent_server_may_have_rooms_until_redis_knows_better(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        node = NODE.partition("|")[0]
        assert await fleet.fences.may_have_rooms(fleet.name, node)
        await fleet.claims.adopt(fleet.name, [(RoomId(fleet.fresh("r")), OTHER, 1)])
        assert not await fleet.fences.may_have_rooms(fleet.name, node)
        assert await fleet.fences.may_have_rooms(fleet.name, OTHER.partition("|")[0])

    play(scenario)


def test_a_claimed_or_occupied_server_is_not_fenced(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        await fleet.claims.adopt(fleet.name, [(RoomId(fleet.fresh("r")), OTHER, 1)])
        epoch = await fleet.fences.lead(fleet.name, known_epoch=0)
        room = fleet.fresh("r")
        await fleet.claim(room, NODE)
        assert await fleet.fence(NODE, epoch) == "used"
        assert await fleet.fence(OTHER, epoch) == "used"
        await fleet.claims.release(fleet.name, RoomId(room))
        assert await fleet.fence(NODE, epoch) == "fenced"

    play(scenario)


def test_a_deposed_leader_can_do_nothing(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        await fleet.claims.adopt(fleet.name, [])
        old = await fleet.fences.lead(fleet.name, known_epoch=7)
        await fleet.fence(NODE, old)
        new = await fleet.fences.lead(fleet.name, known_epoch=0)
        assert new > old > 7
        with pytest.raises(Deposed):
            await fleet.fence(OTHER, old)
        with pytest.raises(Deposed):
            await fleet.fences.lift(fleet.name, NODE, epoch=old)
        assert await fleet.fenced() == {NODE: old}

    play(scenario)


def test_a_redis_that_forgot_fences_nothing_until_claims_are_back_and_learns_the_epoch(
    play: Play,
) -> None:
    async def scenario(fleet: Fleet) -> None:
        with pytest.raises(errors.Unavailable, match="CLAIMS_UNBUILT"):
            await fleet.fence(NODE, 9)
        await fleet.claims.adopt(fleet.name, [])
        assert await fleet.fence(NODE, 9) == "fenced"
        assert await fleet.store.get(keys.fleet_epoch(fleet.name)) == b"9"
        with pytest.raises(Deposed):
            await fleet.fence(OTHER, 8)

    play(scenario)


def test_claims_and_fences_that_race_never_both_win(play: Play) -> None:
    """Forty servers, each asked for by allocators and a leader at the same moment."""

    async def scenario(fleet: Fleet) -> None:
        await fleet.claims.adopt(fleet.name, [])
        epoch = await fleet.fences.lead(fleet.name, known_epoch=0)
        places = [f"arena-{n}|x" for n in range(40)]
        calls = [fleet.claim(fleet.fresh("r"), place) for place in places for _ in range(2)]
        tries = [fleet.fence(place, epoch) for place in places]
        both = [*calls, *tries]
        random.Random(1).shuffle(both)
        await asyncio.gather(*both)
        used, fenced = await fleet.claims.used(fleet.name), await fleet.fenced()
        assert set(used) & set(fenced) == set()
        assert set(used) | set(fenced) == set(places)
        assert used
        assert fenced

    play(scenario)
