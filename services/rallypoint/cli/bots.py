"""`rallypoint bots`: players without people, over the same client and the same calls as anybody.

Each bot opens a session, queues, plays its match, and queues again, until it has played `--matches`
or somebody presses Ctrl-C; then a line says what happened. Exit code 1 when no match was played and
something went wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import secrets
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from rallypoint.cli import bot_brains
from rallypoint.client import matchmaking, retry, room, seat, session
from rallypoint.kit import errors

NAMES = ("Ada", "Bo", "Cleo", "Dex", "Eve", "Finn", "Gus", "Hana", "Ivo", "Juno", "Kit", "Lux")


@dataclass(frozen=True, slots=True)
class Squad:
    """What was asked for."""

    url: str
    queue: str
    brain: str
    count: int
    matches: int
    """Matches each bot plays; 0: no end."""


@dataclass(slots=True)
class Score:
    """What the bots have done together."""

    matches: int = 0
    wins: int = 0
    rated: int = 0
    inputs_lost: int = 0
    rejoins: int = 0
    wrong: dict[str, int] = field(default_factory=dict)

    def failed(self, error: errors.RallypointError) -> None:
        """Count an error by its reason; the first of each is told at once, for who waits."""
        if error.reason not in self.wrong:
            print(f"rallypoint bots: {error}; trying again", file=sys.stderr, flush=True)
        self.wrong[error.reason] = self.wrong.get(error.reason, 0) + 1

    def played(self, connection: room.RoomConnection, ended: seat.Ended) -> None:
        """Count one bot's match."""
        self.matches += 1
        self.rejoins += connection.joins - 1
        self.inputs_lost += connection.input_errors
        slot = connection.seat.slot
        places = {p.slot: p.rank for p in ended.result.placements}
        self.wins += places.get(slot) == 1
        self.rated += ended.result.rated

    def document(self) -> dict[str, object]:
        """The summary for machines."""
        return {
            "matches": self.matches,
            "wins": self.wins,
            "rated": self.rated,
            "rejoins": self.rejoins,
            "inputs_lost": self.inputs_lost,
            "errors": self.wrong,
        }

    def line(self) -> str:
        """The summary for people."""
        wrong = ", ".join(f"{reason} {n}x" for reason, n in self.wrong.items()) or "none"
        return (
            f"bots: {self.matches} matches played ({self.rated} rated), {self.wins} won, "
            f"{self.rejoins} rejoins, errors: {wrong}"
        )


def run(arguments: list[str]) -> int:
    """Play until done or asked to stop; the result is the exit code."""
    parsed = _parser().parse_args(arguments)
    squad = Squad(
        url=parsed.url,
        queue=parsed.queue or parsed.game,
        brain=parsed.game if parsed.game in bot_brains.BRAINS else "restless",
        count=parsed.count,
        matches=parsed.matches,
    )
    import uvloop  # the other commands need not pay for it

    score = Score()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play(squad, score))
    print(json.dumps(score.document()) if parsed.json else score.line(), flush=True)
    return 1 if score.wrong and not score.matches else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bots", description="Bots that queue and play, and queue again."
    )
    parser.add_argument(
        "--game",
        default="skirmish",
        help="how to play: random inputs but for the examples (%(default)s)",
    )
    parser.add_argument("--queue", default="", help="the queue, if not named like the game")
    parser.add_argument(
        "--count", type=_positive, default=4, metavar="N", help="bots (%(default)s)"
    )
    parser.add_argument("--matches", type=int, default=0, metavar="N", help="matches each (no end)")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="gateway (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


async def play(squad: Squad, score: Score) -> None:
    """Run all bots; returns when all are done, or after SIGINT or SIGTERM."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as tasks:
        bots = [
            tasks.create_task(_bot(squad, score, number=n), name=f"bot-{n}")
            for n in range(squad.count)
        ]
        asked = tasks.create_task(stopping.wait(), name="asked")
        done = tasks.create_task(_wait_all(bots), name="done")
        await asyncio.wait({done, asked}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*bots, done, asked):
            task.cancel()


async def _wait_all(bots: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.wait(bots)


async def _bot(squad: Squad, score: Score, *, number: int) -> None:
    """One bot's life: a session, then match after match; errors are counted and tried again."""
    rng = random.Random(number)
    backoff = retry.Backoff(rng=rng)
    name = f"{NAMES[number % len(NAMES)]}-bot-{number + 1}"
    secret = secrets.token_bytes(32)  # the same player after a broken session
    played = 0
    while not squad.matches or played < squad.matches:
        try:
            async with session.connect(
                squad.url, name=name, game=squad.brain, device_secret=secret
            ) as player:
                while not squad.matches or played < squad.matches:
                    await _match(player, squad, score, rng=rng)
                    played += 1
                    backoff.reset()
        except errors.RallypointError as error:
            score.failed(error)
            await backoff.pause(error.retry_after_s)


async def _match(
    player: session.Session, squad: Squad, score: Score, *, rng: random.Random
) -> None:
    """Queue, play one match to its end, count it; a ticket is given back when cancelled."""
    calls = matchmaking.Matchmaking(player)
    try:
        assignment = await calls.find(squad.queue)
    except asyncio.CancelledError:
        await _withdraw(calls, squad.queue)
        raise
    brain = bot_brains.BRAINS[squad.brain](rng)
    async with room.RoomConnection(
        player, assignment.room_id, assignment.seat_token, on_step=brain.on_step
    ) as connection:
        await connection.wait_joined()
        async with asyncio.TaskGroup() as tasks:
            playing = tasks.create_task(_think(brain, connection), name="brain")
            outcome = await _outcome(connection)
            playing.cancel()
        if isinstance(outcome, errors.RallypointError):
            raise outcome
        if not outcome.result.placements:
            raise errors.Aborted(outcome.reason or "NO_RESULT", "the match ended without a result")
        score.played(connection, outcome)


async def _think(brain: bot_brains.Brain, connection: room.RoomConnection) -> None:
    """Let the brain play; what goes wrong with the connection is the connection's to tell."""
    with contextlib.suppress(errors.RallypointError):
        await brain.play(connection)


async def _outcome(connection: room.RoomConnection) -> seat.Ended | errors.RallypointError:
    """How the match ended, or why it ended for us; the error is no group this way."""
    try:
        return await connection.wait_ended()
    except errors.RallypointError as error:
        return error
    except asyncio.CancelledError:
        await _leave(connection)
        raise


async def _withdraw(calls: matchmaking.Matchmaking, queue: str) -> None:
    """Leave the queue on the way out, if that is quick."""
    try:
        async with asyncio.timeout(1.0):
            await calls.cancel(await calls.get(queue))
    except (errors.RallypointError, TimeoutError):
        pass  # it expires by itself


async def _leave(connection: room.RoomConnection) -> None:
    """Give up the seat on the way out, so that the others need not wait for us."""
    try:
        async with asyncio.timeout(1.0):
            await connection.leave()
    except (errors.RallypointError, TimeoutError):
        pass  # the grace time ends it


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
