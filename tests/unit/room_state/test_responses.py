"""Bytes written by hand are what protobuf would write."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.games.frames import encoded_event
from rallypoint.games.room import Emitted
from rallypoint.internal.v1 import room_host_pb2
from rallypoint.room_state.domain import responses
from rallypoint.v1 import room_pb2

NUMBERS = st.integers(0, 2**32 - 1)


@settings(max_examples=50)
@given(
    st.text("abc-", max_size=64),
    st.integers(0, 2**64 - 1),
    NUMBERS,
    st.lists(st.binary(max_size=300), max_size=4),
    st.lists(st.tuples(st.lists(NUMBERS, max_size=9), st.lists(st.integers(0, 9))), max_size=3),
)
def test_frames_read_back(
    room: str,
    epoch: int,
    tick: int,
    parts: list[bytes],
    routes: list[tuple[list[int], list[int]]],
) -> None:
    data = responses.frame(
        responses.head(room, epoch),
        responses.tick(tick),
        *map(responses.part, parts),
        *(responses.route(clients, indices) for clients, indices in routes),
    )
    read = room_host_pb2.AttachResponse.FromString(data).frames[0]
    assert (read.room_id, read.epoch, read.tick) == (room, epoch, tick)
    assert list(read.parts) == parts
    assert [(list(route.clients), list(route.parts)) for route in read.routes] == routes


@given(st.floats(-0.002, 100.0))
def test_lateness_reads_back_and_is_never_unknown(seconds: float) -> None:
    read = room_host_pb2.AttachResponse.FromString(responses.late(seconds))
    assert read.late_us == max(1, int(seconds * 1e6))


@given(NUMBERS, NUMBERS, st.binary(max_size=300))
def test_events_read_back(number: int, kind: int, body: bytes) -> None:
    frame = room_pb2.Frame.FromString(encoded_event(number, Emitted(kind, body)))
    event = frame.events[0]
    assert (event.id, event.type, event.body) == (number, kind, body)
