"""Leadership: one holder at a time, by a KV key with a TTL, and an epoch that only grows.

    free ──acquire──▶ held ──renewed each 4 s──▶ held … ──TTL 15 s without──▶ free

The epoch is reserved first, by compare-and-set on `config/epoch.<name>` (which never expires), so
no two takeovers share one, not even when the first stopped half-way; then the lease is made so.
The same stable holder in a new process takes its own lease over at once. A holder is safe to act
while `is_held`: renewals count from before they were sent, with a margin before the TTL.
The value is `rallypoint.internal.v1.LeaseRecord`, encoded here since kit knows no stubs.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from rallypoint.kit import metrics, subjects, waiting
from rallypoint.kit.bus import BusUnavailable, Conflict
from rallypoint.kit.bus_kv import Kv
from rallypoint.kit.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

TTL_S = 15
RENEW_S = 4.0
MARGIN_S = 2.0
POLL_S = 0.5
_VARINT_MORE = 0x80


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """Who leads."""

    holder: str
    incarnation: str
    epoch: int


class Lease:
    """One process's view of one lease. `acquire`, then run `keep` as a task and mind `lost`."""

    def __init__(
        self,
        leases: Kv,
        *,
        epoch_kv: Kv,
        name: str,
        holder: str,
        incarnation: str,
        clock: Clock | None = None,
    ) -> None:
        self._leases = leases
        self._epochs = epoch_kv
        self._name = name
        self._holder = holder
        self._incarnation = incarnation
        self._clock = clock or SystemClock()
        self._revision = 0
        self._good_until = 0.0
        self.epoch = 0
        self.lost = asyncio.Event()
        self.lost.set()

    @property
    def is_held(self) -> bool:
        """Whether this process may act as the leader now."""
        return not self.lost.is_set() and self._clock.monotonic() < self._good_until

    async def wait_over(self) -> None:
        """Return when the lease is not held any more."""
        while self.is_held:
            await waiting.happens(self.lost, self._good_until - self._clock.monotonic())

    async def acquire(self, *, at_least: int = 0) -> int:
        """Wait until the lease is ours; return the epoch, higher than `at_least` and all before."""
        while True:
            try:
                if await self._try(at_least):
                    logger.info("lease_acquired", extra={"lease": self._name, "epoch": self.epoch})
                    return self.epoch
            except Conflict:
                pass  # somebody was quicker; look again
            except BusUnavailable as error:
                logger.info("lease_waits", extra={"lease": self._name, "reason": str(error)})
            await asyncio.sleep(POLL_S)

    async def _try(self, at_least: int) -> bool:
        entry = await self._leases.get(self._name)
        if entry is not None and decode(entry.value or b"").holder != self._holder:
            return False
        epoch = await self._reserve(at_least)
        started = self._clock.monotonic()
        value = encode(LeaseRecord(self._holder, self._incarnation, epoch))
        if entry is None:
            self._revision = await self._leases.create(self._name, value, ttl_s=TTL_S)
        else:
            self._revision = await self._leases.update(
                self._name, value, revision=entry.revision, ttl_s=TTL_S
            )
        self.epoch = epoch
        self._held_from(started)
        self.lost.clear()
        metrics.LEASE_HELD.labels(self._name).set(1)
        return True

    async def _reserve(self, at_least: int) -> int:
        """Return an epoch nobody else will ever get."""
        key = subjects.epoch(self._name)
        entry = await self._epochs.get(key)
        epoch = max(at_least, int(entry.value or b"0") if entry else 0) + 1
        value = str(epoch).encode()
        if entry is None:
            await self._epochs.create(key, value)
        else:
            await self._epochs.update(key, value, revision=entry.revision)
        return epoch

    async def keep(self) -> None:
        """Renew each 4 s; set `lost` and return when the lease is not ours any more."""
        try:
            while not self.lost.is_set():
                await asyncio.sleep(RENEW_S if self._fresh() else 1.0)
                if not await self._renew():
                    return
        finally:
            self._lose()

    def _fresh(self) -> bool:
        return self._good_until - self._clock.monotonic() > TTL_S - MARGIN_S - RENEW_S

    async def _renew(self) -> bool:
        """Renew once; False when the lease was lost."""
        started = self._clock.monotonic()
        value = encode(LeaseRecord(self._holder, self._incarnation, self.epoch))
        try:
            self._revision = await self._leases.update(
                self._name, value, revision=self._revision, ttl_s=TTL_S
            )
        except Conflict:
            return await self._is_still_ours()
        except BusUnavailable as error:
            logger.warning("lease_not_renewed", extra={"lease": self._name, "reason": str(error)})
            return self._clock.monotonic() < self._good_until
        self._held_from(started)
        return True

    async def _is_still_ours(self) -> bool:
        """After a conflict: an earlier renewal whose ack was lost is still ours."""
        try:
            entry = await self._leases.get(self._name)
        except BusUnavailable:
            return self._clock.monotonic() < self._good_until
        if entry is None or entry.value is None:
            return False
        found = decode(entry.value)
        if (found.incarnation, found.epoch) != (self._incarnation, self.epoch):
            return False
        self._revision = entry.revision
        return True

    async def release(self) -> None:
        """Give the lease up, so that a standby need not wait for the TTL."""
        held, revision = self.is_held, self._revision
        self._drop()
        if held:
            logger.info("lease_released", extra={"lease": self._name, "epoch": self.epoch})
            try:
                await self._leases.purge(self._name, ttl_s=TTL_S, revision=revision)
            except (Conflict, BusUnavailable):
                logger.info("lease_not_released", extra={"lease": self._name})

    def _held_from(self, started: float) -> None:
        self._good_until = started + TTL_S - MARGIN_S

    def _lose(self) -> None:
        if not self.lost.is_set():
            logger.warning("lease_lost", extra={"lease": self._name, "epoch": self.epoch})
        self._drop()

    def _drop(self) -> None:
        self.lost.set()
        metrics.LEASE_HELD.labels(self._name).set(0)


def encode(record: LeaseRecord) -> bytes:
    """Return the protobuf bytes: holder = 1, incarnation = 2, epoch = 3."""
    parts = b""
    for tag, text in ((b"\x0a", record.holder), (b"\x12", record.incarnation)):
        data = text.encode()
        parts += tag + _varint(len(data)) + data if data else b""
    return parts + (b"\x18" + _varint(record.epoch) if record.epoch else b"")


def decode(data: bytes) -> LeaseRecord:
    """Return the record of protobuf bytes; fields it does not know must not occur."""
    fields: dict[int, bytes | int] = {}
    at = 0
    while at < len(data):
        tag, at = data[at], at + 1
        number, at = _read_varint(data, at)
        if tag & 7 == 0:
            fields[tag >> 3] = number
        else:
            fields[tag >> 3] = data[at : at + number]
            at += number
    holder, incarnation, epoch = fields.get(1, b""), fields.get(2, b""), fields.get(3, 0)
    assert isinstance(holder, bytes)
    assert isinstance(incarnation, bytes)
    assert isinstance(epoch, int)
    return LeaseRecord(holder.decode(), incarnation.decode(), epoch)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= _VARINT_MORE:
        out.append(number & 0x7F | _VARINT_MORE)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number, shift = 0, 0
    while True:
        byte, at = data[at], at + 1
        number |= (byte & 0x7F) << shift
        if byte < _VARINT_MORE:
            return number, at
        shift += 7
