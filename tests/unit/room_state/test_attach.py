"""The busy part of an Attach does in C what protobuf and Python do."""

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.games.columns import Input, u8
from rallypoint.games.heard import Heard
from rallypoint.games.inputs import InputRings
from rallypoint.games.rings import CompiledRings
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.room_state import attach
from rallypoint.room_state.domain import responses

needs_compiler = pytest.mark.skipif(not attach.COMPILED, reason="nothing in C here")

SEATS = 3
LIKE_ANOTHER = "ö" + "b" * 31
"""Its last bytes are another's, and C finds rooms by those."""
ROOMS = ("a", "b" * 32, LIKE_ANOTHER, "long-way")
GENERATIONS = {
    "a": (1, 2, 3), "b" * 32: (7, 0, 2**32 - 1), LIKE_ANOTHER: (1, 1, 1), "long-way": (1, 1, 1)
}  # fmt: skip
NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 300, 2**32 - 1])
FIELDS = st.binary(max_size=9)


class Key(Input):
    key = u8()


INPUTS = st.builds(
    host.ClientInput,
    seat=st.builds(
        host.SeatRef,
        room_id=st.sampled_from([*ROOMS, "", "nowhere"]),
        slot=NUMBERS,
        generation=NUMBERS,
    ),
    ack_tick=NUMBERS,
    view_ms=NUMBERS,
    margin_ms=NUMBERS,
    first_seq=st.integers(0, 9) | NUMBERS,
    inputs=st.lists(st.binary(min_size=1, max_size=1) | st.binary(max_size=3), max_size=9),
)
JOINS = st.builds(host.ClientJoin, client=NUMBERS, seat_tokens=st.just([b"x"]))
REQUESTS = st.builds(
    host.AttachRequest,
    gateway_id=st.sampled_from(["", "g"]),
    inputs=st.lists(INPUTS, max_size=6),
    joins=st.lists(JOINS, max_size=1),
    messages=st.lists(st.builds(host.ClientMessage, body=st.binary(max_size=300)), max_size=2),
    resyncs=st.lists(NUMBERS, max_size=3),
)  # fmt: skip


def doors(rings: InputRings, heard: Heard) -> tuple[attach.Doors, dict[str, Any]]:
    """Doors of all rooms but the last, as one that C does not understand; and each by id."""
    from rallypoint.room_state._attach import Door

    assert rings.native is not None
    entrance, by_room = attach.Doors(), {}
    for number, name in enumerate(ROOMS[:-1]):
        door = by_room[name] = Door(rings.native, number * SEATS, SEATS, heard.words)
        for slot, generation in enumerate(GENERATIONS[name]):
            door.open(slot, generation)
        entrance.put(name, door)
    entrance.put(ROOMS[-1], None)
    return entrance, by_room


def offer_all(rings: InputRings, heard: Heard, request: host.AttachRequest) -> host.AttachRequest:
    """What the service does with protobuf; the request without the inputs that have a door."""
    rest = host.AttachRequest()
    rest.CopyFrom(request)
    del rest.inputs[:]
    for item in request.inputs:
        seat = item.seat
        if seat.room_id not in ROOMS[:-1]:  # a room without a door, or one that is not here
            rest.inputs.append(item)
        elif seat.generation and [seat.generation] == _generation(seat):
            index = ROOMS.index(seat.room_id) * SEATS + seat.slot
            heard.hear(
                index, ack_tick=item.ack_tick, view_ms=item.view_ms, margin_ms=item.margin_ms
            )
            rings.offer(index, item.first_seq, item.inputs)
    return rest


def _generation(seat: host.SeatRef) -> list[int]:
    return list(GENERATIONS.get(seat.room_id, ())[seat.slot : seat.slot + 1])


def all_saved(rings: InputRings) -> list[object]:
    return list(rings.saved(0, (len(ROOMS) - 1) * SEATS))


@needs_compiler
@settings(max_examples=150)
@given(st.lists(REQUESTS, min_size=1, max_size=3))
def test_inputs_reach_the_same_seats_as_by_protobuf(requests: list[host.AttachRequest]) -> None:
    ours, theirs = CompiledRings(Key, 3, SEATS), InputRings(Key, 3, SEATS)
    heard, also_heard = Heard(3 * SEATS), Heard(3 * SEATS)
    entrance, _ = doors(ours, heard)
    for request in requests:
        rest = entrance.take_inputs(request.SerializeToString())
        assert host.AttachRequest.FromString(rest) == offer_all(theirs, also_heard, request)
        assert heard.words.tolist() == also_heard.words.tolist()
        assert (all_saved(ours), ours.refused) == (all_saved(theirs), theirs.refused)


@needs_compiler
@settings(max_examples=150)
@given(REQUESTS, st.integers(0, 400), st.binary(max_size=4), st.integers(0, 400))
def test_broken_requests_do_no_harm(
    request: host.AttachRequest, at: int, other: bytes, end: int
) -> None:
    whole = request.SerializeToString()
    data = (whole[:at] + other + whole[at + len(other) :])[:end]
    ours, theirs = CompiledRings(Key, 3, SEATS), InputRings(Key, 3, SEATS)
    try:
        parsed = host.AttachRequest.FromString(data)
    except DecodeError:
        parsed = None
    try:
        rest = doors(ours, Heard(3 * SEATS))[0].take_inputs(data)
    except ValueError:
        return  # a field that C does not skip, such as a group, also ends the Attach
    if parsed is not None:
        assert host.AttachRequest.FromString(rest) == offer_all(theirs, Heard(3 * SEATS), parsed)
        assert all_saved(ours) == all_saved(theirs)


@needs_compiler
def test_shut_door_lets_nobody_in() -> None:
    rings = CompiledRings(Key, 3, SEATS)
    entrance, by_room = doors(rings, Heard(3 * SEATS))
    item = host.ClientInput(
        seat=host.SeatRef(room_id="a", slot=1, generation=2), first_seq=1, inputs=[b"x"]
    )
    request = host.AttachRequest(inputs=[item]).SerializeToString()
    by_room["a"].shut(1)
    assert entrance.take_inputs(request) == b""
    assert rings.saved(1)[0].newest == 0
    by_room["a"].open(1, 2)
    assert entrance.take_inputs(request) == b""
    assert rings.saved(1)[0].newest == 1


def _asks(room_id: str) -> bytes:
    seat = host.SeatRef(room_id=room_id, generation=1)
    return host.AttachRequest(inputs=[host.ClientInput(seat=seat)]).SerializeToString()


@needs_compiler
@given(
    st.lists(
        st.tuples(
            st.integers(0, 99).map(lambda number: f"{number}-room" + "x" * (number % 3 * 25)),
            st.booleans(),
        ),
        max_size=200,
    )
)
def test_doors_are_found_while_they_are_there(changes: list[tuple[str, bool]]) -> None:
    from rallypoint.room_state._attach import Door

    rings = CompiledRings(Key, 2, 1).native
    assert rings is not None
    door, other = Door(rings, 0, 1), Door(rings, 1, 1)
    entrance, there = attach.Doors(), set()
    for room_id, comes in changes:
        if comes:
            entrance.put(room_id, door)
            there.add(room_id)
        else:
            entrance.remove(room_id, other)  # another room's by now: nothing happens
            entrance.remove(room_id, door)
            there.discard(room_id)
    for room_id in {room_id for room_id, _ in changes}:
        takes = room_id in there and len(room_id) <= 55  # longer ones go the long way
        assert (entrance.take_inputs(_asks(room_id)) == b"") is takes


@settings(max_examples=100)
@given(
    st.lists(
        st.binary(max_size=9) | st.tuples(FIELDS, FIELDS, st.binary(max_size=400), FIELDS),
        max_size=5,
    )
)
def test_frames_are_joined_alike(frames: list[responses.Frame]) -> None:
    assert attach.join_frames(frames) == responses.join(frames)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(FIELDS, st.integers(0, 1), st.integers(0, 3), FIELDS), max_size=9),
    st.lists(FIELDS, min_size=2, max_size=2),
    st.lists(st.binary(max_size=400), min_size=4, max_size=4),
)
def test_rows_are_joined_alike(
    rows: list[responses.Row], ticks: list[bytes], deltas: list[bytes]
) -> None:
    frames = [(head, ticks[number], deltas[slot], route) for head, number, slot, route in rows]
    joined = attach.join_rows(rows, ticks, deltas)
    assert joined == responses.join_rows(rows, ticks, deltas) == responses.join(frames)


@needs_compiler
@pytest.mark.parametrize(
    "row", ["text", (b"", b""), (b"", 0, 1, b""), (b"", -1, 0, b""), (b"", 2**70, 0, b"")]
)
def test_what_is_no_row_is_refused(row: Any) -> None:
    with pytest.raises(TypeError):
        attach.join_rows([row], [b""], [b""])


@needs_compiler
@pytest.mark.parametrize("frames", [["text"], [(b"", b"")], [(b"", b"", "x", b"")], ()])
def test_what_is_no_frame_is_refused(frames: Any) -> None:
    with pytest.raises(TypeError):
        attach.join_frames(frames)


@needs_compiler
def test_door_needs_seats_that_exist() -> None:
    from rallypoint.room_state._attach import Door

    rings = CompiledRings(Key, 1, SEATS).native
    assert rings is not None
    with pytest.raises(ValueError, match="no rings"):
        Door(rings, 1, SEATS)
    with pytest.raises(ValueError, match="no rings"):
        Door("rings", 0, SEATS)  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        Door(rings, 0, SEATS).open(SEATS, 1)
