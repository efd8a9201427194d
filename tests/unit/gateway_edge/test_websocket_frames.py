"""WebSocket frames: any messages, cut anywhere, come out whole; what is wrong names its code."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.client import websocket_frames
from rallypoint.gateway.domain import websocket, websocket_calls
from rallypoint.kit import errors

LIMIT = 70_000
MASKS = st.binary(min_size=4, max_size=4)
PAYLOADS = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([125, 126, 127, 65_535, 65_536]).map(lambda size: b"\xa7" * size),
)


def read(*pieces: bytes, limit: int = LIMIT) -> list[websocket.Event]:
    """All events of a stream of bytes."""
    reader = websocket.FrameReader(max_bytes=limit)
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (event := reader.next_event()) is not None:
            found.append(event)
    assert reader.between
    return found


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data, cut at positions that wrap around."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def fragment(first: int, payload: bytes, mask: bytes) -> bytes:
    """A client's frame with any first byte."""
    whole = websocket_frames.frame(first & 0x0F, payload, mask)
    return bytes([first]) + whole[1:]


@given(PAYLOADS, MASKS)
def test_whole_message_is_read_at_once(payload: bytes, mask: bytes) -> None:
    data = websocket_frames.frame(2, payload, mask)
    assert websocket.single(data) == (payload if len(payload) < 65_536 else None)
    assert read(data) == [websocket.Message(payload)]


@given(st.lists(PAYLOADS, max_size=4), MASKS, st.lists(st.integers(min_value=0), max_size=9))
def test_messages_come_out_however_they_are_cut(
    payloads: list[bytes], mask: bytes, cuts: list[int]
) -> None:
    data = b"".join(websocket_frames.frame(2, payload, mask) for payload in payloads)
    expected = [websocket.Message(payload) for payload in payloads]
    assert read(*pieces_of(data, cuts)) == expected


@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=6),
    st.binary(max_size=125),
    MASKS,
    st.lists(st.integers(min_value=0), max_size=9),
)
def test_fragments_are_joined_around_pings(
    fragments: list[bytes], ping: bytes, mask: bytes, cuts: list[int]
) -> None:
    data = b""
    for number, payload in enumerate(fragments):
        last = 0x80 if number == len(fragments) - 1 else 0
        data += fragment(last | (2 if number == 0 else 0), payload, mask)
        data += fragment(0x89, ping, mask) + fragment(0x8A, ping, mask)
    events = read(*pieces_of(data, cuts))
    assert [event for event in events if event != websocket.Ping(ping)] == [
        websocket.Message(b"".join(fragments))
    ]
    assert events.count(websocket.Ping(ping)) == len(fragments)


def feed(frames: websocket_frames.Frames, pieces: list[bytes], found: list[bytes]) -> None:
    for piece in pieces:
        found.extend(frames.feed(piece))


@given(PAYLOADS, st.lists(st.integers(min_value=0), max_size=9))
def test_client_reads_what_the_server_writes(payload: bytes, cuts: list[int]) -> None:
    data = websocket.binary(payload) + websocket.pong(b"p") + websocket.close(1001, "IDLE")
    found: list[bytes] = []
    with pytest.raises(websocket_frames.Closed) as closed:
        feed(websocket_frames.Frames(), pieces_of(data, cuts), found)
    assert found == [payload]
    assert (closed.value.code, closed.value.reason) == (1001, "IDLE")


@given(st.binary(max_size=60), st.lists(st.integers(min_value=0), max_size=4))
def test_any_bytes_are_events_or_a_violation(data: bytes, cuts: list[int]) -> None:
    reader = websocket.FrameReader(max_bytes=40)
    with contextlib.suppress(websocket.Violation):
        for piece in pieces_of(data, cuts):
            reader.feed(piece)
            while (event := reader.next_event()) is not None:
                assert not isinstance(event, websocket.Message) or len(event.data) <= 40


@given(st.binary(max_size=60))
def test_any_message_is_a_call_or_a_violation(data: bytes) -> None:
    with contextlib.suppress(websocket.Violation):
        said = websocket_calls.read(data)
        assert said.call == data[0] != 0
        if said.head is not None:
            with contextlib.suppress(errors.RallypointError):
                websocket_calls.fields(said.head)


MASK = b"mask"


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        pytest.param(b"\x82\x00", 1002, "MASK_MISSING", id="unmasked"),
        pytest.param(fragment(0xC2, b"", MASK), 1002, "FRAME_UNKNOWN", id="reserved bit"),
        pytest.param(fragment(0x83, b"", MASK), 1002, "FRAME_UNKNOWN", id="opcode"),
        pytest.param(fragment(0x81, b"{}", MASK), 1003, "TEXT_UNSUPPORTED", id="text"),
        pytest.param(fragment(0x01, b"{}", MASK), 1003, "TEXT_UNSUPPORTED", id="text part"),
        pytest.param(fragment(0x80, b"", MASK), 1002, "FRAGMENT_UNEXPECTED", id="continuation"),
        pytest.param(
            fragment(0x02, b"a", MASK) + fragment(0x82, b"b", MASK),
            1002,
            "FRAGMENT_UNEXPECTED",
            id="interrupted",
        ),
        pytest.param(fragment(0x09, b"", MASK), 1002, "CONTROL_MALFORMED", id="ping in parts"),
        pytest.param(fragment(0x89, bytes(126), MASK), 1002, "CONTROL_MALFORMED", id="long ping"),
        pytest.param(b"\x82\xfe\0\x05", 1002, "LENGTH_NOT_MINIMAL", id="two bytes for 5"),
        pytest.param(
            b"\x82\xff" + (5).to_bytes(8, "big"), 1002, "LENGTH_NOT_MINIMAL", id="eight bytes for 5"
        ),
        pytest.param(b"\x82\xff" + b"\xff" * 8, 1009, "MESSAGE_TOO_LARGE", id="huge"),
        pytest.param(
            fragment(0x02, bytes(60), MASK) + fragment(0x00, bytes(60), MASK),
            1009,
            "MESSAGE_TOO_LARGE",
            id="huge in parts",
        ),
        pytest.param(fragment(0x88, b"\x03", MASK), 1002, "CLOSE_MALFORMED", id="half a code"),
        pytest.param(fragment(0x88, b"\x03\xed", MASK), 1002, "CLOSE_MALFORMED", id="code 1005"),
        pytest.param(fragment(0x88, b"\x03\xe8\xff", MASK), 1007, "CLOSE_MALFORMED", id="no UTF-8"),
    ],
)
def test_wrong_frame_names_its_code(data: bytes, code: int, reason: str) -> None:
    with pytest.raises(websocket.Violation) as violation:
        read(data, limit=100)
    assert (violation.value.code, violation.value.reason) == (code, reason)


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", 0), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001), (b"\x0f\xa0", 4000)],
    ids=["none", "normal", "with words", "private"],
)
def test_close_tells_its_code(payload: bytes, code: int) -> None:
    assert read(websocket_frames.frame(8, payload, MASK)) == [websocket.Close(code)]


def test_head_lines_are_joined_or_refused() -> None:
    fields = websocket_calls.fields(b"Path: /a\r\nx: 1\r\nX:2\r\n")
    assert fields == {"path": "/a", "x": "1, 2"}
    for wrong in (b"no colon\r\n", b": v\r\n", b""):
        with pytest.raises(errors.InvalidArgument):
            websocket_calls.fields(wrong)
    with pytest.raises(errors.ResourceExhausted):
        websocket_calls.fields(b"a: b\r\n" * 33)
