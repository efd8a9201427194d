"""The drain in C over socket pairs: what it takes, and what it gives back."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.client import websocket_frames
from rallypoint.gateway.domain import buckets, frames, grpcweb, inputs, rhythm
from rallypoint.gateway.domain.rhythm import Rhythm

edge = pytest.importorskip("rallypoint.gateway._edge")

BEFORE, AFTER, ANSWER = b"POST /x HTTP/1.1\r\ncontent-length: ", b"\r\na: b\r\n\r\n", b"fine" * 50
NOW, RATE = 100.0, buckets.Rate(per_s=10, burst=200)
EMPTY_AT = NOW + RATE.burst / RATE.per_s
"""`full_at` of a bucket without a token."""
TOKEN, SEAT = b"\x0a\x03abc", b"\x0a\x02\x08\x01"
LANE = 5
FIELDS = b"\x10\x05\x18\x81\x01\x22\x03xyz"


@dataclass
class Room:
    """What an armed connection knows of its room."""

    node: object | None = "node"
    hold: object | None = None
    rhythm: Rhythm = field(default_factory=lambda: Rhythm(period_s=0.05, seen_at=99.99))
    used: bool = False


class Line:
    """One armed connection and its client."""

    def __init__(self, call: int = 0) -> None:
        self.drain = edge.Drain()
        self.client, self.server = socket.socketpair()
        self.client.setblocking(False)
        self.room = Room()
        self.bucket = buckets.Bucket(0.0)
        self.slot = self.drain.arm(
            self.server.fileno(),
            self,
            call,
            BEFORE,
            AFTER,
            ANSWER,
            TOKEN,
            SEAT,
            self.room,
            self.bucket,
            1e9,
            1.0,
        )

    def close(self) -> None:
        self.drain.close()
        self.client.close()
        self.server.close()

    def once(self, now_s: float = 0.0) -> Any:
        return self.drain.drain(NOW, now_s, 0.006, 1 / RATE.per_s, RATE.burst / RATE.per_s)


@pytest.fixture
def line() -> Iterator[Line]:
    opened = Line()
    yield opened
    opened.close()


@pytest.fixture
def socket_line() -> Iterator[Line]:
    opened = Line(LANE)
    yield opened
    opened.close()


def request(fields: bytes = FIELDS, *, length: int | None = None, frame: bytes = b"") -> bytes:
    body = frame or grpcweb.frame(TOKEN + fields)
    return BEFORE + b"%d" % (len(body) if length is None else length) + AFTER + body


def carried(line: Line, fields: bytes = FIELDS) -> bytes:
    """The field of an AttachRequest that carries an input, with its margin."""
    margin = rhythm.margin_field(line.room.rhythm.wait_s(NOW, lead_s=0.006))
    assert len(margin) > 1
    data = SEAT + fields + margin
    return b"\x22" + frames.varint(len(data)) + data


def test_view_of_the_client_is_plain(line: Line) -> None:
    line.client.send(request(FIELDS + b"\x28\x90\x4e"))
    taken, ((_, data, *_),), _, _ = line.once()
    assert taken == 1
    assert data == carried(line, FIELDS + b"\x28\x90\x4e")


def test_inputs_are_answered_and_grouped_by_node(line: Line) -> None:
    line.client.send(request())
    taken, groups, back, full = line.once()
    assert (taken, back, full) == (1, [], False)
    ((node, data, count, wait_s, next_s),) = groups
    assert (node, count) == ("node", 1)
    assert data == carried(line)
    assert wait_s == next_s == pytest.approx(line.room.rhythm.wait_s(100.0, lead_s=0.006))
    assert line.client.recv(1000) == ANSWER
    assert line.room.used
    assert line.drain.seen_at(line.slot) == 100.0
    assert line.once() == (0, [], [], False)


@pytest.mark.parametrize(
    "data",
    [
        request()[:-1],
        request() * 2,
        request() + b"P",
        request(length=7),
        request(length=99),
        BEFORE + b"0" + request()[len(BEFORE) :],
        b"X" + request()[1:],
        request(frame=b"\x01" + grpcweb.frame(TOKEN + FIELDS)[1:]),
        request(frame=grpcweb.frame(TOKEN + FIELDS) + b"\0\0\0\0\0"),
        request(frame=grpcweb.frame(b"\x0a\x03abd" + FIELDS)),
        request(b"\x2a\x01x"),
        request(FIELDS + b"\x28\x01\x28\x01"),
        request(FIELDS + b"\x30\x01"),
        request(b"\x22\x41" + b"x" * 65),
        request(b"\x22\x00" * 9),
        request(b"\x18\x01\x10\x01"),
        request(b"\x10\x80\x80\x80\x80\x80\x01"),
    ],
)
def test_whatever_differs_comes_back_untouched(line: Line, data: bytes) -> None:
    line.client.send(data)
    assert line.once() == (0, [], [(line, data, b"")], False)
    assert line.bucket.full_at == 0.0
    with pytest.raises(KeyError):
        line.drain.disarm(line.slot)


def test_end_of_the_client_comes_back_without_bytes(line: Line) -> None:
    line.client.close()
    assert line.once() == (0, [], [(line, b"", b"")], False)


def test_end_that_came_with_the_last_request_is_seen(line: Line, socket_line: Line) -> None:
    for one, data in ((line, request()), (socket_line, spoken() * 2)):
        one.client.send(data)
        one.client.shutdown(socket.SHUT_WR)
        taken, _, back, _ = one.once()
        assert (taken, back) == (1 + (one is socket_line), [])
        assert one.once() == (0, [], [(one, b"", b"")], False)


def test_time_room_and_bucket_send_back(line: Line) -> None:
    line.client.send(request())
    assert line.once(now_s=1e9)[2] == [(line, request(), b"")]
    for spoil in ("node", "hold", "bucket"):
        other = Line()
        other.room.node = None if spoil == "node" else "node"
        other.room.hold = "moving" if spoil == "hold" else None
        other.bucket.full_at = EMPTY_AT if spoil == "bucket" else 0.0
        other.client.send(request())
        assert other.once() == (0, [], [(other, request(), b"")], False)
        other.close()


def test_answer_that_does_not_fit_comes_back_in_part(line: Line) -> None:
    line.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    taken, back = 0, []
    while not back:
        line.client.send(request())
        found, _, back, _ = line.once()
        taken += found
        assert taken < 10_000
    ((owner, data, unsent),) = back
    assert owner is line
    assert data == b""
    received = b""
    while len(received) + len(unsent) < taken * len(ANSWER):
        received += line.client.recv(1 << 16)
    assert received + unsent == ANSWER * taken


def spoken(fields: bytes = FIELDS, *, call: int = LANE, frame: bytes = b"") -> bytes:
    """A message of a WebSocket's lane."""
    body = frame or grpcweb.frame(TOKEN + fields)
    return websocket_frames.frame(2, b"%c%b" % (call, body), b"mask")


def test_messages_of_a_lane_are_taken_in_a_row(socket_line: Line) -> None:
    long = b"\x22\x40" + b"x" * 64
    socket_line.client.send(spoken() + spoken(long * 8) + spoken(b""))
    taken, ((_, data, count, *_),), back, _ = socket_line.once()
    assert (taken, count, back) == (3, 3, [])
    said = (FIELDS, long * 8, b"")
    assert data == b"".join(carried(socket_line, fields) for fields in said)
    with pytest.raises(BlockingIOError):
        socket_line.client.recv(1)


@pytest.mark.parametrize(
    "other",
    [
        spoken(call=LANE + 1),
        spoken()[:3],
        websocket_frames.frame(2, b"", b"mask"),
        websocket_frames.frame(2, b"%c" % LANE, b"mask"),
        websocket_frames.frame(9, b"ping", b"mask"),
        b"\x02" + spoken()[1:],
        spoken(frame=b"\x80" + grpcweb.frame(TOKEN + FIELDS)[1:]),
        spoken(b"\x32\x01x"),
        b"\x82\xfe\x00\x05mask12345",
        b"\x82\xff" + bytes(7) + b"\x05mask12345",
        spoken()[:1] + bytes([spoken()[1] & 0x7F]) + spoken()[2:],
    ],
)
def test_what_differs_in_a_lane_comes_back_with_all_behind_it(
    socket_line: Line, other: bytes
) -> None:
    socket_line.client.send(spoken() + other + spoken())
    taken, groups, back, _ = socket_line.once()
    assert (taken, groups[0][2]) == (1, 1)
    assert back == [(socket_line, other + spoken(), b"")]


def test_what_one_read_did_not_take_comes_with_the_next(socket_line: Line) -> None:
    def sized(size: int) -> bytes:
        room = size - len(spoken(b"\x22\x00"))
        return spoken(b"\x22%c%b" % (room, b"x" * room))

    socket_line.client.send(sized(64) * 64 + spoken() * 3)
    assert [socket_line.once()[0] for _ in range(3)] == [64, 3, 0]


def test_half_a_message_of_a_lane_comes_back(socket_line: Line) -> None:
    socket_line.client.send(spoken() * 2 + spoken()[:-1])
    assert socket_line.once()[0::2] == (2, [(socket_line, spoken()[:-1], b"")])


def test_empty_bucket_sends_back_the_rest_of_a_lane(socket_line: Line) -> None:
    socket_line.bucket.full_at = EMPTY_AT - 1 / RATE.per_s
    socket_line.client.send(spoken() * 4)
    taken, _, back, _ = socket_line.once()
    assert (taken, back) == (1, [(socket_line, spoken() * 3, b"")])
    assert socket_line.bucket.full_at == pytest.approx(EMPTY_AT)


@given(full_at=st.floats(NOW - 1, EMPTY_AT + 1), count=st.integers(1, 12))
@settings(max_examples=200)
def test_bucket_gives_what_it_gives_in_python(full_at: float, count: int) -> None:
    table = buckets.Buckets(RATE)
    held = table.hold("p")
    line = Line(LANE)
    line.bucket.full_at = held.full_at = full_at
    given = [table.take("p", NOW) == 0 for _ in range(count)]
    line.client.send(spoken() * count)
    assert line.once()[0] == sum(given)
    assert line.bucket == held
    line.close()


@given(payload=st.binary(max_size=40) | st.sampled_from([FIELDS, b"", b"\x22\x01x" * 8]))
@settings(max_examples=200)
def test_plain_is_what_python_calls_plain(payload: bytes) -> None:
    line = Line()
    line.client.send(request(payload))
    taken = line.once()[0]
    assert taken == (inputs.split(TOKEN + payload) is not None)
    line.close()


def test_nothing_is_held_after_a_disarm() -> None:
    room, owner, bucket = Room(), object(), buckets.Bucket(0.0)
    held = (room, owner, bucket)
    before = list(map(sys.getrefcount, held))
    drain = edge.Drain()
    pairs = [socket.socketpair() for _ in range(200)]
    for _ in range(3):
        slots = [
            drain.arm(
                near.fileno(), owner, 0, BEFORE, AFTER, ANSWER, TOKEN, SEAT, room, bucket, 1e9, 1.0
            )
            for near, _ in pairs
        ]
        for slot in slots:
            drain.disarm(slot)
    for near, _ in pairs[:50]:
        drain.arm(
            near.fileno(), owner, 0, BEFORE, AFTER, ANSWER, TOKEN, SEAT, room, bucket, 1e9, 1.0
        )
    drain.close()
    gc.collect()
    assert list(map(sys.getrefcount, held)) == before
    for near, far in pairs:
        near.close()
        far.close()
