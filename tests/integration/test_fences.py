"""Fences on a real Redis: a server is claimed or fenced, never both, whoever comes first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from tests.integration.conftest import Connect, Runs

from rallypoint.cli.brokers import Brokers
from rallypoint.fleet.claims import Claims
from rallypoint.fleet.fences import Deposed, Fences
from rallypoint.kit import errors, keys
from rallypoint.kit.clock import SystemClock
from rallypoint.kit.names import RoomId, SetName
from rallypoint.kit.store import Store

Fresh = Callable[[str], str]
NODE, OTHER = "arena-0|a", "arena-1|b"


def claims_of(store: Store, *, ttl_s: float = 30) -> Claims:
    return Claims(store, SystemClock(), ttl_s=ttl_s, closing_s=5, moving_s=5)


async def claimed(claims: Claims, set_name: SetName, room: str, *places: str) -> str:
    """Claim on the first place that takes it; where, or nothing."""
    candidates = [(place, 2) for place in places]
    taken = await claims.take(set_name, RoomId(room), epoch=1, candidates=candidates)
    return taken.claim.place if taken.claim else ""


def test_a_fenced_server_takes_no_claims_and_an_opened_one_does(
    runs: Runs, brokers: Brokers, fresh: Fresh, connected: Connect
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (_, store):
            claims, fences, name = claims_of(store), Fences(store), SetName(fresh("set"))
            await claims.adopt(name, [])
            epoch = await fences.lead(name, known_epoch=0)
            assert await fences.fence(name, NODE, epoch=epoch) == "fenced"
            assert await fences.fence(name, NODE, epoch=epoch) == "fenced"
            assert await fences.all(name) == {NODE: epoch}
            assert await claimed(claims, name, fresh("r"), NODE) == ""
            assert await claimed(claims, name, fresh("r"), NODE, OTHER) == OTHER
            await fences.lift(name, NODE, epoch=epoch)
            assert await claimed(claims, name, fresh("r"), NODE, OTHER) == NODE

    runs(scenario())


def test_a_claimed_or_occupied_server_is_not_fenced(
    runs: Runs, brokers: Brokers, fresh: Fresh, connected: Connect
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (_, store):
            claims, fences, name = claims_of(store), Fences(store), SetName(fresh("set"))
            await claims.adopt(name, [(RoomId(fresh("r")), OTHER, 1)])
            epoch = await fences.lead(name, known_epoch=0)
            room = fresh("r")
            await claimed(claims, name, room, NODE)
            assert await fences.fence(name, NODE, epoch=epoch) == "used"
            assert await fences.fence(name, OTHER, epoch=epoch) == "used"
            await claims.release(name, RoomId(room))
            assert await fences.fence(name, NODE, epoch=epoch) == "fenced"

    runs(scenario())


def test_a_deposed_leader_can_do_nothing(
    runs: Runs, brokers: Brokers, fresh: Fresh, connected: Connect
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (_, store):
            claims, fences, name = claims_of(store), Fences(store), SetName(fresh("set"))
            await claims.adopt(name, [])
            old = await fences.lead(name, known_epoch=7)
            await fences.fence(name, NODE, epoch=old)
            new = await fences.lead(name, known_epoch=0)
            assert new > old > 7
            with pytest.raises(Deposed):
                await fences.fence(name, OTHER, epoch=old)
            with pytest.raises(Deposed):
                await fences.lift(name, NODE, epoch=old)
            assert await fences.all(name) == {NODE: old}

    runs(scenario())


def test_a_redis_that_forgot_fences_nothing_until_claims_are_back_and_learns_the_epoch(
    runs: Runs, brokers: Brokers, fresh: Fresh, connected: Connect
) -> None:
    async def scenario() -> None:
        async with connected(brokers) as (_, store):
            claims, fences, name = claims_of(store), Fences(store), SetName(fresh("set"))
            with pytest.raises(errors.Unavailable, match="CLAIMS_UNBUILT"):
                await fences.fence(name, NODE, epoch=9)
            await claims.adopt(name, [])
            assert await fences.fence(name, NODE, epoch=9) == "fenced"
            assert await store.get(keys.fleet_epoch(name)) == b"9"
            with pytest.raises(Deposed):
                await fences.fence(name, OTHER, epoch=8)

    runs(scenario())


def test_claims_and_fences_that_race_never_both_win(
    runs: Runs, brokers: Brokers, fresh: Fresh, connected: Connect
) -> None:
    """Forty servers, each asked for by allocators and a leader at the same moment."""

    async def scenario() -> None:
        async with connected(brokers) as (_, store):
            claims, fences, name = claims_of(store), Fences(store), SetName(fresh("set"))
            await claims.adopt(name, [])
            epoch = await fences.lead(name, known_epoch=0)
            places = [f"arena-{n}|x" for n in range(40)]
            rooms = [(fresh("r"), place) for place in places for _ in range(2)]
            calls = [claimed(claims, name, room, place) for room, place in rooms]
            tries = [fences.fence(name, place, epoch=epoch) for place in places]
            both = [*calls, *tries]
            random.Random(1).shuffle(both)
            await asyncio.gather(*both)
            used, fenced = await claims.used(name), await fences.all(name)
            assert set(used) & set(fenced) == set()
            assert set(used) | set(fenced) == set(places)
            assert used
            assert fenced

    runs(scenario())
