"""What JetStream says, and trace contexts, as pure functions."""

from __future__ import annotations

import json

import pytest

from rallypoint.kit import bus_wire, telemetry
from rallypoint.kit.bus_wire import ApiRefused, BusUnavailable, Busy, Conflict, Position

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.ROOMS.c.1.7.3.99.4",
        "$JS.ACK._.acc.ROOMS.c.1.7.3.99.4",
        "$JS.ACK.h.a.R.c.1.7.3.9.4.x",
    ],
)
def test_position_is_read_from_either_version(reply: str) -> None:
    assert bus_wire.parse_position(reply) == Position(stream_seq=7, consumer_seq=3, pending=4)


@pytest.mark.parametrize(
    ("code", "err_code", "kind"),
    [
        (400, 10071, Conflict),
        (400, 10164, Busy),
        (503, 10008, BusUnavailable),
        (404, 10059, ApiRefused),
    ],
)
def test_refusals_become_our_errors(code: int, err_code: int, kind: type[Exception]) -> None:
    body = {"error": {"code": code, "err_code": err_code, "description": "why"}}
    with pytest.raises(kind):
        bus_wire.parse_reply(json.dumps(body).encode())


def test_stored_headers_are_read() -> None:
    headers = bus_wire.parse_headers(b"NATS/1.0\r\nKV-Operation: PURGE\r\nNats-TTL: 60\r\n\r\n")
    assert headers == {"KV-Operation": "PURGE", "Nats-TTL": "60"}
    assert bus_wire.is_gone(headers)
    assert bus_wire.is_gone({"Nats-Marker-Reason": "MaxAge"})
    assert not bus_wire.is_gone({"Nats-TTL": "60"})


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (PARENT, True),
        ("", False),
        (PARENT.upper(), False),
        ("00-" + "0" * 32 + PARENT[35:], False),
        (PARENT + "0", False),
        ("01" + PARENT[2:], False),
    ],
)
def test_traceparent_is_checked(value: str, valid: bool) -> None:
    assert telemetry.is_traceparent(value) is valid


def test_without_an_endpoint_the_trace_id_is_kept_and_handed_on() -> None:
    assert telemetry.trace_id() == ""
    with telemetry.span("process result", kind="consumer", parent={"traceparent": PARENT}) as span:
        span.set_attribute("room", "r")
        assert telemetry.trace_id() == "0af7651916cd43dd8448eb211c80319c"
        assert telemetry.inject({"a": "b"}) == {"a": "b", "traceparent": PARENT}
    assert telemetry.inject({}) == {}
