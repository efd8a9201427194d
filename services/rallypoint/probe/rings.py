"""Read a BPF ring buffer through its memory: about half a µs an event, no call into libbpf.

The first page holds where the reader is (we write it), the second where the kernel is, then the
data twice in a row, so that a record never wraps. A record begins with its length; bit 31 of it
says "not yet written", bit 30 "thrown away". The kernel writes each of the three before the one
that tells of it; a reader must read them in that order (libbpf does, by `smp_load_acquire`).
"""

from __future__ import annotations

import mmap
import select
import struct
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_HEAD: Final = 8
_WORD: Final = struct.Struct("=Q")
_LENGTH: Final = struct.Struct("=I")


T = TypeVar("T")


class Ring(Generic[T]):
    """The events of one ring, as `parse` reads them."""

    def __init__(self, fd: int, size: int, parse: Callable[[bytes], T]) -> None:
        self._parse = parse
        self.fd = fd
        self._mask = size - 1
        self._held = threading.Lock()
        self._held.acquire()
        self._reader = mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED)
        self._kernel = mmap.mmap(
            fd,
            mmap.PAGESIZE + 2 * size,
            mmap.MAP_SHARED,
            mmap.PROT_READ,
            offset=mmap.PAGESIZE,
        )

    def close(self) -> None:
        """Unmap."""
        self._reader.close()
        self._kernel.close()

    def wait(self, seconds: float) -> bool:
        """Wait for an event, at most so long."""
        return bool(select.select([self.fd], [], [], seconds)[0])

    def read(self) -> list[T]:
        """What has come since."""
        at: int = _WORD.unpack_from(self._reader)[0]
        end: int = _WORD.unpack_from(self._kernel)[0]
        self._order()
        written, at = self._written(at, end)
        self._order()
        taken = [self._kernel[start:stop] for start, stop in written]
        self._order()
        _WORD.pack_into(self._reader, 0, at)
        return [self._parse(record) for record in taken]

    def _written(self, at: int, end: int) -> tuple[list[tuple[int, int]], int]:
        """Where the records are that are written whole, and where what follows them is."""
        found = []
        while at < end:
            start = mmap.PAGESIZE + (at & self._mask)
            length: int = _LENGTH.unpack_from(self._kernel, start)[0]
            if length & _BUSY:
                break
            size = length & ~(_BUSY | _DISCARDED)
            if not length & _DISCARDED:
                found.append((start + _HEAD, start + _HEAD + size))
            at += (size + _HEAD + 7) // 8 * 8
        return found, at

    def _order(self) -> None:
        """Have all memory that was read before this be read before what comes after.

        A lock let go is a release and a lock taken an acquire: nothing passes the two. Processors
        of x86 read in order anyway, those of arm64 do not.
        """
        self._held.release()
        self._held.acquire()
