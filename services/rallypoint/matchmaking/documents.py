"""Queue documents: `queue.<name>` in the `config` bucket, and the files that may be written there.

The bucket is the one source: what it holds is followed, and a changed document counts from the next
cycle of its queue on (decisions §9). A document that is wrong is refused, and the last good one
stays. Files (a directory that `rallypoint up` or a ConfigMap brings) are written to the bucket at
start when they are news: a mark remembers what they said last, so that a restart undoes nothing
that an operator has changed since, and takes away what is no file any more.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from rallypoint.kit import errors, metrics, subjects
from rallypoint.kit.bus_kv import Entry, Kv
from rallypoint.kit.names import QueueName
from rallypoint.matchmaking.domain import queues
from rallypoint.matchmaking.domain.queues import QueueConfig

logger = logging.getLogger(__name__)

_PREFIX: Final = "queue."
_MARK: Final = "applied.queue."


def read_directory(directory: Path) -> Mapping[QueueName, bytes]:
    """The documents of a directory's *.json files, by queue; InvalidArgument for a wrong one."""
    try:
        files = sorted(directory.glob("*.json"))
        documents = [(path, path.read_bytes()) for path in files]
    except OSError as error:
        raise errors.InvalidArgument("QUEUE_INVALID", f"{directory}: {error}") from error
    found: dict[QueueName, bytes] = {}
    for path, data in documents:
        try:
            name = QueueName(queues.read(data).queue)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(error.reason, f"{path.name}: {error.message}") from error
        found[name] = data
    return found


async def apply(kv: Kv, documents: Mapping[QueueName, bytes], *, only: Collection[str]) -> None:
    """Write files' documents that are news; remove those that were files once and are no more.

    `only` are the names that concern us; empty: all.
    """
    marks = {
        QueueName(entry.key.removeprefix(_MARK)): entry
        for entry in await kv.entries(subjects.ALL_APPLIED_QUEUES)
    }
    for name in marks.keys() - documents.keys():
        if not only or name in only:
            await kv.purge(subjects.queue(name))
            await kv.purge(marks[name].key)
            logger.info("queue_withdrawn", extra={"queue": name})
    for name, data in documents.items():
        digest = hashlib.sha256(data).hexdigest().encode()
        mark = marks.get(name)
        if mark is not None and mark.value == digest:
            continue
        await kv.put(subjects.queue(name), data)
        await kv.put(subjects.applied(subjects.queue(name)), digest)
        logger.info("queue_applied", extra={"queue": name})


async def follow(
    kv: Kv,
    *,
    only: Collection[str],
    take: Callable[[QueueConfig], None],
    drop: Callable[[str], None],
    listed: Callable[[], None],
) -> None:
    """Hand on each document as it stands and as it changes, for ever; `listed` once all are."""
    async for entry in kv.watch(subjects.ALL_QUEUES):
        name = entry.key.removeprefix(_PREFIX)
        if not entry.key:
            listed()
        elif only and name not in only:
            continue
        elif entry.value is None:
            drop(name)
        elif (config := _read(name, entry)) is not None:
            take(config)


def _read(name: str, entry: Entry) -> QueueConfig | None:
    try:
        config = queues.read(entry.value or b"")
        if config.queue != name:
            raise errors.InvalidArgument("QUEUE_INVALID", f"{entry.key} names {config.queue}")
    except errors.InvalidArgument as error:
        metrics.MM_DOCUMENTS.labels(name, "refused").inc()
        logger.error("queue_refused", extra={"queue": name, "why": error.message})
        return None
    metrics.MM_DOCUMENTS.labels(name, "taken").inc()
    return config
