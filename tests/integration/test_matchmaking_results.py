"""Results into ratings: once each, whatever is delivered twice, late or broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.integration.conftest import Connect, Runs
from tests.support import matchmaking as mm

from rallypoint.cli.brokers import Brokers
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import QueueName
from rallypoint.v1 import matchmaking_pb2 as v1
from rallypoint.v1 import room_pb2

Fresh = Callable[[str], str]


def result(
    match_id: str, *ranks: tuple[str, int], epoch: int = 1, rated: bool = True
) -> events_pb2.ResultFact:
    placements = [
        room_pb2.Placement(slot=slot, player_id=player, rank=rank, team=slot)
        for slot, (player, rank) in enumerate(ranks)
    ]
    outcome = room_pb2.MatchResult(match_id=match_id, placements=placements, rated=rated)
    return events_pb2.ResultFact(result=outcome, epoch=epoch)


async def publish(bus: Bus, queue: str, data: bytes, msg_id: str) -> None:
    await bus.publish_fact(subjects.result(QueueName(queue)), data, msg_id=f"{queue}.{msg_id}")


def test_a_result_counts_once(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            connected(brokers) as (bus, _),
            mm.started(brokers, tmp_path, mm.document(queue)) as (process, _peer),
            mm.players(process, queue, "ann", "bob") as (ann, bob),
        ):
            won = result("m1", ("ann", 1), ("bob", 2)).SerializeToString()
            reverse = result("m1", ("bob", 1), ("ann", 2), epoch=2).SerializeToString()
            await publish(bus, queue, won, "first")
            await publish(bus, queue, won, "again")
            await publish(bus, queue, reverse, "reverse")
            await publish(bus, queue, b"\xff\xff broken", "broken")
            unrated = result("m2", ("ann", 1), ("bob", 2), rated=False)
            await publish(bus, queue, unrated.SerializeToString(), "unrated")
            process.kill()
            await process.start()
            await publish(bus, queue, won, "after the restart")
            last = result("m3", ("ann", 2), ("bob", 1))
            await publish(bus, queue, last.SerializeToString(), "last")

            async def handled() -> bool:
                return (await bob.rating()).last_match_id == "m3"

            await mm.until(handled)
            mine, theirs = await ann.rating(), await bob.rating()
            assert (mine.matches, theirs.matches) == (2, 2)
            assert mine.last_match_id == "m3"
            assert mine.last_change < 0 < theirs.last_change

    runs(scenario())


def test_a_result_of_an_older_room_is_refused(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        async with (
            connected(brokers) as (bus, _),
            mm.started(brokers, tmp_path, mm.document(queue)) as (process, peer),
            mm.players(process, queue, "ann", "bob") as (ann, bob),
        ):
            peer.epoch = 3
            await ann.create()
            await bob.create()
            room = (await ann.wait_state(v1.TICKET_STATE_ASSIGNED)).assignment.room_id
            zombie = result(room, ("ann", 1), ("bob", 2), epoch=2)
            owner = result(room, ("ann", 2), ("bob", 1), epoch=3)
            await publish(bus, queue, zombie.SerializeToString(), "zombie")
            await publish(bus, queue, owner.SerializeToString(), "owner")

            async def handled() -> bool:
                return (await bob.rating()).matches == 1

            await mm.until(handled)
            assert (await bob.rating()).last_change > 0 > (await ann.rating()).last_change
            assert (await bob.rating()).display > 1500

    runs(scenario())


def test_ratings_decide_who_meets(
    brokers: Brokers, tmp_path: Path, fresh: Fresh, runs: Runs, connected: Connect
) -> None:
    async def scenario() -> None:
        queue = fresh("queue")
        document = mm.document(queue, tolerance=[[0, 50], [60, 100]])
        async with (
            connected(brokers) as (bus, _),
            mm.started(brokers, tmp_path, document) as (process, _peer),
            mm.players(process, queue, "strong", "weak", "new", "newer") as people,
        ):
            strong, weak, new, newer = people
            won = result("m1", ("strong", 1), ("weak", 2))
            await publish(bus, queue, won.SerializeToString(), "m1")

            async def rated() -> bool:
                return (await strong.rating()).matches == 1

            await mm.until(rated)
            for one in (strong, weak, new, newer):
                await one.create()
            met = (await new.wait_state(v1.TICKET_STATE_ASSIGNED)).assignment.players
            assert {player.player_id for player in met} == {"new", "newer"}
            assert (await strong.get()).state == v1.TICKET_STATE_QUEUED

    runs(scenario())
