"""Queue documents in the `config` bucket: taken live, refused when wrong, kept over restarts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.conftest import Connect, Runs
from tests.support import matchmaking as mm

from rallypoint.cli.brokers import Brokers
from rallypoint.internal.v1.events_pb2 import NodeRecord
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import QueueName
from rallypoint.v1 import matchmaking_pb2 as v1

Fresh = Callable[[str], str]


async def command(brokers: Brokers, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "rallypoint", "config", "--nats", brokers.nats.url, *words]
    return await asyncio.to_thread(
        subprocess.run, line, capture_output=True, text=True, check=False
    )


async def sizes(player: mm.Player) -> dict[str, int]:
    """Most players of a match, by queue."""
    listed = await player.call("ListQueues", v1.ListQueuesRequest())
    return {queue.queue: queue.max_players for queue in listed.queues}


async def until_most(player: mm.Player, queue: str, most: int | None) -> None:
    async def seen() -> bool:
        return (await sizes(player)).get(queue) == most

    await mm.until(seen)


def test_changed_document_counts_without_a_restart(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    queue, file = fresh("queue"), tmp_path / "document.json"

    async def scenario() -> None:
        async with (
            mm.started(brokers, tmp_path, mm.document(queue)) as (one, peer),
            mm.players(one, queue, "ada", "bob", "cyd") as (ada, bob, cyd),
        ):
            document = mm.document(queue, set=queue, team_count=3, options={"rounds": 3})
            file.write_text(json.dumps(document))
            assert (await command(brokers, "diff", str(file))).returncode == 1
            applied = await command(brokers, "apply", str(file))
            assert applied.stdout == f"{queue} is changed\n", applied.stderr
            assert f"the set {queue!r} has no room node now" in applied.stderr
            assert (await command(brokers, "diff", str(file))).returncode == 0
            await until_most(ada, queue, 3)
            for player in (ada, bob):
                await player.create()
            await asyncio.sleep(0.6)
            assert not peer.rooms, "two are no match any more"
            await cyd.create()
            await ada.wait_state(v1.TICKET_STATE_ASSIGNED)
            (request,) = peer.rooms.values()
            assert len(request.players) == 3
            assert json.loads(request.options) == {"rounds": 3}

            # A restart brings back what its files said at first: they are no news.
            one.kill()
            await one.start()
            await until_most(ada, queue, 3)
            shown = json.loads((await command(brokers, "get", queue)).stdout)
            assert shown == [document]

            assert (await command(brokers, "remove", queue)).returncode == 0
            await until_most(ada, queue, None)
            with pytest.raises(errors.NotFound, match="QUEUE_UNKNOWN"):
                await bob.create("r2")

    runs(scenario())


def test_queue_whose_game_nobody_has_is_not_written(
    runs: Runs, brokers: Brokers, connected: Connect, fresh: Fresh, tmp_path: Path
) -> None:
    queue, file = fresh("queue"), tmp_path / "documents.json"
    good = mm.document(fresh("good"), set=queue, game="skirmish")
    file.write_text(json.dumps([good, mm.document(queue, set=queue)]))

    async def scenario() -> None:
        async with connected(brokers) as (bus, _):
            nodes, config = bus.kv(subjects.NODES.name), bus.kv(subjects.CONFIG.name)
            record = NodeRecord(node_id=queue, set=queue, games=["skirmish", "swarm"])
            await nodes.put(queue, record.SerializeToString())
            refused = await command(brokers, "apply", str(file))
            assert (refused.returncode, refused.stdout) == (1, "")
            assert "GAME_UNKNOWN" in refused.stderr
            assert "has the game 'tictactoe', only skirmish, swarm" in refused.stderr
            keys = [subjects.queue(QueueName(name)) for name in (queue, good["queue"])]
            assert [await config.get(key) for key in keys] == [None, None]
            applied = await command(brokers, "apply", "--anyway", str(file))
            assert (applied.returncode, applied.stderr) == (0, "")
            for key in keys:
                await config.purge(key)
            await nodes.purge(queue)

    runs(scenario())


def refusals(service: mm.Process) -> int:
    return service.log.read_text().count("queue_refused")


def test_wrong_document_is_refused_and_the_last_good_one_stays(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    queue, file = fresh("queue"), tmp_path / "document.json"

    async def scenario() -> None:
        async with (
            mm.started(brokers, tmp_path, mm.document(queue)) as (one, _),
            mm.players(one, queue, "ada") as (ada,),
        ):
            file.write_text(json.dumps(mm.document(queue, team_count=1)))
            refused = await command(brokers, "apply", str(file))
            assert (refused.returncode, "team_count" in refused.stderr) == (1, True)
            bus = await Bus.connect(brokers.nats.url, name="documents")
            kv, key = bus.kv(subjects.CONFIG.name), subjects.queue(QueueName(queue))
            # One at a time: of two documents in a row the bucket may tell the newer one only.
            for bad in (json.dumps(mm.document("another")).encode(), b"{"):
                before = refusals(one)
                await kv.put(key, bad)
                async with asyncio.timeout(30):
                    while refusals(one) == before:  # noqa: ASYNC110  # a log
                        await asyncio.sleep(0.05)
            assert (await sizes(ada))[queue] == 2
            shown = await command(brokers, "get", queue)
            assert json.loads(shown.stdout) == [{"unreadable": "{"}], shown.stderr
            file.write_text(json.dumps(mm.document(queue, set=queue, team_count=4)))
            assert (await command(brokers, "apply", str(file))).returncode == 0
            await until_most(ada, queue, 4)
            await bus.close()

    runs(scenario())
