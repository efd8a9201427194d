"""Plain inputs read from bytes say what the protobuf library reads in them, and nothing more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.gateway.domain import inputs
from rallypoint.internal.v1.room_host_pb2 import ClientInput
from rallypoint.v1.room_pb2 import SendInputRequest

NUMBERS = st.integers(min_value=0, max_value=2**32 - 1)
REQUESTS = st.builds(
    SendInputRequest,
    stream_token=st.binary(min_size=1, max_size=127),
    ack_tick=NUMBERS,
    first_seq=NUMBERS,
    inputs=st.lists(st.binary(max_size=inputs.MAX_INPUT_BYTES), max_size=inputs.MAX_INPUTS),
    view_ms=NUMBERS,
)
PLAIN = SendInputRequest(stream_token=b"token", ack_tick=300, first_seq=7, inputs=[b"a", b"bc"])
DAMAGED = st.builds(
    lambda at, put: PLAIN.SerializeToString()[:at] + put + PLAIN.SerializeToString()[at + 1 :],
    st.integers(min_value=0, max_value=20),
    st.binary(max_size=3),
)


@given(REQUESTS)
def test_what_a_library_writes_is_plain(request: SendInputRequest) -> None:
    parts = inputs.split(request.SerializeToString())
    assert parts is not None
    token, fields = parts
    assert token == request.stream_token
    carried = ClientInput(
        ack_tick=request.ack_tick,
        first_seq=request.first_seq,
        inputs=request.inputs,
        view_ms=request.view_ms,
    )
    assert fields == carried.SerializeToString()


@given(st.binary(max_size=60) | DAMAGED)
def test_whatever_is_plain_holds_an_inputs_fields_and_no_others(data: bytes) -> None:
    parts = inputs.split(data)
    if parts is None:
        return
    request = SendInputRequest.FromString(data)
    carried = ClientInput.FromString(parts[1])
    assert parts[0] == request.stream_token
    assert not carried.HasField("seat")
    assert list(carried.inputs) == list(request.inputs)
    assert len(request.inputs) <= inputs.MAX_INPUTS
    assert all(len(each) <= inputs.MAX_INPUT_BYTES for each in request.inputs)
    assert (carried.ack_tick, carried.first_seq) == (request.ack_tick, request.first_seq)
    assert (carried.view_ms, carried.margin_ms) == (request.view_ms, 0)
    known = ClientInput.FromString(parts[1])
    known.DiscardUnknownFields()
    assert known.ByteSize() == carried.ByteSize()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0a",
        b"\x0a\x05tok",
        PLAIN.SerializeToString() + b"\x7a\x01x",
        PLAIN.SerializeToString() + b"\x0a\x02\x10\x01",
        PLAIN.SerializeToString() + b"\x30\x01",
        PLAIN.SerializeToString()[:-1],
        SendInputRequest(stream_token=b"t" * 128).SerializeToString(),
        SendInputRequest(stream_token=b"t", inputs=[b"x"] * 9).SerializeToString(),
        SendInputRequest(stream_token=b"t", inputs=[b"x" * 65]).SerializeToString(),
        SendInputRequest(ack_tick=1, inputs=[b"x"]).SerializeToString(),
    ],
    ids=[
        "empty",
        "no length",
        "token cut",
        "unknown field",
        "seat smuggled",
        "margin smuggled",
        "input cut",
        "token too long",
        "too many",
        "too long",
        "no token",
    ],
)
def test_other_bytes_are_left_to_the_library(data: bytes) -> None:
    assert inputs.split(data) is None
