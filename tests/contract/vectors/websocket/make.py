"""Write the vectors of calls over a WebSocket, with an encoder that shares no code (wire.md §8)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
JOIN = "/rallypoint.v1.RoomService/Join"
SEND_INPUT = "/rallypoint.v1.RoomService/SendInput"


def frame(flag: int, data: bytes) -> bytes:
    """A gRPC-Web frame."""
    return bytes([flag]) + len(data).to_bytes(4, "big") + data


def lines(fields: dict[str, str]) -> bytes:
    """The lines of a head or of trailers."""
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()


def call(number: int, head: dict[str, str], message: bytes | None) -> dict[str, Any]:
    """What a client sends: a call, a repeat (no head), or a cancellation (no message)."""
    data = bytes([number])
    if head:
        data += frame(0x80, lines(head))
    if message is not None:
        data += frame(0, message)
    shown = None if message is None else message.hex()
    return {"number": number, "head": head, "message": shown, "hex": data.hex()}


def answer(number: int, messages: list[bytes], trailers: dict[str, str] | None) -> dict[str, Any]:
    """What a server sends."""
    data = bytes([number]) + b"".join(frame(0, message) for message in messages)
    if trailers is not None:
        data += frame(0x80, lines(trailers))
    return {
        "number": number,
        "messages": [message.hex() for message in messages],
        "trailers": trailers,
        "hex": data.hex(),
    }


def websocket_frame(payload: bytes, mask: bytes | None) -> dict[str, Any]:
    """A whole binary message, as it is on the wire."""
    size = len(payload)
    bit = 0x80 if mask is not None else 0
    if size < 126:
        head = bytes([0x82, bit | size])
    else:
        head = bytes([0x82, bit | 126]) + size.to_bytes(2, "big")
    data = payload
    if mask is not None:
        head += mask
        data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return {
        "payload": payload.hex(),
        "mask": mask.hex() if mask is not None else None,
        "hex": (head + data).hex(),
    }


def main() -> None:
    """Write them all."""
    token = {"authorization": "Bearer a.b.c"}
    refused = {"grpc-status": "16", "grpc-message": "the token has ended"}
    document = {
        "calls": [
            call(1, {"path": JOIN, **token}, b"\x0a\x04room"),
            call(16, {"path": SEND_INPUT, **token, "grpc-timeout": "5000m"}, b""),
            call(8, {"path": SEND_INPUT, **token, "answer": "failures"}, b"\x0a\x02ab\x18\x01"),
            call(8, {}, b"\x0a\x02ab\x18\x02"),
            call(255, {"path": JOIN}, bytes(range(256)) * 2),
            call(1, {}, None),
        ],
        "answers": [
            answer(1, [b"\x12\x03abc"], None),
            answer(1, [b""], None),
            answer(16, [b"reply"], {"grpc-status": "0"}),
            answer(1, [], {"grpc-status": "0"}),
            answer(8, [], refused),
            answer(2, [b"one", b"two"], None),
        ],
        "errors": [
            {"hex": "01000000000561", "reason": "a frame is cut off"},
            {"hex": "0100", "reason": "a frame's head is cut off"},
            {"hex": "0180000000000000000000", "reason": "bytes after the trailers"},
        ],
        "frames": [
            websocket_frame(payload, mask)
            for payload in (b"", b"\x01", bytes(125), bytes(range(126)), b"\xa5" * 300)
            for mask in (None, b"\x37\xfa\x21\x3d")
        ],
    }
    (HERE / "calls.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
