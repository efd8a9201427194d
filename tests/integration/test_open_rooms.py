"""Rooms that players make, through gateway, fleet and a room node: codes, seats, the list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.integration.fleet_stack import until
from tests.integration.open_stack import create, enter, listed, open_stack

from rallypoint.cli.brokers import Brokers
from rallypoint.client import Rooms, connect
from rallypoint.kit import errors, subjects
from rallypoint.kit.names import RoomId
from rallypoint.v1 import room_pb2

Fresh = Callable[[str], str]
LISTED = room_pb2.ROOM_VISIBILITY_LISTED


def test_room_is_made_once_and_entered_by_its_code(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path) as stack:
            ada, bob = await stack.player(fresh("ada")), await stack.player(fresh("bob"))
            made = await create(ada, "first", options=b'{"time_limit_s": 30}')
            again = await create(ada, "first")
            assert (again.room_id, again.code) == (made.room_id, made.code)
            watched = await ada.join(made.room_id, made.seat_token, again.seat_token)
            one, two = await asyncio.gather(*(enter(bob, made.code.lower()) for _ in range(2)))
            assert one.room_id == two.room_id == made.room_id
            assert one.game == "skirmish"
            seen = await bob.join(made.room_id, one.seat_token)
            assert (watched.welcome.slot, seen.welcome.slot) == (0, 1)
            assert [seat.display_name for seat in seen.welcome.seats] == ["Ada", "Ada"]
            await until(_async(lambda: "SEAT " in watched.controls()))
            await until(_async(lambda: len(seen.frames()) > 2))
            watched.close()
            seen.close()

    runs(scenario())


def test_seats_are_never_overbooked(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path) as stack:
            made = await create(await stack.player(fresh("ada")), "one", max_players=4)
            crowd = [await stack.player(fresh(f"p{number}")) for number in range(12)]
            answers = await asyncio.gather(
                *(enter(player, made.code) for player in crowd for _ in range(2)),
                return_exceptions=True,
            )
            refused = {e.reason for e in answers if isinstance(e, errors.ResourceExhausted)}
            assert refused == {"ROOM_FULL"}
            assert sum(not isinstance(answer, BaseException) for answer in answers) == 3 * 2

    runs(scenario())


def test_code_ends_with_its_room(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path) as stack:
            ada, bob = await stack.player(fresh("ada")), await stack.player(fresh("bob"))
            made = await create(ada, "one", visibility=LISTED)
            await until(_async(lambda: listed(bob)))
            await stack.fleet.release(made.room_id)
            with pytest.raises(errors.NotFound, match="CODE_UNKNOWN"):
                await enter(bob, made.code)
            kv = stack.fleet.bus.kv(subjects.OWNERS.name)
            for key in (subjects.code(made.code), subjects.info(RoomId(made.room_id))):
                await until(lambda key=key: _absent(kv, key))
            await until(_async(lambda: _none(listed(bob))))

    runs(scenario())


def test_left_over_codes_are_swept(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path) as stack:
            made = await create(await stack.player(fresh("ada")), "one")
            kv = stack.fleet.bus.kv(subjects.OWNERS.name)
            await kv.put(subjects.code("STRAY2"), b"\n\x01x")
            await until(lambda: _absent(kv, subjects.code("STRAY2")))
            assert (await enter(await stack.player(fresh("bob")), made.code)).room_id

    runs(scenario())


def test_list_shows_listed_rooms_as_they_are(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path) as stack:
            ada, bob = await stack.player(fresh("ada")), await stack.player(fresh("bob"))
            tag = {"tag": fresh("tag")}
            hidden = await create(ada, "hidden", metadata=tag)
            made = await create(ada, "shown", visibility=LISTED, metadata=tag, max_players=2)
            await until(_async(lambda: listed(bob, metadata=tag)))
            (shown,) = await listed(bob, metadata=tag)
            assert (shown.room_id, shown.code) == (made.room_id, made.code)
            assert (shown.players, shown.max_players) == (1, 2)
            await enter(bob, shown.code)
            await until(_async(lambda: _none(listed(bob, metadata=tag, has_free_seats=True))))
            assert [room.players for room in await listed(bob, metadata=tag)] == [2]
            assert hidden.room_id not in {room.room_id for room in await listed(bob)}

    runs(scenario())


def test_client_joins_an_open_room_or_makes_one(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path) as stack:
            tag = {"tag": fresh("tag")}
            found = []
            for name in ("ada", "bob", "cleo"):
                async with connect(stack.gateway.url, name=name, game="tictactoe") as session:
                    rooms = Rooms(session)
                    found.append(await rooms.join_or_create("tictactoe", metadata=tag))
                    players = 1 + (len(found) - 1) % 2
                    await until(lambda rooms=rooms, n=players: _newest(rooms, tag, n))
            (first, _), (second, _), (third, _) = found
            assert first == second != third

    runs(scenario())


async def _newest(rooms: Rooms, tag: dict[str, str], players: int) -> bool:
    """Whether the list has come to know the newest room as it is."""
    async for room in rooms.list(metadata=tag):
        return room.players == players
    return False


def test_guessing_codes_is_limited(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path, wrong_codes_per_min=3) as stack:
            ada, eve = await stack.player(fresh("ada")), await stack.player(fresh("eve"))
            made = await create(ada, "one")
            for _ in range(4):
                with pytest.raises(errors.NotFound, match="CODE_UNKNOWN"):
                    await enter(eve, "AAAAAA")
            with pytest.raises(errors.ResourceExhausted, match="CODE_RATE") as refused:
                await enter(eve, made.code)
            assert refused.value.retry_after_s
            assert (await enter(ada, made.code)).room_id == made.room_id

    runs(scenario())


def test_making_rooms_is_limited(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path, rooms_per_player_burst=2) as stack:
            ada = await stack.player(fresh("ada"))
            for number in range(2):
                await create(ada, f"room-{number}")
            with pytest.raises(errors.ResourceExhausted, match="ROOM_RATE") as refused:
                await create(ada, "room-2")
            assert refused.value.retry_after_s

    runs(scenario())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"request_id": "No Id"}, "NAME_INVALID"),
        ({"options": b"[]"}, "OPTIONS_INVALID"),
        ({"options": b'{"time_limit_s": -1}'}, "OPTIONS_INVALID"),
        ({"max_players": 99}, "PLAYERS_INVALID"),
        ({"metadata": {"No": "x"}}, "METADATA_INVALID"),
        ({"game": "chess"}, "FLEET_FULL"),
    ],
)
def test_senseless_wishes_are_refused(
    runs: Runs,
    brokers: Brokers,
    fresh: Fresh,
    tmp_path: Path,
    fields: dict[str, object],
    reason: str,
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path) as stack:
            ada = await stack.player(fresh("ada"))
            with pytest.raises(errors.ClientFault, match=reason):
                await create(ada, **{"request_id": "one", **fields})  # type: ignore[arg-type]

    runs(scenario())


def _async(condition: Callable[[], object]) -> object:
    async def true() -> object:
        found = condition()
        return await found if asyncio.iscoroutine(found) else found

    return true


async def _none(rooms: object) -> bool:
    return not await rooms  # type: ignore[misc]


async def _absent(kv: object, key: str) -> bool:
    return await kv.get(key) is None  # type: ignore[attr-defined]
