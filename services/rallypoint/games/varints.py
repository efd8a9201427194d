"""Numbers in protobuf's base 128, one or many."""

import functools

import numpy as np

from rallypoint.games.schema import Array


@functools.lru_cache(maxsize=4096)  # lengths come again and again
def varint(value: int) -> bytes:
    """Protobuf's base 128 number."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varints(rows: Array, of: Array, groups: int) -> list[bytes]:
    """For each group its `ids` of docs/wire.md §3; rows ascend within a group, and groups too.

    Rows are below 2 ** 21.
    """
    counts = np.bincount(of, minlength=groups).tolist()
    if not len(rows):
        return [b"\x00"] * groups
    steps = rows.copy()
    steps[1:] -= np.where(of[1:] == of[:-1], rows[:-1], 0)
    octets = np.empty((len(rows), 3), np.uint8)
    octets[:, 0] = (steps & 0x7F) | ((steps > 0x7F) << 7)
    octets[:, 1] = ((steps >> 7) & 0x7F) | ((steps > 0x3FFF) << 7)
    octets[:, 2] = steps >> 14
    keep = np.ones((len(rows), 3), np.bool_)
    keep[:, 1], keep[:, 2] = steps > 0x7F, steps > 0x3FFF
    data = octets[keep].tobytes()
    ends = np.cumsum(np.bincount(of, keep.sum(axis=1), groups)).astype(np.int64).tolist()
    starts = [0, *ends[:-1]]
    return [
        varint(count) + data[start:end]
        for count, start, end in zip(counts, starts, ends, strict=True)
    ]
