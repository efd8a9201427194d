"""What the C load reads of the wire is what the Python client reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.client import seat
from rallypoint.games import drift
from rallypoint.games.definition import define
from rallypoint.gateway.domain import grpcweb
from rallypoint.room_state import schema_proto
from rallypoint.v1 import room_pb2

_load = pytest.importorskip("rallypoint.cli._load", reason="no compiler when it was installed")

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
Acks = dict[int, int]
SLOTS = st.dictionaries(st.integers(0, 7), st.integers(0, 0xFFFF))


def section(acks: Acks, *, rows: int = 8) -> bytes:
    """A section of table 0 in which only `ack` changes, by docs/wire.md §3."""
    mask = sum(1 << slot for slot in acks).to_bytes((rows + 7) // 8, "little")
    values = b"".join(acks[slot].to_bytes(2, "little") for slot in sorted(acks))
    return b"\x01" + mask + values


def welcome(slot: int) -> bytes:
    schema = schema_proto.of(define(drift.Drift).schema)
    said = room_pb2.Welcome(
        room_id="r", slot=slot, stream_token=b"token", epoch=1, schema=schema, send_hz=20
    )
    return room_pb2.JoinResponse(welcome=said).SerializeToString()


def frame(tick: int, base: int, acks: Acks) -> bytes:
    sections = [room_pb2.Section(table=1, data=b"\x00")]
    if acks:
        sections.insert(0, room_pb2.Section(table=0, data=section(acks)))
    said = room_pb2.Frame(epoch=1, tick=tick, base_tick=base, sections=sections)
    return room_pb2.JoinResponse(frame=said).SerializeToString()


@given(
    rows=st.integers(1, 40),
    acks=st.dictionaries(st.integers(0, 39), st.integers(0, 0xFFFF)),
    slot=st.integers(0, 39),
)
def test_ack_of_a_slot_is_found_in_its_section(rows: int, acks: Acks, slot: int) -> None:
    here = {row: ack for row, ack in acks.items() if row < rows}
    if slot < rows:
        assert _load.seats_ack(section(here, rows=rows), rows, slot) == here.get(slot, -1)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x02", b"\x01\x02\x07"])
def test_short_section_is_malformed(data: bytes) -> None:
    assert _load.seats_ack(data, 8, 1) == -2


def test_section_without_the_column_says_nothing() -> None:
    assert _load.seats_ack(b"\x02\x01\x03", 8, 0) == -1


def over_websocket(message: bytes) -> bytes:
    """The message as a server's frame: call 1, one body (docs/wire.md §8)."""
    payload = b"\x01" + grpcweb.frame(message)
    size = len(payload)
    head = b"\x82%c" % size if size < 126 else b"\x82\x7e" + size.to_bytes(2, "big")
    return head + payload


@given(
    slot=st.integers(0, 7),
    changes=st.lists(SLOTS, min_size=1, max_size=12),
    cut=st.integers(1, 300),
    websocket=st.booleans(),
)
def test_a_stream_cut_anywhere_is_read_as_the_client_reads_it(
    slot: int, changes: list[Acks], cut: int, websocket: bool
) -> None:
    frames = [frame(n + 1, n, acks) for n, acks in enumerate(changes)]
    messages = [welcome(slot), *frames, b""]
    known = seat.Seat("r", b"seat")
    for message in messages:
        known.receive(message)
    if websocket:
        stream = UPGRADED + b"".join(map(over_websocket, messages))
    else:
        stream = HEAD + b"".join(map(grpcweb.web, messages))
    heard = _load.heard(stream, cut, websocket)
    assert heard == {
        "ack": known.ack,
        "frames": known.frames,
        "frame_bytes": known.frame_bytes,
        "slot": slot,
        "tick": known.tick,
        "playing": True,
    }


def test_a_lost_delta_ends_the_player() -> None:
    messages = [welcome(0), frame(1, 0, {}), frame(3, 2, {0: 1})]
    heard = _load.heard(HEAD + b"".join(grpcweb.web(message) for message in messages), 1000)
    assert (heard["frames"], heard["playing"]) == (1, False)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ngrpc-status: 7\r\n\r\n",
        HEAD + grpcweb.chunk(grpcweb.frame(b"grpc-status: 14\r\n", grpcweb.TRAILER)),
        HEAD + b"no chunk",
        # Numbers where a welcome, its token, a frame and a control should be.
        *(
            HEAD + grpcweb.web(number)
            for number in (b"\x08\x05", b"\x0a\x02\x18\x05", b"\x10\x05", b"\x18\x05")
        ),
    ],
)
def test_a_refused_join_is_not_played(answer: bytes) -> None:
    assert not _load.heard(answer, 7)["playing"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        UPGRADED + b"\x88\x02\x03\xea",
        UPGRADED + b"\x02\x00",
        UPGRADED + over_websocket(welcome(0)),
    ],
    ids=["refused", "closed", "fragment", "no frame yet"],
)
def test_a_websocket_without_frames_is_not_played(answer: bytes) -> None:
    assert not _load.heard(answer, 5, True)["playing"]


@pytest.mark.parametrize(
    "changes", [{"host": "nowhere"}, {"transport": "udp"}, {"input_size": 0}, {"input_hz": 0}]
)
def test_senseless_load_is_refused(changes: dict[str, object]) -> None:
    whole = {"host": "127.0.0.1", "port": 1, "transport": "grpc-web", "input_hz": 10}
    with pytest.raises(ValueError, match="a load needs"):
        _load.Load(**{**whole, "inputs": b"12345678", "input_size": 8, **changes})


@given(
    slot=st.integers(0, 7),
    changes=st.lists(st.tuples(SLOTS, st.booleans(), st.integers(0, 3)), min_size=1, max_size=12),
)
def test_a_glance_follows_as_decoding_does(
    slot: int, changes: list[tuple[Acks, bool, int]]
) -> None:
    glanced = seat.Seat("r", b"seat", glance=_load.glance)
    decoded = seat.Seat("r", b"seat")
    for known in (glanced, decoded):
        known.receive(welcome(slot))
    for n, (acks, event, base) in enumerate(changes):  # a base of 0 is a keyframe, 3 is lost
        said = room_pb2.JoinResponse.FromString(frame(n + 1, n if base == 1 else base, acks))
        if event:
            said.frame.events.add(id=n + 1)
        outcomes = []
        for known in (glanced, decoded):
            try:
                outcomes.append(known.receive(said.SerializeToString()))
            except seat.Resync as lost:
                outcomes.append(lost.args)
        assert outcomes[0] == outcomes[1]
    assert (glanced.ack, glanced.tick, glanced.frames) == (
        decoded.ack,
        decoded.tick,
        decoded.frames,
    )


@given(message=st.binary(max_size=60), cut=st.integers(0, 60))
def test_a_glance_at_anything_else_says_nothing(message: bytes, cut: int) -> None:
    whole = frame(7, 6, {1: 5, 2: 9})
    assert _load.glance(message, 8, 1) is None or message.startswith(b"\x12")
    assert _load.glance(whole[: min(cut, len(whole) - 1)], 8, 1) is None
    assert _load.glance(welcome(0), 8, 1) is None
    assert _load.glance(whole, 8, 1) == (1, 7, 6, 5)
