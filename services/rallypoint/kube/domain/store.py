"""What the cluster holds, as far as it was told: objects by key, and by every index asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic

from rallypoint.kube.objects import T

Index = Callable[[T], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One object before and after; `old` is None when it is new, `new` when it went."""

    key: str
    old: T | None
    new: T | None

    @property
    def present(self) -> T:
        """The object as last known."""
        item = self.new if self.new is not None else self.old
        assert item is not None
        return item


class Store(Generic[T]):
    """Objects with secondary indexes; values are immutable, so readers need no copies."""

    def __init__(self, indexes: Mapping[str, Index[T]] | None = None) -> None:
        self._items: dict[str, T] = {}
        self._indexes: dict[str, Index[T]] = {}
        self._found: dict[str, dict[str, dict[str, None]]] = {}
        for name, index in (indexes or {}).items():
            self.add_index(name, index)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._items.values()))

    @property
    def items(self) -> Mapping[str, T]:
        """All objects by key, as they are at any moment."""
        return MappingProxyType(self._items)

    def get(self, key: str) -> T | None:
        """Return an object."""
        return self._items.get(key)

    def add_index(self, name: str, index: Index[T]) -> None:
        """Index what is there and what comes; the same name twice must mean the same."""
        if name in self._indexes:
            return
        self._indexes[name], self._found[name] = index, {}
        for key, item in self._items.items():
            self._enter(name, key, item)

    def by_index(self, name: str, value: str) -> list[T]:
        """Return the objects that have `value` in an index, in the order they came."""
        return [self._items[key] for key in self._found[name].get(value, ())]

    def index_values(self, name: str) -> list[str]:
        """Return the values that an index has now."""
        return list(self._found[name])

    def put(self, item: T) -> Change[T] | None:
        """Keep an object; None when this very version was kept already."""
        key = item.key
        old = self._items.get(key)
        version = item.metadata.resource_version
        if old is not None and version and version == old.metadata.resource_version:
            return None
        self._forget(key, old)
        self._items[key] = item
        for name in self._indexes:
            self._enter(name, key, item)
        return Change(key, old, item)

    def remove(self, key: str) -> Change[T] | None:
        """Drop an object; None when it was not there."""
        old = self._items.pop(key, None)
        if old is None:
            return None
        self._forget(key, old)
        return Change(key, old, None)

    def replace(self, items: Iterable[T]) -> list[Change[T]]:
        """Hold exactly these objects; return what that changed, what went last."""
        changes, kept = [], set()
        for item in items:
            kept.add(item.key)
            if (change := self.put(item)) is not None:
                changes.append(change)
        went = (self.remove(key) for key in list(self._items) if key not in kept)
        return changes + [change for change in went if change is not None]

    def _enter(self, name: str, key: str, item: T) -> None:
        found = self._found[name]
        for value in self._indexes[name](item):
            found.setdefault(value, {})[key] = None

    def _forget(self, key: str, item: T | None) -> None:
        if item is None:
            return
        for name, index in self._indexes.items():
            found = self._found[name]
            for value in index(item):
                keys = found.get(value)
                if keys is not None:
                    keys.pop(key, None)
                    if not keys:
                        del found[value]


def by_namespace(item: T) -> Iterable[str]:
    """Index by namespace."""
    return (item.metadata.namespace,)


def newer(version: str, than: str) -> bool:
    """Tell whether a resource version of the same resource is later: they are growing numbers."""
    return int(version or 0) > int(than or 0)
