"""The games a node runs: entry points of the group `rallypoint.games`, and those it is told."""

from collections.abc import Collection, Mapping
from importlib import metadata

from rallypoint.games.definition import Definition, define
from rallypoint.kit import errors

GROUP = "rallypoint.games"


def load(names: Collection[str] = (), extra: Collection[str] = ()) -> Mapping[str, Definition]:
    """Definitions by name, of the installed games named or of all, and of all of `extra`.

    `extra` has games that are not installed, each `name=module:Class` as an entry point has it.
    Raises FailedPrecondition GAME_BROKEN for one that cannot be loaded and NotFound GAME_UNKNOWN
    for one that is not installed.
    """
    points = metadata.entry_points(group=GROUP)
    found = {point.name: point for point in points if not names or point.name in names}
    if missing := set(names) - set(found):
        raise errors.NotFound("GAME_UNKNOWN", f"not installed: {', '.join(sorted(missing))}")
    found |= {point.name: point for point in map(_extra, extra)}
    return {name: _define(point) for name, point in sorted(found.items())}


def _extra(text: str) -> metadata.EntryPoint:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and value):
        raise errors.FailedPrecondition(
            "SETTING_INVALID", f"an extra game is name=module:Class, not {text!r}"
        )
    return metadata.EntryPoint(name, value, GROUP)


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
