"""Reads the bytes of a section from front to back; whatever does not fit is a `WireError`."""

from typing import Final

import numpy as np

from rallypoint.games.schema import Array, Kind

VARINT_BYTES: Final = 5


class WireError(ValueError):
    """Bytes that the wire format does not allow."""


class Reader:
    """One section's bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def mask(self, count: int) -> Array:
        """The places of the bits set in a mask of `count` bits."""
        size = (count + 7) // 8
        octets = np.frombuffer(self._take(size), np.uint8)
        bits = np.unpackbits(octets, bitorder="little")
        if bits[count:].any():
            raise WireError(f"a mask has bits beyond {count}")
        return np.flatnonzero(bits)

    def numbers(self, kind: Kind, count: int) -> Array:
        """The next `count` wire numbers."""
        return np.frombuffer(self._take(count * kind.width), kind.wire)

    def byte(self) -> int:
        """The next byte."""
        return self._take(1)[0]

    def varint(self) -> int:
        """A number in base 128."""
        value = 0
        for place in range(VARINT_BYTES):
            octet = self.byte()
            value |= (octet & 0x7F) << (7 * place)
            if octet < 0x80:
                return value
        raise WireError("a number is too long")

    def ids(self, rows: int) -> Array:
        """Ascending rows of a table of `rows`, written as distances."""
        count = self.varint()
        if count > rows:
            raise WireError(f"{count} rows of {rows}")
        steps = [self.varint() for _ in range(count)]
        found = np.cumsum(np.array(steps, np.int64))
        if count and (found[-1] >= rows or 0 in steps[1:]):
            raise WireError("rows must ascend and be in the table")
        return found

    def finish(self) -> None:
        """WireError unless everything was read."""
        if self._offset != len(self._data):
            raise WireError(f"a section has {len(self._data) - self._offset} bytes too many")

    def _take(self, size: int) -> bytes:
        taken = self._data[self._offset : self._offset + size]
        if len(taken) < size:
            raise WireError("a section ends too early")
        self._offset += size
        return taken
