"""A node's response, walked by each backend: the same rooms, the same messages, the same rest."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.backends import backends

from rallypoint.gateway import fanout
from rallypoint.gateway.domain import frames, grpcweb
from rallypoint.internal.v1 import room_host_pb2 as host

Heard = list[tuple[str, int, list[tuple[int, bytes]], list[tuple[int, bytes]]]]
"""Per room: id, epoch, what clients in step got, what would be the others'."""


@dataclass
class Pipe:
    """A transport that keeps what it gets."""

    sent: list[bytes] = field(default_factory=list)

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        raise AssertionError


class Ears:
    """Clients 1 to 9 in step, at one backend."""

    def __init__(self, backend: str) -> None:
        self.fan_out = fanout.make(backend, fanout.FanOutLimits(), clock=lambda: 0.0)
        self.routes = self.fan_out.routes()
        self.pipes = {client: Pipe() for client in range(1, 10)}
        for client, pipe in self.pipes.items():
            self.routes[client] = self.fan_out.add(pipe, grpcweb.native)

    def hear(self, data: bytes, *, most: int = 256) -> tuple[Heard, bytes]:
        flush = self.routes.read(data)
        heard: Heard = []
        while (passed := flush.next_room({}, 0.0, most)) is not None:
            sent, room, events = passed
            assert (sent, events) == (0, None)
            assert room is not None
            strangers: list[tuple[int, bytes]] = []
            done, found = False, 0
            while not done:
                sent, done, others, events = flush.send(most)
                found += sent
                strangers += others or []
                assert self.fan_out.settle(events or []) == []
            got = [(client, body) for client, pipe in self.pipes.items() for body in pipe.sent]
            assert len(got) == found
            heard.append((*room, got, strangers))
            for pipe in self.pipes.values():
                pipe.sent.clear()
        return heard, flush.rest


parts = st.lists(st.binary(max_size=200), min_size=1, max_size=4)
clients = st.lists(st.integers(1, 12) | st.integers(2**31, 2**32 - 2), unique=True, max_size=12)


@st.composite
def room_frames(draw: st.DrawFn) -> host.RoomFrame:
    said = draw(parts)
    indices = st.lists(st.integers(0, len(said) - 1), max_size=4)
    return host.RoomFrame(
        room_id=draw(st.text(max_size=30)),
        epoch=draw(st.integers(0, 2**64 - 1)),
        tick=draw(st.integers(0, 2**32 - 1)),
        parts=said,
        routes=[
            host.Route(clients=draw(clients), parts=draw(indices))
            for _ in range(draw(st.integers(0, 4)))
        ],
    )


@st.composite
def responses(draw: st.DrawFn) -> host.AttachResponse:
    return host.AttachResponse(
        joined=[host.ClientJoined(client=3, code=5, reason="GONE")] * draw(st.integers(0, 2)),
        frames=draw(st.lists(room_frames(), max_size=4)),
        replies=[host.MessageReply(call=7, body=b"yes")] * draw(st.integers(0, 1)),
        kicks=[host.ClientKick(client=9)] * draw(st.integers(0, 1)),
        controls=[host.RoomControl(room_id="r", clients=[1])] * draw(st.integers(0, 1)),
    )


@pytest.mark.parametrize("backend", backends())
@settings(max_examples=40)
@given(response=responses(), most=st.integers(1, 5))
def test_flush_says_what_protobuf_says(
    backend: str, response: host.AttachResponse, most: int
) -> None:
    heard, rest = Ears(backend).hear(response.SerializeToString(), most=most)
    expected: Heard = []
    for frame in response.frames:
        messages = []
        for route in frame.routes:
            body = b"".join(frame.parts[index] for index in route.parts)
            messages += [(client, frames.as_message(body)) for client in route.clients]
        got = sorted((m for m in messages if m[0] < 10), key=lambda message: message[0])
        others = [m for m in messages if m[0] >= 10]
        expected.append((frame.room_id, frame.epoch, got, others))
    assert heard == expected
    response.ClearField("frames")
    assert host.AttachResponse.FromString(rest) == response


@pytest.mark.parametrize("backend", backends())
@settings(max_examples=60)
@given(response=responses(), cut=st.integers(0, 400), noise=st.binary(max_size=8))
def test_bytes_of_any_kind_are_heard_or_refused(
    backend: str, response: host.AttachResponse, cut: int, noise: bytes
) -> None:
    data = response.SerializeToString()
    broken = data[:cut] + noise + data[cut + len(noise) :]
    with contextlib.suppress(ValueError, DecodeError, IndexError):
        Ears(backend).hear(broken)


@pytest.mark.parametrize("backend", backends())
@given(script=st.lists(st.tuples(st.integers(1, 40), st.integers(-1, 5)), max_size=200))
def test_table_is_a_mapping(backend: str, script: list[tuple[int, int]]) -> None:
    routes = fanout.make(backend, fanout.FanOutLimits(), clock=lambda: 0.0).routes()
    model: dict[int, int] = {}
    for client, slot in script:
        if slot < 0:
            routes.discard(client)
            model.pop(client, None)
        else:
            routes[client] = model[client] = slot
        assert len(routes) == len(model)
    assert {client for client in range(50) if client in routes} == set(model)
    routes.clear()
    assert len(routes) == 0
    assert 1 not in routes
