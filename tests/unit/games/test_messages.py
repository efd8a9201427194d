"""Messages: rates per player and kind, words to players who are there, chat."""

import pytest

from rallypoint.games import CHAT, Chat, RoomHarness
from rallypoint.games.game import GameInfo, Refused, RoomGame, message
from rallypoint.games.rates import Rate, parse
from rallypoint.games.room import Said
from rallypoint.kit import errors


class Talk(RoomGame):
    info = GameInfo(name="talk", max_players=3, tick_hz=10)
    plugins = (Chat(rate="2/s", max_characters=10),)

    @message(1, rate="3/s")
    def shout(self, seat: int, body: bytes) -> bytes:
        self.room.broadcast(7, body, but=seat)
        return b"heard"

    @message(2)
    def whisper(self, seat: int, body: bytes) -> bytes:
        self.room.send(body[0], 8, body[1:])
        if body == b"\x01no":
            raise Refused("NO")
        return b""


@pytest.mark.parametrize(
    ("text", "rate"),
    [("5/s", Rate(5, 1.0)), ("30/min", Rate(30, 60.0)), ("3/2s", Rate(3, 2.0))],
)
def test_rates_are_read(text: str, rate: Rate) -> None:
    assert parse(text) == rate


@pytest.mark.parametrize("text", ["", "5", "0/s", "5/0s", "-1/s", "5/h", "5 / s"])
def test_what_is_no_rate_is_refused_when_declared(text: str) -> None:
    with pytest.raises(ValueError, match="a rate looks like"):
        parse(text)


def test_message_beyond_its_rate_is_refused_with_the_time_to_wait() -> None:
    room = RoomHarness(Talk, players=2)
    for _ in range(3):
        assert room.reply(0, 1, b"hi") == b"heard"
    with pytest.raises(errors.ResourceExhausted, match="MESSAGE_RATE") as refused:
        room.reply(0, 1, b"hi")
    assert refused.value.retry_after_s == pytest.approx(1 / 3)
    assert room.reply(1, 1, b"hi") == b"heard"
    room.run(seconds=0.4)
    assert room.reply(0, 1, b"hi") == b"heard"
    assert room.closed == ""


def test_words_go_to_one_or_to_all_but_one() -> None:
    room = RoomHarness(Talk, players=3)
    room.reply(0, 1, b"all")
    room.reply(0, 2, b"\x02you")
    assert room.said == [Said(7, b"all", but=0), Said(8, b"you", to=2)]


def test_words_of_a_refused_message_are_not_said() -> None:
    room = RoomHarness(Talk, players=3)
    with pytest.raises(Refused, match="NO"):
        room.reply(0, 2, b"\x01no")
    assert room.said == []


def test_chat_reaches_everybody_fit_to_be_shown() -> None:
    room = RoomHarness(Talk, players=2)
    room.reply(1, CHAT, "  a\u202eb\n\x07c  what a long line".encode())
    room.step()
    (said,) = room.events
    assert (said.kind, said.body) == (CHAT, b"\x01ab c what")
    assert len(said.body) == 1 + 9


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"\xff", "CHAT_INVALID"), (b"", "CHAT_EMPTY"), ("\u200b \n".encode(), "CHAT_EMPTY")],
)
def test_what_is_no_text_is_refused(body: bytes, reason: str) -> None:
    room = RoomHarness(Talk, players=1)
    with pytest.raises(Refused, match=reason):
        room.reply(0, CHAT, body)


def test_chat_is_rationed() -> None:
    room = RoomHarness(Talk, players=1)
    for _ in range(2):
        room.reply(0, CHAT, b"hi")
    with pytest.raises(errors.ResourceExhausted, match="MESSAGE_RATE"):
        room.reply(0, CHAT, b"hi")


def test_message_that_is_too_long_is_the_games_error() -> None:
    room = RoomHarness(Talk, players=2)
    with pytest.raises(Exception, match="GAME_ERROR"):
        room.reply(0, 1, b"x" * 5000)
    assert isinstance(room.error, ValueError)
