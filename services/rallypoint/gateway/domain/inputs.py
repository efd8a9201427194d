"""SendInputRequest in its plain form, read from its bytes.

Every protobuf library writes the fields of a message in the order of their numbers, each once:

    0x0a len token · [0x10 ack_tick] · [0x18 first_seq] · up to 8 × (0x22 len input), len ≤ 64
        · [0x28 view_ms]

What has exactly this form needs no protobuf object: behind the token it is, byte for byte, what a
ClientInput says of it (the fields are numbered alike), and it holds no other field. Any other bytes
are not wrong, only not plain: they are for the protobuf library, and for whoever refuses them.
"""

from __future__ import annotations

import re

MAX_INPUTS = 8
MAX_INPUT_BYTES = 64

_TOKEN_KEY = 0x0A
_TOKEN_AT = 2
_ONE_BYTE_SIZES = 0x80
_VARINT = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_INPUT = b"|".join(
    re.escape(bytes([size])) + b".{%d}" % size for size in range(MAX_INPUT_BYTES + 1)
)
_FIELDS = re.compile(
    rb"(?:\x10" + _VARINT + rb")?(?:\x18" + _VARINT + rb")?"
    rb"(?:\x22(?:" + _INPUT + rb")){0," + b"%d" % MAX_INPUTS + rb"}(?:\x28" + _VARINT + rb")?",
    re.DOTALL,
).fullmatch


def split(payload: bytes) -> tuple[bytes, bytes] | None:
    """The stream token of a plain request and the fields behind it; None for any other bytes."""
    if len(payload) < _TOKEN_AT or payload[0] != _TOKEN_KEY or payload[1] >= _ONE_BYTE_SIZES:
        return None
    end = _TOKEN_AT + payload[1]
    fields = payload[end:]
    if end > len(payload) or _FIELDS(fields) is None:
        return None
    return payload[_TOKEN_AT:end], fields
