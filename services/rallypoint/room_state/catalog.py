"""The games that are installed: entry points of the group `rallypoint.games`."""

from collections.abc import Collection, Mapping
from importlib import metadata

from rallypoint.games.definition import Definition, define
from rallypoint.kit import errors

GROUP = "rallypoint.games"


def load(names: Collection[str] = ()) -> Mapping[str, Definition]:
    """Definitions by name, of the games named or of all.

    Raises FailedPrecondition GAME_BROKEN for one that cannot be loaded and NotFound GAME_UNKNOWN
    for one that is not installed.
    """
    points = metadata.entry_points(group=GROUP)
    found = {point.name: point for point in points if not names or point.name in names}
    if missing := set(names) - set(found):
        raise errors.NotFound("GAME_UNKNOWN", f"not installed: {', '.join(sorted(missing))}")
    return {name: _define(point) for name, point in sorted(found.items())}


def _define(point: metadata.EntryPoint) -> Definition:
    try:
        definition = define(point.load())
    except Exception as error:
        raise errors.FailedPrecondition("GAME_BROKEN", f"{point.name}: {error}") from error
    if definition.info.name != point.name:
        raise errors.FailedPrecondition(
            "GAME_BROKEN", f"{point.name}: the game calls itself {definition.info.name}"
        )
    return definition
