"""The Lua transitions against the table of `domain.tickets`, and under races and stale epochs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from tests.integration.conftest import Runs
from tests.support.scores import scores

from rallypoint.cli.brokers import Brokers
from rallypoint.internal.v1 import matchmaking_store_pb2 as pb
from rallypoint.kit import keys, names
from rallypoint.kit.store import Store
from rallypoint.matchmaking.domain import tickets
from rallypoint.matchmaking.domain.ratings import Skill
from rallypoint.matchmaking.domain.tickets import Event, State
from rallypoint.matchmaking.rating_store import RatingStore
from rallypoint.matchmaking.ticket_store import Fenced, TicketStore

Fresh = Callable[[str], str]
EPOCH, OLD = 5, 4
LATER_MS = 10_000_000


def record(ticket_id: str, player: str) -> pb.TicketRecord:
    return pb.TicketRecord(
        ticket_id=ticket_id, player_id=player, search_start_ms=1_000, expire_ms=2_000
    )


def match_of(*ticket_ids: str, name: str = "m1") -> pb.MatchRecord:
    return pb.MatchRecord(
        match_id=name, ticket_ids=ticket_ids, search_starts_ms=[1_000] * len(ticket_ids)
    )


async def opened(
    brokers: Brokers, queue: str, *, unattended_s: float = 0.0
) -> tuple[Store, TicketStore]:
    store = await Store.connect(brokers.redis.url)
    held = TicketStore(store, queue, retention_s=60, unattended_s=unattended_s)
    await held.raise_epoch(EPOCH)
    return store, held


async def state_of(held: TicketStore, ticket_id: str) -> State | None:
    standing = await held.read(ticket_id)
    return standing.row.state if standing else None


TO: dict[State, list[Event]] = {
    State.QUEUED: [],
    State.PROPOSED: [Event.COMMIT],
    State.ASSIGNED: [Event.COMMIT, Event.ASSIGN],
    State.CANCELLED: [Event.CANCEL],
    State.EXPIRED: [Event.EXPIRE],
}


async def happen(held: TicketStore, event: Event, *, epoch: int = EPOCH) -> None:
    steps: dict[Event, Callable[[], Awaitable[object]]] = {
        Event.COMMIT: lambda: held.commit(epoch, [match_of("t1")]),
        Event.ASSIGN: lambda: held.assign(epoch, match_of("t1"), now_ms=3_000),
        Event.REQUEUE: lambda: held.requeue(epoch, match_of("t1"), "WHY", now_ms=1_500),
        Event.CANCEL: lambda: held.cancel("t1", "p1", now_ms=3_000),
        Event.EXPIRE: lambda: held.expire(epoch, now_ms=3_000, limit=10),
    }
    await steps[event]()


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("state", list(State))
def test_redis_follows_the_table(
    state: State, event: Event, brokers: Brokers, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        store, held = await opened(brokers, fresh("queue"))
        await held.create(record("t1", "p1"))
        for earlier in TO[state]:
            await happen(held, earlier)
        before = await held.read("t1")
        await happen(held, event)
        after = await held.read("t1")
        assert before is not None
        assert after is not None
        expected = tickets.TRANSITIONS.get((state, event))
        assert after.row.state is (expected or state)
        assert after.row.seq == before.row.seq + (1 if expected else 0)
        await store.close()

    runs(scenario())


def test_a_match_is_committed_whole_or_not_at_all(
    brokers: Brokers, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        store, held = await opened(brokers, fresh("queue"))
        for number in (1, 2, 3):
            await held.create(record(f"t{number}", f"p{number}"))
        await held.cancel("t2", "p2", now_ms=3_000)
        ((outcome, rows),) = await held.commit(EPOCH, [match_of("t1", "t2", "gone")])
        assert outcome == "CONFLICT"
        assert [ticket_id for ticket_id, _ in rows] == ["t2", "gone"]
        assert await state_of(held, "t1") is State.QUEUED
        assert await held.unassigned() == []
        results = await held.commit(EPOCH, [match_of("t1", "t3"), match_of("t3", name="m2")])
        assert [outcome for outcome, _ in results] == ["COMMITTED", "CONFLICT"]
        await store.close()

    runs(scenario())


def test_a_stale_leader_changes_nothing(brokers: Brokers, fresh: Fresh, runs: Runs) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        store, held = await opened(brokers, queue)
        await held.create(record("t1", "p1"))
        for event in (Event.COMMIT, Event.EXPIRE):
            with pytest.raises(Fenced):
                await happen(held, event, epoch=OLD)
        await happen(held, Event.COMMIT)
        for event in (Event.ASSIGN, Event.REQUEUE):
            with pytest.raises(Fenced):
                await happen(held, event, epoch=OLD)
        assert await state_of(held, "t1") is State.PROPOSED
        ratings = RatingStore(store, queue)
        with pytest.raises(Fenced):
            await ratings.apply(OLD, "m1", {"p1": Skill(mu=30.0)}, seq=7, now_s=1.0)
        assert (await ratings.read("p1"), await ratings.position()) == (Skill(), 0)
        assert await held.raise_epoch(OLD) == EPOCH
        await store.close()

    runs(scenario())


def test_requeued_tickets_keep_their_place(brokers: Brokers, fresh: Fresh, runs: Runs) -> None:
    async def scenario() -> None:
        store, held = await opened(brokers, fresh("queue"))
        await held.create(record("t1", "p1"))
        newer = record("t2", "p2")
        newer.search_start_ms = 1_500
        await held.create(newer)
        await happen(held, Event.COMMIT)
        assert await held.place("t2") == (1, 1)
        await happen(held, Event.REQUEUE)
        assert await held.place("t1") == (1, 2)
        standing = await held.read("t1")
        assert standing is not None
        assert (standing.row.reason, standing.row.requeues, standing.match) == ("WHY", 1, None)
        await store.close()

    runs(scenario())


async def ends_ms(store: Store, queue: str) -> int | None:
    ends = await scores(store, keys.mm_expiry(names.QueueName(queue)))
    return round(ends[b"t1"]) if b"t1" in ends else None


@pytest.mark.parametrize(
    ("now_ms", "ends"),
    [(1_200, 1_700), (1_100, 1_600), (1_900, 2_000), (900, 1_500), (9_000, 2_000)],
    ids=["later", "a bit later", "not past its time", "not earlier", "time is over"],
)
def test_attention_puts_a_queued_ticket_s_end_off(
    now_ms: int, ends: int, brokers: Brokers, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        store, held = await opened(brokers, queue, unattended_s=0.5)
        await held.create(record("t1", "p1"))
        assert await ends_ms(store, queue) == 1_500
        await held.attend({"t1": 2_000, "gone": 2_000}, now_ms=now_ms)
        assert await ends_ms(store, queue) == ends
        assert await held.read("gone") is None
        await store.close()

    runs(scenario())


def test_only_queued_tickets_are_attended_to(brokers: Brokers, fresh: Fresh, runs: Runs) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        store, held = await opened(brokers, queue, unattended_s=0.5)
        await held.create(record("t1", "p1"))
        await happen(held, Event.COMMIT)
        await held.attend({"t1": 2_000}, now_ms=1_400)
        assert await ends_ms(store, queue) == 1_500
        await held.requeue(EPOCH, match_of("t1"), "WHY", now_ms=1_300)
        assert await ends_ms(store, queue) == 1_800
        await happen(held, Event.CANCEL)
        await held.attend({"t1": 100_000_000}, now_ms=100_000_000)
        assert await ends_ms(store, queue) == 3_000 + 60_000
        await store.close()

    runs(scenario())


def test_cancel_and_commit_never_both_win(brokers: Brokers, fresh: Fresh, runs: Runs) -> None:
    async def scenario() -> None:
        store, held = await opened(brokers, fresh("queue"))
        dice, outcomes = random.Random(11), set()
        for turn in range(200):
            mine, theirs = f"a{turn}", f"b{turn}"
            await asyncio.gather(
                held.create(record(mine, f"pa{turn}")), held.create(record(theirs, f"pb{turn}"))
            )
            racers = [
                held.cancel(mine, f"pa{turn}", now_ms=3_000),
                held.commit(EPOCH, [match_of(mine, theirs, name=f"m{turn}")]),
            ]
            dice.shuffle(racers)
            await asyncio.gather(*racers)  # type: ignore[arg-type]
            pair = (await state_of(held, mine), await state_of(held, theirs))
            assert pair in {
                (State.CANCELLED, State.QUEUED),
                (State.PROPOSED, State.PROPOSED),
            }
            outcomes.add(pair)
        assert len(outcomes) == 2
        await store.close()

    runs(scenario())


def test_ended_tickets_are_forgotten_with_their_match(
    brokers: Brokers, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        store, held = await opened(brokers, fresh("queue"))
        await held.create(record("t1", "p1"))
        await happen(held, Event.COMMIT)
        await happen(held, Event.ASSIGN)
        assert await held.of_player("p1") == "t1"
        await held.expire(EPOCH, now_ms=LATER_MS, limit=10)
        assert await held.read("t1") is None
        assert await held.of_player("p1") is None
        assert await held.read_match("m1") is None
        await store.close()

    runs(scenario())


def test_ratings_position_and_mark_are_one_write(
    brokers: Brokers, fresh: Fresh, runs: Runs
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        store, _ = await opened(brokers, queue)
        ratings = RatingStore(store, queue)
        won = Skill(mu=27.5, sigma=8.0, matches=1, last_match_id="m1", last_change=100)
        assert await ratings.apply(EPOCH, "m1", {"p1": won}, seq=7, now_s=1.0)
        assert not await ratings.apply(EPOCH, "m1", {"p1": Skill(mu=40.0)}, seq=8, now_s=1.0)
        assert (await ratings.read("p1"), await ratings.position()) == (won, 8)
        await store.close()

    runs(scenario())
