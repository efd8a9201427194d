"""The golden vectors of calls over a WebSocket: the gateway and the Python client agree on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rallypoint.client import grpcweb, websocket_frames
from rallypoint.gateway.domain import grpcweb as gateway_grpcweb
from rallypoint.gateway.domain import websocket, websocket_calls
from rallypoint.kit import errors

VECTORS = json.loads((Path(__file__).parent / "vectors/websocket/calls.json").read_text())


def head_of(item: Any) -> bytes:
    """The head frame the client makes of a vector's lines."""
    fields = item["head"]
    if not fields:
        return b""
    return websocket_frames.head(
        fields["path"],
        token=fields.get("authorization", "").removeprefix("Bearer "),
        timeout_ms=int(fields.get("grpc-timeout", "0").rstrip("m")),
        lane="answer" in fields,
    )


@pytest.mark.parametrize("item", VECTORS["calls"], ids=lambda item: item["hex"][:12])
def test_client_writes_and_gateway_reads_calls(item: Any) -> None:
    data = bytes.fromhex(item["hex"])
    if item["message"] is None:
        assert websocket_frames.cancel(item["number"]) == data
    else:
        message = bytes.fromhex(item["message"])
        assert websocket_frames.call(item["number"], head_of(item), message) == data
    said = websocket_calls.read(data)
    assert said.call == item["number"]
    assert said.cancels is (item["message"] is None)
    assert (websocket_calls.fields(said.head) if said.head is not None else {}) == item["head"]
    if item["message"] is not None:
        body = gateway_grpcweb.one_message(said.body, gzip=False, max_bytes=1000)
        assert body.hex() == item["message"]


@pytest.mark.parametrize("item", VECTORS["answers"], ids=lambda item: item["hex"][:12])
def test_gateway_writes_and_client_reads_answers(item: Any) -> None:
    data = bytes.fromhex(item["hex"])
    messages, trailers = websocket_frames.answer(data)
    assert [message.hex() for message in messages] == item["messages"]
    assert trailers == item["trailers"]
    frames = b"".join(gateway_grpcweb.frame(message) for message in messages)
    if trailers is not None:
        frames += gateway_grpcweb.trailer_frame(gateway_grpcweb.fields(trailers.items()))
    assert websocket_calls.answer(item["number"], frames) == websocket.binary(data)
    if len(messages) == 1 and trailers is None:
        framed = websocket_calls.framing(item["number"])(messages[0])
        assert framed == websocket.binary(data)


@pytest.mark.parametrize("item", VECTORS["errors"], ids=lambda item: item["reason"])
def test_broken_answers_are_refused(item: Any) -> None:
    with pytest.raises(errors.RallypointError):
        websocket_frames.answer(bytes.fromhex(item["hex"]))


@pytest.mark.parametrize("item", VECTORS["frames"], ids=lambda item: item["hex"][:12])
def test_frames_are_the_recorded_bytes(item: Any) -> None:
    payload, data = bytes.fromhex(item["payload"]), bytes.fromhex(item["hex"])
    if item["mask"] is None:
        assert websocket.binary(payload) == data
        assert list(websocket_frames.Frames().feed(data)) == [payload]
    else:
        assert websocket_frames.frame(2, payload, bytes.fromhex(item["mask"])) == data
        assert websocket.single(data) == payload


def test_client_and_gateway_name_the_same_things() -> None:
    from rallypoint.gateway.domain import websocket_handshake as server

    assert (websocket_frames.PATH, websocket_frames.SUBPROTOCOL) == (
        server.PATH,
        server.SUBPROTOCOL,
    )
    assert grpcweb.TRAILER_FLAG == gateway_grpcweb.TRAILER
