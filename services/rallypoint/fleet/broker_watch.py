"""What brokers say of themselves: how full streams are that refuse, whether Redis' disk keeps up.

Every fleet looks, so that one is enough; rules and dashboards take the most of them.
"""

from __future__ import annotations

from rallypoint.kit import bus_wire, metrics, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.store import Store

REFUSING = (
    *(stream.name for stream in subjects.STREAMS if stream.discard == "new"),
    *(bus_wire.bucket_stream(bucket.name) for bucket in subjects.BUCKETS),
)
"""What takes nothing more when it is full; the other streams forget their oldest."""


class BrokerWatch:
    """Looks when it is asked to. Raises BusUnavailable and StoreUnavailable."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus = bus
        self._store = store
        self._delayed: int | None = None

    async def look_at_streams(self) -> None:
        """Measure how full each is that refuses when full."""
        for name in REFUSING:
            told = await self._bus.api(f"STREAM.INFO.{name}")
            most = int(told["config"]["max_bytes"])  # absent a limit, -1
            share = int(told["state"]["bytes"]) / most if most > 0 else 0.0
            metrics.BUS_STREAM_FILL.labels(name).set(share)

    async def look_at_store(self) -> None:
        """See whether what Redis acknowledges reaches its disk."""
        told = await self._store.info("persistence")
        metrics.STORE_UNSAVED.set(told.get("aof_last_write_status", "ok") != "ok")
        delayed = int(told.get("aof_delayed_fsync", 0))  # absent without a file of commands
        metrics.STORE_FSYNCS_DELAYED.inc(more(self._delayed, delayed))
        self._delayed = delayed


def more(before: int | None, now: int) -> int:
    """How much a counter of somebody else grew; one that fell began anew."""
    if before is None:
        return 0
    return now - before if now >= before else now
