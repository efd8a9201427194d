"""Chat within a room, as a plug-in: `plugins = (Chat(),)`.

| | |
|---|---|
| message `CHAT` (2147483648) | body: the text, UTF-8; answered with nothing |
| event `CHAT` | body: the seat (one byte), then the text as all others see it |
| refused | CHAT_INVALID for no UTF-8, CHAT_EMPTY, MESSAGE_RATE beyond the rate |

Nothing is kept: who comes back within two seconds has missed nothing, who comes later has.
"""

from typing import Final

from rallypoint.games import rates
from rallypoint.games.messages import PLATFORM_KINDS, Refused, message
from rallypoint.games.plugin import Plugin
from rallypoint.games.room import Room
from rallypoint.kit import text

CHAT: Final = PLATFORM_KINDS


class Chat(Plugin):
    """What a player writes, made fit to be shown, to everybody in the room."""

    def __init__(self, *, rate: str = "4/4s", max_characters: int = 200) -> None:
        self.message_rates = {CHAT: rates.parse(rate)}
        self._max_characters = max_characters

    @message(CHAT)
    def say(self, room: Room, seat: int, body: bytes) -> bytes:
        """Pass a text on, on one line and cut to the length."""
        try:
            shown = text.one_line(body.decode(), self._max_characters)
        except UnicodeDecodeError as error:
            raise Refused("CHAT_INVALID", "a text is UTF-8") from error
        if not shown:
            raise Refused("CHAT_EMPTY", "there is nothing to say")
        room.emit(CHAT, bytes((seat,)) + shown.encode())
        return b""
