"""`rallypoint bots`: players without people, over the same client and the same calls as anybody.

Each bot opens a session, queues, plays its match, and queues again, until it has played `--matches`
or somebody presses Ctrl-C; then a line says what happened. With `--matches`, bots may be left over
that are too few for another match: they leave the queue and the line says so, unless the bots were
too few from the start, when they are there to play with people. Exit code 1 when no match was
played and something went wrong.

Errors are tried again for ever once there was a match to play. Before that bots end when trying
again is of no use: the address is none, something else listens there or nothing does for a while,
or nobody has such a queue.
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

from rallypoint.cli import bot_brains, numbers
from rallypoint.client import channel, matchmaking, retry, room, seat, session
from rallypoint.kit import errors
from rallypoint.v1 import matchmaking_pb2 as mm

REACH_S = 10.0
"""For so long a gateway that nobody has reached may be about to start."""
USELESS = (errors.InvalidArgument, errors.Unimplemented)
"""What does not get better by itself: a wrong address, or what listens there is no gateway."""
USELESS_REASONS = ("QUEUE_UNKNOWN", "CLIENT_OUTDATED")
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
    left_over: int = 0
    """Bots that stopped early, as too few others were left to play with."""
    wrong: dict[str, int] = field(default_factory=dict)
    hopeless: bool = False
    """Bots ended as trying again was of no use."""

    def failed(self, error: errors.RallypointError) -> None:
        """Count an error by its reason; the first of each is told at once, for who waits."""
        if error.reason not in self.wrong:
            print(f"rallypoint bots: {error}; trying again", file=sys.stderr, flush=True)
        self.wrong[error.reason] = self.wrong.get(error.reason, 0) + 1

    def ended(self, error: errors.RallypointError, url: str) -> None:
        """Count the error that a bot ends with, and tell it once."""
        if not self.hopeless:
            self.hopeless = True
            print(f"rallypoint bots: no match at {url}: {error}", file=sys.stderr, flush=True)
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
            "left_over": self.left_over,
            "errors": self.wrong,
        }

    def line(self) -> str:
        """The summary for people."""
        wrong = ", ".join(f"{reason} {n}x" for reason, n in self.wrong.items()) or "none"
        return (
            f"bots: {self.matches} matches played ({self.rated} rated), {self.wins} won, "
            f"{self.rejoins} rejoins, errors: {wrong}{self._left_over()}"
        )

    def _left_over(self) -> str:
        if not self.left_over:
            return ""
        bots = "1 bot" if self.left_over == 1 else f"{self.left_over} bots"
        return f"; {bots} stopped early, too few were left for another match"


@dataclass(slots=True)
class Company:
    """Whether the bots that still have to play are enough for a match."""

    count: int
    """Bots at the start."""
    left: int
    """Bots that have not played all their matches."""
    least: int = 0
    """Players a match of the queue needs; 0 while unknown."""
    too_few: asyncio.Event = field(default_factory=asyncio.Event)
    reached: bool = False
    """One of them had a session."""
    begun: bool = False
    """One of them had a match to play."""

    def needs(self, least: int) -> None:
        """Note how many players a match needs."""
        self.least = least
        self._look()

    def done(self) -> None:
        """Note that a bot has played all its matches."""
        self.left -= 1
        self._look()

    def is_useless(self, error: errors.RallypointError, tried_s: float) -> bool:
        """Whether there is no use in trying again, after so long."""
        if self.begun:
            return False
        if isinstance(error, USELESS) or error.reason in USELESS_REASONS:
            return True
        return not self.reached and tried_s >= REACH_S

    def _look(self) -> None:
        if self.left < self.least <= self.count:
            self.too_few.set()


def run(arguments: list[str]) -> int:
    """Play until done or asked to stop; the result is the exit code."""
    parsed = _parser().parse_args(arguments)
    squad = Squad(
        url=channel.address(parsed.url, parsed.transport),
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
    some, any_number = numbers.whole(1), numbers.whole(0)
    parser.add_argument("--count", type=some, default=4, metavar="N", help="bots (%(default)s)")
    parser.add_argument(
        "--matches", type=any_number, default=0, metavar="N", help="matches each (no end)"
    )
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="gateway (%(default)s)")
    parser.add_argument(
        "--transport",
        choices=channel.SCHEMES,
        default="grpc-web",
        help="how to speak to the gateway (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


async def play(squad: Squad, score: Score) -> None:
    """Run all bots; returns when all are done, or after SIGINT or SIGTERM."""
    stopping, company = asyncio.Event(), Company(squad.count, squad.count)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as tasks:
        bots = [
            tasks.create_task(_bot(squad, score, company, number=n), name=f"bot-{n}")
            for n in range(squad.count)
        ]
        asked = tasks.create_task(stopping.wait(), name="asked")
        done = tasks.create_task(_wait_all(bots), name="done")
        await asyncio.wait({done, asked}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*bots, done, asked):
            task.cancel()


async def _wait_all(bots: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.wait(bots)


async def _bot(squad: Squad, score: Score, company: Company, *, number: int) -> None:
    """One bot's life: a session, then match after match; errors are counted and tried again."""
    rng = random.Random(number)
    backoff = retry.Backoff(rng=rng)
    name = f"{NAMES[number % len(NAMES)]}-bot-{number + 1}"
    secret = secrets.token_bytes(32)  # the same player after a broken session
    played = 0
    clock = asyncio.get_running_loop().time
    began_s = clock()
    while not squad.matches or played < squad.matches:
        try:
            async with session.connect(
                squad.url, name=name, game=squad.brain, device_secret=secret
            ) as player:
                company.reached = True
                calls = matchmaking.Matchmaking(player)
                company.needs(await _least(calls, squad.queue))
                while not squad.matches or played < squad.matches:
                    assignment = await _assignment(calls, squad.queue, company)
                    if assignment is None:
                        score.left_over += 1
                        return
                    company.begun = True
                    await _match(player, assignment, squad, score=score, rng=rng)
                    played += 1
                    backoff.reset()
        except errors.RallypointError as error:
            if company.is_useless(error, clock() - began_s):
                score.ended(error, squad.url)
                break
            score.failed(error)
            await backoff.pause(error.retry_after_s)
    company.done()


async def _least(calls: matchmaking.Matchmaking, queue: str) -> int:
    """Players a match of the queue needs; 0 if there is no such queue, which CreateTicket tells."""
    return next((q.min_players for q in await calls.queues() if q.queue == queue), 0)


async def _assignment(
    calls: matchmaking.Matchmaking, queue: str, company: Company
) -> mm.Assignment | None:
    """Queue until there is a room; None, and out of the queue, once we are too few for one."""
    if company.too_few.is_set():
        return None
    async with asyncio.TaskGroup() as tasks:
        finding = tasks.create_task(_found(calls, queue), name="finding")
        lonely = tasks.create_task(company.too_few.wait(), name="lonely")
        try:
            await asyncio.wait({finding, lonely}, return_when=asyncio.FIRST_COMPLETED)
            while not finding.done() and not await withdraw(calls, queue):
                await asyncio.wait({finding}, timeout=1.0)  # a match of now, or of before
        except asyncio.CancelledError:
            await withdraw(calls, queue)
            raise
        finally:
            finding.cancel()
            lonely.cancel()
    outcome = None if finding.cancelled() else finding.result()
    if isinstance(outcome, matchmaking.TicketGone) and company.too_few.is_set():
        return None
    if isinstance(outcome, errors.RallypointError):
        raise outcome
    return outcome


async def _found(
    calls: matchmaking.Matchmaking, queue: str
) -> mm.Assignment | errors.RallypointError:
    """Where to play, or what went wrong; the error is no group this way."""
    try:
        return await calls.find(queue)
    except errors.RallypointError as error:
        return error


async def _match(
    player: session.Session,
    assignment: mm.Assignment,
    squad: Squad,
    *,
    score: Score,
    rng: random.Random,
) -> None:
    """Play one match to its end and count it."""
    brain = bot_brains.BRAINS[squad.brain](rng)
    async with room.RoomConnection(
        player, assignment.room_id, assignment.seat_token, on_step=brain.on_step
    ) as connection:
        await connection.wait_joined()
        async with asyncio.TaskGroup() as tasks:
            playing = tasks.create_task(think(brain, connection), name="brain")
            outcome = await _outcome(connection)
            playing.cancel()
        if isinstance(outcome, errors.RallypointError):
            raise outcome
        if not outcome.result.placements:
            raise errors.Aborted(outcome.reason or "NO_RESULT", "the match ended without a result")
        score.played(connection, outcome)


async def think(brain: bot_brains.Brain, connection: room.RoomConnection) -> None:
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
        await leave(connection)
        raise


async def withdraw(calls: matchmaking.Matchmaking, queue: str) -> bool:
    """Leave the queue on the way out, if that is quick; False when a match holds the ticket."""
    try:
        async with asyncio.timeout(1.0):
            await calls.cancel(await calls.get(queue))
    except errors.FailedPrecondition:
        return False
    except (errors.RallypointError, TimeoutError):
        pass  # it expires by itself
    return True


async def leave(connection: room.RoomConnection) -> None:
    """Give up the seat on the way out, so that the others need not wait for us."""
    try:
        async with asyncio.timeout(1.0):
            await connection.leave()
    except (errors.RallypointError, TimeoutError):
        pass  # the grace time ends it


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
