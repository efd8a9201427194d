"""Follow the header compression of HTTP/2 (RFC 7541) as far as to know a call's name.

A reader must keep the encoder's table, or no later header can be understood. Ours keeps of each
entry its size, and its text only if it names a gRPC method or says that a call is one: what else a
header says (tokens, cookies) is dropped where it is read.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

STATIC: Final = (
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status",
    ":status", ":status", ":status", ":status", ":status", ":status", "accept-charset",
    "accept-encoding", "accept-language", "accept-ranges", "accept", "access-control-allow-origin",
    "age", "allow", "authorization", "cache-control", "content-disposition", "content-encoding",
    "content-language", "content-length", "content-location", "content-range", "content-type",
    "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match", "if-modified-since",
    "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location",
    "max-forwards", "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh",
    "retry-after", "server", "set-cookie", "strict-transport-security", "transfer-encoding",
    "user-agent", "vary", "via", "www-authenticate",
)  # fmt: skip
DEFAULT_BYTES: Final = 4096
MOST_BYTES: Final = 65_536
"""A larger table is not followed."""
_OVERHEAD: Final = 32
_METHOD: Final = re.compile(rb"/([A-Za-z_][\w.]{0,127}/[A-Za-z_]\w{0,63})")
_GRPC: Final = b"application/grpc"
_END: Final = 256
# RFC 7541, appendix B: the code is canonical, so its lengths are all there is to know. Runs of them
# as (length, how many symbols), from symbol 0 on.
_RUNS: Final = (
    "13 23 28*7 24 30 28*2 30 28*8 30 28*9 6 10*2 12 13 6 8 11 10*2 8 11 8 6*3 5*3 6*7 7 8 15 6 12 "
    "10 13 6 7*22 8 7 8 13 19 13 14 6 15 5 6 5 6 5 6*3 5 7*2 6*3 5 6 7 6 5*2 6 7*5 15 11 14 13 28 "
    "20 22 20*2 22*3 23 22 23*5 24 23 24*2 22 23 24 23*4 21 22 23 22 23*2 24 22 21 20 22*2 23*2 21 "
    "23 22*2 24 21 22 23*2 21*2 22 21 23 22 23*2 20 22*3 23 22*2 23 26*2 20 19 22 23 22 25 26*3 "
    "27*2 26 24 25 19 21 26 27*2 26 27 24 21*2 26*2 28 27*3 20 24 20 21 22 21*2 23 22*2 25*2 24*2 "
    "26 23 26 27 26*2 27*5 28 27*5 26 30"
)


class HpackError(Exception):
    """The block does not fit what is known of the table."""


class Head(NamedTuple):
    """What a block of headers says."""

    request: bool = False
    """It has a path: it begins a call."""
    method: str = ""
    """`package.Service/Method` of gRPC, else nothing."""


class _Entry(NamedTuple):
    size: int
    name: str
    path: str = ""
    grpc: bool = False


@lru_cache(maxsize=1)
def lengths() -> tuple[int, ...]:
    """How many bits each symbol's code has; the last is the end of a string."""
    found: list[int] = []
    for run in _RUNS.split():
        length, _, times = run.partition("*")
        found += [int(length)] * int(times or 1)
    return tuple(found)


@lru_cache(maxsize=1)
def _symbols() -> dict[int, int]:
    """Symbols by their code behind a 1, which keeps its leading zeros."""
    found, code, before = {}, 0, 0
    for symbol in sorted(range(257), key=lambda symbol: (lengths()[symbol], symbol)):
        length = lengths()[symbol]
        code <<= length - before
        found[1 << length | code] = symbol
        code, before = code + 1, length
    return found


def huffman(data: Iterable[int]) -> bytes:
    """Decode a string. Every bit is looked at once, whatever a client sends."""
    symbols, longest, code, out = _symbols(), 1 << max(lengths()), 1, bytearray()
    for byte in data:
        for shift in range(7, -1, -1):
            code = code << 1 | (byte >> shift & 1)
            symbol = symbols.get(code)
            if symbol is None:
                if code >= longest:
                    raise HpackError("no such code")
                continue
            if symbol == _END:
                raise HpackError("an end within a string")
            out.append(symbol)
            code = 1
    if code > 0xFF or code & (code + 1):  # more than 7 bits are left, or not only ones
        raise HpackError("a string ends within a symbol")
    return bytes(out)


class Decoder:
    """One direction of one connection."""

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque()
        self._bytes = 0
        self._most = DEFAULT_BYTES

    def read(self, block: bytes) -> Head:
        """Take a whole block; HpackError, after which nothing more can be understood."""
        at, found = 0, []
        try:
            while at < len(block):
                at, entry = self._field(block, at)
                if entry is not None:
                    found.append(entry)
        except IndexError:
            raise HpackError("cut off") from None
        paths = [entry.path for entry in found if entry.name == ":path"]
        grpc = any(entry.grpc for entry in found)
        return Head(bool(paths), paths[0] if paths and grpc else "")

    def _field(self, block: bytes, at: int) -> tuple[int, _Entry | None]:
        first = block[at]
        if first & 0x80:
            index, at = _integer(block, at, 7)
            return at, self._entry(index)
        if first & 0xE0 == 0x20:
            size, at = _integer(block, at, 5)
            self._resize(size)
            return at, None
        adds = bool(first & 0x40)
        index, at = _integer(block, at, 6 if adds else 4)
        if index:
            name = self._entry(index).name
            name_bytes = self._name_bytes(index)
        else:
            raw, at = _string(block, at)
            name, name_bytes = _known(raw), len(raw)
        value, at = _string(block, at)
        entry = _made(name, name_bytes + len(value) + _OVERHEAD, value)
        if adds:
            self._add(entry)
        return at, entry

    def _entry(self, index: int) -> _Entry:
        if not index:
            raise HpackError("index 0")
        if index <= len(STATIC):
            return _Entry(0, STATIC[index - 1])
        try:
            return self._entries[index - len(STATIC) - 1]
        except IndexError:
            raise HpackError("no such entry") from None

    def _name_bytes(self, index: int) -> int:
        name = self._entry(index).name
        return int(name[1:]) if name.startswith("\0") else len(name)

    def _add(self, entry: _Entry) -> None:
        self._entries.appendleft(entry)
        self._bytes += entry.size
        self._evict()

    def _resize(self, size: int) -> None:
        if size > MOST_BYTES:
            raise HpackError("too large a table")
        self._most = size
        self._evict()

    def _evict(self) -> None:
        while self._bytes > self._most:
            self._bytes -= self._entries.pop().size


def _known(raw: bytes) -> str:
    """A name that matters; of others nothing is kept but how long they are."""
    return raw.decode() if raw in (b":path", b"content-type") else f"\0{len(raw)}"


def _made(name: str, size: int, value: bytes) -> _Entry:
    if name == ":path":
        found = _METHOD.fullmatch(value)
        return _Entry(size, name, found[1].decode() if found else "")
    return _Entry(size, name, grpc=name == "content-type" and value.startswith(_GRPC))


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value, at = block[at] & most, at + 1
    if value < most:
        return value, at
    for shift in range(0, 35, 7):
        byte, at = block[at], at + 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise HpackError("too large a number")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    coded = block[at] & 0x80
    size, at = _integer(block, at, 7)
    data = block[at : at + size]
    if len(data) < size:
        raise HpackError("cut off")
    if coded:
        data = huffman(data)
    return data, at + size
