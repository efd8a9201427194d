"""A cache of one scope of one kind, shared by all who read it, with handlers for what changes.

    nodes = informers.informer(NODES)
    nodes.add_index("zone", lambda node: (node.metadata.labels.get("zone", ""),))
    nodes.on_change(lambda change: queue.add(change.key), only=lambda node: node.spec.unschedulable)
    await nodes.wait_synced()
    nodes.lister.by_index("zone", "a")

Handlers are plain functions called in order on the loop; they post a key to a queue and return.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, cast

from rallypoint.kube import errors
from rallypoint.kube.api import EVERYTHING, Api, Scope
from rallypoint.kube.domain.selectors import Selector
from rallypoint.kube.domain.store import Change, Index, Store, newer
from rallypoint.kube.domain.watching import Statistics
from rallypoint.kube.kinds import Kind
from rallypoint.kube.objects import T
from rallypoint.kube.reflector import DEFAULT_PACE, Pace, Reflector
from rallypoint.kube.transport import Transport

log = logging.getLogger(__name__)
Handler = Callable[[Change[T]], None]
Filter = Callable[[T], bool]


class Lister(Generic[T]):
    """Read what an informer holds. Values are immutable; a list is the reader's own."""

    def __init__(self, store: Store[T]) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def __iter__(self) -> Iterator[T]:
        return iter(self._store)

    def get(self, name: str, *, namespace: str = "") -> T | None:
        """Return one object."""
        return self._store.get(f"{namespace}/{name}" if namespace else name)

    def by_key(self, key: str) -> T | None:
        """Return the object of a `namespace/name`."""
        return self._store.get(key)

    def by_index(self, index: str, value: str) -> list[T]:
        """Return the objects that have a value in an index."""
        return self._store.by_index(index, value)

    def select(self, selector: Selector, *, namespace: str = "") -> list[T]:
        """Return the objects whose labels match."""
        return [
            item
            for item in self._store
            if (not namespace or item.metadata.namespace == namespace)
            and selector.matches(item.metadata.labels)
        ]


class Informer(Generic[T]):
    """A store kept in step by a reflector, and who wants to know."""

    def __init__(
        self,
        api: Api[T],
        scope: Scope = EVERYTHING,
        *,
        indexes: Mapping[str, Index[T]] | None = None,
        pace: Pace = DEFAULT_PACE,
        rng: random.Random | None = None,
    ) -> None:
        self._store: Store[T] = Store(indexes)
        self._handlers: list[Handler[T]] = []
        self._synced = asyncio.Event()
        self._failure: Exception | None = None
        self._version = ""
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._reflector = Reflector(api, scope, self, pace=pace, rng=rng)
        self.cluster = api.transport.cluster
        self.lister = Lister(self._store)

    @property
    def version(self) -> str:
        """The resource version up to which all is known."""
        return self._version

    def statistics(self) -> Statistics:
        """Return what the reflector has done."""
        return self._reflector.statistics()

    def add_index(self, name: str, index: Index[T]) -> None:
        """Index what is there and what comes."""
        self._store.add_index(name, index)

    def on_change(self, handler: Handler[T], *, only: Filter[T] | None = None) -> None:
        """Call `handler` for every change, and now for all that is there.

        With `only`, an object that begins to pass the filter is new to the handler, and one that
        passes no longer went.
        """
        told = handler if only is None else _filtered(handler, only)
        self._handlers.append(told)
        for item in self._store:
            self._tell_one(told, Change(item.key, None, item))

    async def run(self) -> None:
        """Keep in step until cancelled. An error that is no cluster's ends this and all waits."""
        try:
            await self._reflector.run()
        except Exception as error:
            self._end(error)
            raise

    async def wait_synced(self) -> None:
        """Wait until the first list is in; a KubeError when the informer has ended."""
        await self._synced.wait()
        self._check()

    async def wait_version(self, version: str) -> None:
        """Wait until the cache has passed a version, as after a conflict with it."""
        if newer(version, self._version):
            self._check()
            passed = asyncio.get_running_loop().create_future()
            self._waiting.append((version, passed))
            await passed
            self._check()

    def replaced(self, items: Sequence[T], version: str) -> None:
        """A whole list (from the reflector)."""
        for change in self._store.replace(items):
            self._tell(change)
        self.advanced(version)
        self._synced.set()

    def put(self, item: T) -> None:
        """One object (from the reflector)."""
        if (change := self._store.put(item)) is not None:
            self._tell(change)

    def removed(self, key: str) -> None:
        """One object less (from the reflector)."""
        if (change := self._store.remove(key)) is not None:
            self._tell(change)

    def advanced(self, version: str) -> None:
        """All up to this version is in (from the reflector)."""
        self._version = version
        if self._waiting:
            self._wake()

    def _end(self, error: Exception) -> None:
        """Let nobody wait for what will never come."""
        self._failure = error
        self._synced.set()
        for _, passed in self._waiting:
            if not passed.done():
                passed.set_result(None)
        self._waiting = []

    def _check(self) -> None:
        if self._failure is not None:
            text = f"the informer has ended: {type(self._failure).__name__} {self._failure}"
            raise errors.KubeError(text, cluster=self.cluster) from self._failure

    def _wake(self) -> None:
        still = []
        for version, passed in self._waiting:
            if newer(version, self._version):
                still.append((version, passed))
            elif not passed.done():
                passed.set_result(None)
        self._waiting = still

    def _tell(self, change: Change[T]) -> None:
        for handler in self._handlers:
            self._tell_one(handler, change)

    def _tell_one(self, handler: Handler[T], change: Change[T]) -> None:
        try:
            handler(change)
        except Exception:  # one reader's bug must not stop what all the others see
            log.exception("handler failed", extra={"key": change.key, "cluster": self.cluster})


class Informers:
    """One informer for each kind and scope, however many ask for it. Use it as a context."""

    def __init__(self, transport: Transport, *, manager: str, pace: Pace = DEFAULT_PACE) -> None:
        self._transport, self._manager, self._pace = transport, manager, pace
        self._known: dict[tuple[str, Scope], Informer[Any]] = {}
        self._tasks: dict[tuple[str, Scope], asyncio.Task[None]] = {}
        self._running = False

    def informer(self, kind: Kind[T], scope: Scope = EVERYTHING) -> Informer[T]:
        """Return the informer of a kind and scope, started if this context is entered."""
        at = (
            f"{kind.api_version}/{kind.plural}",
            Scope(scope.namespace, str(scope.labels), scope.fields),
        )
        if at not in self._known:
            api = Api(self._transport, kind, manager=self._manager)
            self._known[at] = Informer(api, scope, pace=self._pace)
            if self._running:
                self._start(at)
        return cast("Informer[T]", self._known[at])

    async def wait_synced(self) -> None:
        """Wait until all of them have their first list."""
        for informer in list(self._known.values()):
            await informer.wait_synced()

    async def __aenter__(self) -> Informers:
        self._running = True
        for at in self._known:
            self._start(at)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running = False
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    def _start(self, at: tuple[str, Scope]) -> None:
        run = self._known[at].run()
        task = asyncio.create_task(run, name=f"informer {at[0]}")
        task.add_done_callback(self._ended)
        self._tasks[at] = task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            told = {"cluster": self._transport.cluster}
            log.error("%s ended", task.get_name(), exc_info=error, extra=told)


def _filtered(handler: Handler[T], only: Filter[T]) -> Handler[T]:
    def told(change: Change[T]) -> None:
        old = change.old if change.old is not None and only(change.old) else None
        new = change.new if change.new is not None and only(change.new) else None
        if old is not None or new is not None:
            handler(Change(change.key, old, new))

    return told
