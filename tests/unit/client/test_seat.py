"""A seat follows its stream: tokens, epochs, base ticks, acknowledgements, events."""

from __future__ import annotations

import numpy as np
import pytest

from rallypoint.client import seat
from rallypoint.games import schema
from rallypoint.v1 import room_pb2

U16, U8 = room_pb2.COLUMN_KIND_U16, room_pb2.COLUMN_KIND_U8
SHARED = room_pb2.VISIBILITY_SHARED
SLOT = 1


def welcome(**fields: object) -> bytes:
    table = room_pb2.Table(id=0, name="seats", rows=2, visibility=SHARED)
    table.columns.add(name="ack", kind=U16)
    table.columns.add(name="state", kind=U8)
    about = room_pb2.Welcome(slot=SLOT, stream_token=b"s", epoch=1)
    about.schema.tables.append(table)
    about.schema.input.add(name="go", kind=U8)
    for name, value in fields.items():
        setattr(about, name, value)
    return room_pb2.JoinResponse(welcome=about).SerializeToString()


def frame(
    tick: int, base: int, *, ack: int = 0, epoch: int = 1, events: tuple[int, ...] = ()
) -> bytes:
    data = b"\x01\x02" + ack.to_bytes(2, "little")
    section = room_pb2.Section(table=0, visibility=SHARED, data=data)
    about = room_pb2.Frame(epoch=epoch, tick=tick, base_tick=base, sections=[section])
    for number in events:
        about.events.add(id=number, type=7)
    return room_pb2.JoinResponse(frame=about).SerializeToString()


def joined() -> seat.Seat:
    found = seat.Seat("room", b"first")
    found.receive(welcome())
    found.receive(frame(10, 0))
    return found


def test_keyframe_then_deltas_are_followed() -> None:
    held = joined()
    stepped = held.receive(frame(11, 10, ack=3))
    assert stepped == seat.Stepped(tick=11, keyframe=False, ack=3, events=())
    assert held.tables["seats"]["ack"].tolist() == [0, 3]


def test_keep_alive_is_nothing() -> None:
    assert joined().receive(b"") is None


@pytest.mark.parametrize("base", [9, 11], ids=["older-base", "newer-base"])
def test_delta_to_another_tick_needs_a_resync(base: int) -> None:
    with pytest.raises(seat.Resync):
        joined().receive(frame(12, base))


def test_delta_right_after_a_welcome_needs_a_resync() -> None:
    held = joined()
    held.receive(welcome())
    with pytest.raises(seat.Resync):
        held.receive(frame(11, 10))


def test_lower_epoch_is_refused_and_higher_wants_a_keyframe() -> None:
    held = joined()
    held.receive(frame(5, 0, epoch=3))
    assert held.receive(frame(11, 10, epoch=1)) is None
    assert held.tick == 5
    with pytest.raises(seat.Resync):
        held.receive(frame(6, 5, epoch=4))


def test_welcome_of_an_old_owner_lowers_no_epoch() -> None:
    held = joined()
    held.receive(frame(5, 0, epoch=3))
    held.receive(welcome(epoch=2))
    assert held.receive(frame(20, 0, epoch=2)) is None
    assert (held.epoch, held.tick) == (3, 5)
    assert held.receive(frame(6, 0, epoch=3)) is not None


def test_undecodable_message_needs_a_resync() -> None:
    with pytest.raises(seat.Resync):
        joined().receive(b"\xff\xff\xff")


def test_broken_section_needs_a_resync() -> None:
    broken = room_pb2.Section(table=0, visibility=SHARED, data=b"\x01\x02")
    about = room_pb2.Frame(epoch=1, tick=11, base_tick=10, sections=[broken])
    with pytest.raises(seat.Resync):
        joined().receive(room_pb2.JoinResponse(frame=about).SerializeToString())


def test_events_seen_before_are_dropped() -> None:
    held = joined()
    first = held.receive(frame(11, 10, events=(1, 2)))
    again = held.receive(frame(12, 0, events=(1, 2, 3)))
    assert isinstance(first, seat.Stepped)
    assert isinstance(again, seat.Stepped)
    assert [event.id for event in first.events] == [1, 2]
    assert [event.id for event in again.events] == [3]


def test_new_seat_token_is_offered_before_the_old_one() -> None:
    held = joined()
    held.receive(welcome(seat_token=b"second"))
    assert held.tokens == (b"second", b"first")
    held.receive(welcome(seat_token=b"third"))
    request = room_pb2.JoinRequest.FromString(held.join_request())
    assert list(request.seat_tokens) == [b"third", b"second"]


def test_joins_are_told_apart_by_client_and_number() -> None:
    held, other = joined(), joined()
    first, second, foreign = (
        room_pb2.JoinRequest.FromString(one.join_request()) for one in (held, held, other)
    )
    assert first.client_id == second.client_id != foreign.client_id
    assert 0 < first.attempt < second.attempt


def sent(held: seat.Seat) -> tuple[int, list[bytes]]:
    request = held.input_request()
    assert request is not None
    message = room_pb2.SendInputRequest.FromString(request)
    return message.first_seq, list(message.inputs)


def test_inputs_are_repeated_until_acknowledged() -> None:
    held = joined()
    for n in range(3):
        held.push_input(bytes((n,)))
    assert sent(held) == (1, [b"\0", b"\1", b"\2"])
    held.receive(frame(11, 10, ack=2))
    assert sent(held) == (3, [b"\2"])
    held.receive(frame(12, 11, ack=3))
    assert held.input_request() is None


def test_oldest_of_too_many_inputs_are_given_up() -> None:
    held = joined()
    for n in range(12):
        held.push_input(bytes((n,)))
    assert sent(held) == (5, [bytes((n,)) for n in range(4, 12)])


def test_acknowledgements_widen_beyond_sixteen_bits() -> None:
    held = joined()
    held.receive(welcome(input_seq=65_530))
    held.receive(frame(20, 0, ack=65_530))
    assert [held.push_input(b"x") for _ in range(8)][-1] == 65_538
    held.receive(frame(21, 20, ack=65_537 & 0xFFFF))
    assert held.ack == 65_537
    assert sent(held) == (65_538, [b"x"])


def test_older_acknowledgement_changes_nothing() -> None:
    held = joined()
    held.receive(frame(11, 10, ack=5))
    held.receive(frame(12, 11, ack=4))
    assert held.ack == 5


def test_tables_left_out_are_not_decoded() -> None:
    held = seat.Seat("room", b"t", only=())
    held.receive(welcome())
    held.receive(frame(10, 0, ack=9))
    assert not np.any(held.tables["seats"]["ack"])


def test_end_and_kick_say_why() -> None:
    for kind, kicked in [
        (room_pb2.CONTROL_KIND_CLOSED, False),
        (room_pb2.CONTROL_KIND_KICKED, True),
    ]:
        control = room_pb2.Control(kind=kind, reason="WHY")
        ended = joined().receive(room_pb2.JoinResponse(control=control).SerializeToString())
        assert ended == seat.Ended("WHY", room_pb2.MatchResult(), kicked=kicked)


def test_reconnect_control_needs_a_resync() -> None:
    control = room_pb2.Control(kind=room_pb2.CONTROL_KIND_RECONNECT)
    with pytest.raises(seat.Resync):
        joined().receive(room_pb2.JoinResponse(control=control).SerializeToString())


def test_unknown_column_kind_needs_a_resync() -> None:
    message = room_pb2.Schema()
    message.tables.add(name="x", rows=1, visibility=SHARED).columns.add(name="y", kind=77)  # type: ignore[arg-type]
    with pytest.raises(seat.Resync):
        seat.schema_of(message)


def test_schema_is_read_as_the_codec_wants_it() -> None:
    held = joined()
    assert held.schema is not None
    assert held.schema.tables == (schema.seats_table(2),)
    assert [column.name for column in held.schema.input] == ["go"]
