"""KV buckets with compare-and-set, TTL per key, fences, and watches that survive reconnects.

A revision is a stream sequence: it only grows, over all keys and deletions of a bucket. Each write
is one publish with the headers it needs, since nats-py's `update` drops the TTL. An expired or
purged key reads as absent, and `create` takes the place of its marker.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rallypoint.kit import bus_stream, bus_wire, errors
from rallypoint.kit.bus_acks import Outgoing
from rallypoint.kit.bus_wire import Conflict, Fence

if TYPE_CHECKING:
    from rallypoint.kit.bus import Bus

logger = logging.getLogger(__name__)

_CREATE_TRIES = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value; None when the key is gone. Key "" marks the end of a listing in a watch."""

    key: str
    value: bytes | None
    revision: int


class Put(NamedTuple):
    """A write of a key, whatever was there, while its fence stands."""

    key: str
    value: bytes
    fence: Fence


class Kv:
    """One bucket."""

    def __init__(self, bus: Bus, bucket: str) -> None:
        self._bus = bus
        self._bucket = bucket
        self._stream = bus_wire.bucket_stream(bucket)
        self._prefix = f"$KV.{bucket}."

    def fence(self, key: str, revision: int) -> Fence:
        """Return a fence for writes of other keys of this bucket."""
        return Fence(self._prefix + key, revision)

    async def get(self, key: str) -> Entry | None:
        """Return the present entry, read through the stream's leader; None when absent."""
        found = await self._last(key)
        return None if found is None or found.value is None else found

    async def create(self, key: str, value: bytes, *, ttl_s: int | None = None) -> int:
        """Write a key that is absent; return its revision. Conflict when it is there."""
        expected = 0
        for _ in range(_CREATE_TRIES):
            try:
                return await self._write(key, value, revision=expected, ttl_s=ttl_s)
            except Conflict:
                last = await self._last(key)
                if last is not None and last.value is not None:
                    raise
                expected = 0 if last is None else last.revision
        raise Conflict("REVISION_CONFLICT", f"{key} changes too often")

    async def update(
        self, key: str, value: bytes, *, revision: int, ttl_s: int | None = None
    ) -> int:
        """Replace the value that has this revision; return the new one. Else Conflict.

        Without `ttl_s` the new value does not expire, whatever the old one did.
        """
        return await self._write(key, value, revision=revision, ttl_s=ttl_s)

    async def put(
        self, key: str, value: bytes, *, ttl_s: int | None = None, fence: Fence | None = None
    ) -> int:
        """Write whatever was there; return the revision. Conflict when the fence has moved."""
        headers = fence.headers() if fence else {}
        return await self._store(key, value, headers | _ttl(ttl_s))

    async def put_all(self, puts: Sequence[Put]) -> list[int | errors.RallypointError]:
        """`put` for many at once; for each the revision, or what `put` would raise."""
        return await self._bus.store_all(
            [Outgoing(self._prefix + put.key, put.value, put.fence.headers()) for put in puts]
        )

    async def purge(
        self,
        key: str,
        *,
        ttl_s: int = 3600,
        revision: int | None = None,
        fence: Fence | None = None,
    ) -> None:
        """Remove a key; its tombstone goes after `ttl_s`.

        Conflict when its `revision`, or the fence, has moved.
        """
        headers = {bus_wire.OPERATION: "PURGE", bus_wire.ROLLUP: "sub"} | _ttl(ttl_s)
        headers |= fence.headers() if fence else {}
        if revision is not None:
            headers[bus_wire.EXPECTED_REVISION] = str(revision)
        await self._store(key, b"", headers)

    async def entries(self, pattern: str) -> list[Entry]:
        """Return the present entries that match, such as `own.*` or `>`."""
        found: list[Entry] = []
        watch = self.watch(pattern)
        async for entry in watch:
            if entry.key == "":
                break
            if entry.value is not None:
                found.append(entry)
        await watch.aclose()  # type: ignore[attr-defined]  # an async generator
        return found

    async def watch(self, pattern: str) -> AsyncIterator[Entry]:
        """Yield present values, an entry with key "", then changes as they come; never ends.

        After a reconnect everything is listed anew: only what changed is yielded (value None for
        keys that went meanwhile), then key "" again.
        """
        known: dict[str, int] = {}
        wait_s = 0.1
        async with bus_stream.Feed(self._bus) as feed:
            while True:
                try:
                    async for entry in self._listing(feed, pattern, known):
                        wait_s = 0.1
                        yield entry
                except bus_stream.Restart:
                    wait_s = 0.1
                except (bus_wire.BusUnavailable, bus_wire.ApiRefused) as error:
                    logger.info("watch_waits", extra={"bucket": self._bucket, "why": str(error)})
                wait_s = await bus_stream.backed_off(wait_s)

    async def _listing(
        self, feed: bus_stream.Feed, pattern: str, known: dict[str, int]
    ) -> AsyncIterator[Entry]:
        """Yield what differs from `known`, the end mark, then changes; keep `known` up to date."""
        to_come = await feed.open(self._stream, self._prefix + pattern, None)
        before = dict(known)
        while True:
            if to_come == 0:
                for key in before:
                    known.pop(key, None)
                    yield Entry(key, None, 0)
                yield Entry("", None, 0)
            fact = await feed.next_or_idle()
            if fact is None:
                to_come = 0 if to_come > 0 else -1  # the others expired before they were delivered
                continue
            to_come -= 1
            entry = self._entry(fact.subject, fact.data, fact.seq, bus_wire.is_gone(fact.headers))
            seen = before.pop(entry.key, 0) or known.get(entry.key, 0)
            if entry.value is None:
                if known.pop(entry.key, 0):
                    yield entry
            elif seen != entry.revision:
                known[entry.key] = entry.revision
                yield entry

    def _entry(self, subject: str, data: bytes, revision: int, gone: bool) -> Entry:  # noqa: FBT001
        return Entry(subject.removeprefix(self._prefix), None if gone else data, revision)

    async def _last(self, key: str) -> Entry | None:
        """Return the last stored message of a key: value None for a marker; None when none."""
        body = {"last_by_subj": self._prefix + key}
        try:
            reply = await self._bus.api(f"STREAM.MSG.GET.{self._stream}", body)
        except bus_wire.ApiRefused as error:
            if error.err_code == bus_wire.MESSAGE_MISSING:
                return None
            raise
        message = reply["message"]
        headers = bus_wire.parse_headers(base64.b64decode(message.get("hdrs", "")))
        data = base64.b64decode(message.get("data", ""))
        return self._entry(message["subject"], data, message["seq"], bus_wire.is_gone(headers))

    async def _write(self, key: str, value: bytes, *, revision: int, ttl_s: int | None) -> int:
        headers = {bus_wire.EXPECTED_REVISION: str(revision)} | _ttl(ttl_s)
        return await self._store(key, value, headers)

    async def _store(self, key: str, value: bytes, headers: dict[str, str]) -> int:
        return await self._bus.store(self._prefix + key, value, headers)


def _ttl(ttl_s: int | None) -> dict[str, str]:
    return {} if ttl_s is None else {bus_wire.TTL: str(ttl_s)}
