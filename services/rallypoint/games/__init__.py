"""The plug-in API of games: what a studio imports (docs/games.md), and two example games.

Imports numpy and `kit.errors`, and no I/O: a game has no loop, no socket and no clock. The names
below are public; the other modules are the engine that runs a game.
"""

from rallypoint.games.chat import CHAT, Chat
from rallypoint.games.columns import (
    Cells,
    Column,
    Input,
    Table,
    f32,
    flag,
    hidden,
    i8,
    i16,
    i32,
    q8,
    q16,
    u8,
    u16,
    u32,
)
from rallypoint.games.dice import Dice
from rallypoint.games.game import ColumnGame, GameInfo, Refused, RoomGame, message
from rallypoint.games.harness import RoomHarness
from rallypoint.games.plugin import Plugin
from rallypoint.games.room import Outcome, Placement, Room, Rooms, Seat, SeatState, ranked
from rallypoint.games.schema import Visibility

__all__ = [
    "CHAT",
    "Cells",
    "Chat",
    "Column",
    "ColumnGame",
    "Dice",
    "GameInfo",
    "Input",
    "Outcome",
    "Placement",
    "Plugin",
    "Refused",
    "Room",
    "RoomGame",
    "RoomHarness",
    "Rooms",
    "Seat",
    "SeatState",
    "Table",
    "Visibility",
    "f32",
    "flag",
    "hidden",
    "i8",
    "i16",
    "i32",
    "message",
    "q8",
    "q16",
    "ranked",
    "u8",
    "u16",
    "u32",
]
