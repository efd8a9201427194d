"""Many claims at once on a real Redis, by several allocators: full servers first, none too many."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest
from tests.integration.conftest import Connect, Runs
from tests.support.scores import scores

from rallypoint.cli.brokers import Brokers
from rallypoint.fleet.claiming import Claiming, Kind
from rallypoint.fleet.claims import Binding, Claims, Confirmation, Taken, Wish
from rallypoint.fleet.domain.claims import Claim
from rallypoint.fleet.domain.nodes import Node, Registry, Selector
from rallypoint.fleet.fences import Fences
from rallypoint.fleet.operator.slots import Slots
from rallypoint.kit import keys
from rallypoint.kit.clock import SystemClock
from rallypoint.kit.names import RoomId, SetName
from rallypoint.kit.store import Store

ALLOCATORS = 3
ROOMS_EACH = 4


@dataclass(frozen=True)
class Stage:
    """Three allocators that know the same servers."""

    store: Store
    claims: Claims
    name: SetName
    nodes: Sequence[Node]
    allocators: Sequence[Claiming]

    def kind(self, **fields: object) -> Kind:
        return Kind(self.name, "skirmish", **fields)  # type: ignore[arg-type]  # by the test

    async def take(self, room: str, *, by: int = 0, **fields: object) -> Taken:
        return await self.allocators[by % ALLOCATORS].take(
            self.kind(**fields), Wish(RoomId(room), 1)
        )

    async def used(self) -> dict[str, int]:
        return {
            place.partition("|")[0]: n for place, n in (await self.claims.used(self.name)).items()
        }


Play = Callable[[Callable[[Stage], Awaitable[None]]], None]


@pytest.fixture
def play(runs: Runs, brokers: Brokers, connected: Connect, fresh: Callable[[str], str]) -> Play:
    """Run a scenario with forty servers of four rooms each, every tenth in Berlin."""

    def run(scenario: Callable[[Stage], Awaitable[None]]) -> None:
        async def staged() -> None:
            async with connected(brokers) as (_, store), asyncio.TaskGroup() as tasks:
                name, clock = SetName(fresh("set")), SystemClock()
                claims = Claims(store, clock, ttl_s=30, closing_s=5, moving_s=5)
                registry = Registry()
                nodes = [_node(name, number) for number in range(40)]
                for node in nodes:
                    registry.registered(node, clock.monotonic())

                def later(coroutine: object, name: str) -> None:
                    tasks.create_task(coroutine, name=name)  # type: ignore[arg-type]

                allocators = [
                    Claiming(claims, registry, clock, later=later) for _ in range(ALLOCATORS)
                ]
                await claims.adopt(name, [])
                await scenario(Stage(store, claims, name, nodes, allocators))

        runs(staged())

    return run


def _node(name: str, number: int) -> Node:
    place = {("region", "berlin" if number % 10 == 9 else "paris")}
    return Node(
        f"{name}-{number:02}", "a", "127.0.0.1:1", name, frozenset(), ROOMS_EACH,
        labels=frozenset(place),
    )  # fmt: skip


def test_claims_at_once_fill_server_after_server_and_none_beyond(play: Play) -> None:
    async def scenario(stage: Stage) -> None:
        rooms = [f"room-{number}" for number in range(90)]
        taken = await asyncio.gather(
            *(stage.take(room, by=by) for by, room in enumerate(rooms)),
            *(stage.take(room, by=by + 1) for by, room in enumerate(rooms)),
        )
        places = {(one.claim.place, one.claim.epoch) for one in taken if one.claim}
        assert len(places) == 23
        assert sum(one.is_new for one in taken) == 90
        assert collections.Counter((await stage.used()).values()) == {4: 22, 2: 1}
        for first, again in zip(taken[:90], taken[90:], strict=True):
            assert first.claim == again.claim

    play(scenario)


def test_a_full_set_says_so_and_no_sooner(play: Play) -> None:
    async def scenario(stage: Stage) -> None:
        wanted = len(stage.nodes) * ROOMS_EACH
        taken = await asyncio.gather(*(stage.take(f"r-{n}", by=n) for n in range(wanted + 7)))
        assert sum(one.claim is not None for one in taken) == wanted
        lost = next(n for n, one in enumerate(taken) if one.claim is not None)
        await stage.claims.release(stage.name, RoomId(f"r-{lost}"))
        assert (await stage.take("late")).is_new

    play(scenario)


def test_selectors_are_tried_in_order_and_spread_takes_the_emptiest(play: Play) -> None:
    async def scenario(stage: Stage) -> None:
        berlin = Selector(frozenset({("region", "berlin")}))
        anywhere = Selector(frozenset())
        first = [await stage.take(f"b-{n}", selectors=(berlin, anywhere)) for n in range(17)]
        nodes = [one.claim.node_id[-2:] for one in first if one.claim]
        assert nodes == [n for n in ("09", "19", "29", "39") for _ in range(4)] + ["00"]
        only = await stage.take("b-x", selectors=(berlin,))
        assert only.claim is None
        spread = [await stage.take(f"s-{n}", spread=True) for n in range(3)]
        assert len({one.claim.place for one in spread if one.claim}) == 3

    play(scenario)


def test_fenced_servers_get_nothing_and_those_to_fill_last_come_last(play: Play) -> None:
    async def scenario(stage: Stage) -> None:
        fences = Fences(stage.store)
        epoch = await fences.lead(stage.name, known_epoch=0)
        places = [node.place for node in stage.nodes]
        for place in places[:38]:
            await fences.fence(stage.name, place, epoch=epoch)
        await fences.fill_last(stage.name, [places[38]])
        taken = [await stage.take(f"r-{n}", by=n) for n in range(9)]
        found = [one.claim.place if one.claim else "" for one in taken]
        assert found == [places[39]] * 4 + [places[38]] * 4 + [""]

    play(scenario)


def test_bindings_keep_the_highest_epoch_and_stale_confirmations_fail(play: Play) -> None:
    async def scenario(stage: Stage) -> None:
        room = RoomId(f"{stage.name}-r")
        bindings = [Binding(room, stage.name, epoch) for epoch in (0, 3, 2)]
        assert [one.epoch for one in await stage.claims.bind_many(bindings)] == [0, 3, 3]
        taken = [(await stage.take(f"r-{n}")).claim for n in range(2)]
        assert taken[0] is not None
        assert taken[1] is not None
        wrong = Claim("C", "other", "a", 1)
        made = [
            Confirmation(stage.name, RoomId("r-0"), taken[0]),
            Confirmation(stage.name, RoomId("r-1"), wrong),
        ]
        assert await stage.claims.confirm_many(made) == [True, False]

    play(scenario)


def test_the_next_epoch_is_given_once_and_never_for_another_set(play: Play) -> None:
    async def scenario(stage: Stage) -> None:
        room, other = RoomId(f"{stage.name}-r"), SetName(f"{stage.name}-o")
        asked = [
            Binding(room, stage.name, next_too=True), Binding(room, stage.name, next_too=True),
            Binding(room, other, next_too=True), Binding(room, stage.name),
        ]  # fmt: skip
        bound = await stage.claims.bind_many(asked)
        assert [one.epoch for one in bound] == [1, 2, 2, 2]
        assert {one.set_name for one in bound} == {stage.name}

    play(scenario)


def test_a_set_has_its_own_time_for_claims_and_knows_who_was_refused(play: Play) -> None:
    async def scenario(stage: Stage) -> None:
        clock = SystemClock()
        slots = Slots(stage.store, clock)
        assert (await slots.look(stage.name)).claim_ttl_s is None
        await slots.tell_claim_ttl(stage.name, 2)
        await stage.take("r-0")
        place = [(stage.nodes[0].place, ROOMS_EACH)]
        await stage.claims.take(stage.name, RoomId("r-1"), epoch=1, candidates=place)
        waiting = await stage.claims.pending(stage.name, older_than_s=0)
        assert {one.room_id for one in waiting} == {"r-0", "r-1"}
        assert all(one.ends_s <= clock.now() + 2 for one in waiting)
        await stage.claims.note_unmet([Binding(RoomId("r-2"), stage.name)])
        look = await slots.look(stage.name)
        assert (look.claim_ttl_s, look.unmet, sum(look.used.values())) == (2, 1, 2)
        place = [(stage.nodes[1].place, ROOMS_EACH)]
        await stage.claims.take(stage.name, RoomId("r-2"), epoch=1, candidates=place)
        assert (await slots.look(stage.name)).unmet == 0

    play(scenario)


def test_no_set_gives_its_claims_less_time_than_a_room_takes(play: Play) -> None:
    async def scenario(stage: Stage) -> None:
        clock = SystemClock()
        claims = Claims(stage.store, clock, ttl_s=30, closing_s=5, moving_s=5, least_ttl_s=6)
        await Slots(stage.store, clock).tell_claim_ttl(stage.name, 1)
        place = [(stage.nodes[0].place, ROOMS_EACH)]
        before = clock.now()
        await claims.take(stage.name, RoomId("r-0"), epoch=1, candidates=place)
        await claims.take_many(stage.name, [Wish(RoomId("r-1"), 1)], candidates=place)
        waiting = await claims.pending(stage.name, older_than_s=0)
        assert {one.room_id for one in waiting} == {"r-0", "r-1"}
        assert all(before + 5.9 <= one.ends_s <= clock.now() + 6 for one in waiting)

    play(scenario)


def test_who_asks_for_a_room_that_moves_does_not_put_the_move_off(play: Play) -> None:
    async def scenario(stage: Stage) -> None:
        expiry, room = keys.fleet_expiry(stage.name), RoomId("r-0")
        place = [(stage.nodes[0].place, ROOMS_EACH)]
        await stage.claims.take(stage.name, room, epoch=1, candidates=place, moving=True)
        before = await scores(stage.store, expiry)
        for taken in (
            await stage.take(room),
            await stage.claims.take(stage.name, room, epoch=1, candidates=place),
        ):
            assert taken.claim
            assert (taken.claim.state, taken.is_new) == ("M", False)
        assert await scores(stage.store, expiry) == before

    play(scenario)
