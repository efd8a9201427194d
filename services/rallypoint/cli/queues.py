"""The queues of `rallypoint up`: `--queue` read, completed and checked before anything starts.

Every installed game has a queue of its own name: the known one of an example game, or one made from
the game's `GameInfo`. A document completes that of its game, and names what it changes. What cannot
be played is refused here in one sentence, not in a service's log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import metadata

from rallypoint.cli import plan

GROUP = "rallypoint.games"

Document = Mapping[str, object]


class QueueError(ValueError):
    """A `--queue` that cannot be played."""


def documents(texts: Sequence[str]) -> tuple[Document, ...]:
    """The queues asked for, or one for each installed game; QueueError for one that cannot be."""
    found = tuple(document(text) for text in texts or _installed())
    _check(found)
    return found


def document(text: str) -> Document:
    """One `--queue`: an installed game, or JSON that completes the queue of its game."""
    installed = _installed()
    if text in installed:
        return _of_game(text)
    asked = _parse(text, installed)
    game = str(asked.get("game", asked["queue"]))
    if game not in installed:
        raise QueueError(
            f"--queue {text!r}: the game {game!r} is not installed; "
            f'installed are {", ".join(installed)} (say which with "game": "<name>")'
        )
    return {**_of_game(game), **asked}


def _parse(text: str, installed: Sequence[str]) -> Document:
    try:
        asked = json.loads(text)
    except ValueError as error:
        reason = f": {error}" if text.lstrip().startswith("{") else ""
        raise QueueError(
            f"--queue {text!r} is neither an installed game ({', '.join(installed)}) "
            f"nor a JSON document{reason}"
        ) from error
    if not isinstance(asked, dict) or not isinstance(asked.get("queue"), str):
        raise QueueError(f'--queue {text!r} must be an object with "queue": "<name>"')
    return asked


def _installed() -> tuple[str, ...]:
    """The games' names, the example games first."""
    names = {point.name for point in metadata.entry_points(group=GROUP)}
    return (*plan.DEFAULT_QUEUES, *sorted(names - set(plan.DEFAULT_QUEUES)))


def _of_game(game: str) -> Document:
    if game in plan.DEFAULT_QUEUES:
        return plan.DEFAULT_QUEUES[game]
    from rallypoint.kit import errors  # an example game's queue needs no import of any game
    from rallypoint.room_state import catalog

    try:
        info = catalog.load([game])[game].info
    except errors.RallypointError as error:
        raise QueueError(f"the game {game!r} cannot be loaded: {error}") from error
    least = max(2, info.min_players)
    most = max(least, info.max_players)
    return {
        "queue": game,
        "game": game,
        "set": "local",
        "team_count": most,
        "team_size": 1,
        "min_players": least,
        "max_players": most,
        "min_after_s": 4 if least < most else 0,
    }


def _check(found: Sequence[Document]) -> None:
    from rallypoint.kit import errors
    from rallypoint.matchmaking.domain import queues

    try:
        queues.parse_all(json.dumps(found))
    except errors.RallypointError as error:
        raise QueueError(f"--queue: {error.message}") from error
