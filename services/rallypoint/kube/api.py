"""Typed calls on one kind in one cluster: read, write, patch, apply, scale, delete.

    pods = Api(transport, PODS, manager="my-operator")
    await pods.apply("web-0", {"metadata": {"labels": {"ready": "yes"}}}, namespace="game")

`manager` is the field manager of every write: the API server remembers who owns which field.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import msgspec

from rallypoint.kube import errors, objects
from rallypoint.kube.domain import patches
from rallypoint.kube.domain.backoff import Backoff
from rallypoint.kube.domain.selectors import Selector
from rallypoint.kube.kinds import Kind
from rallypoint.kube.objects import T
from rallypoint.kube.transport import Call, Gate, Transport

PAGE_ITEMS = 500
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"  # JSON is YAML
CONFLICT_BACKOFF = Backoff(first_s=0.01, most_s=1.0)
R = TypeVar("R")
Propagation = Literal["Background", "Foreground", "Orphan"]


class RawList(msgspec.Struct, frozen=True):
    """A page of a list; its items are decoded one by one, so that a bad one spoils no other."""

    metadata: objects.ListMeta
    items: tuple[msgspec.Raw, ...] | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which objects of a kind: one namespace or all, by labels, by fields."""

    namespace: str = ""
    labels: Selector | str = ""
    fields: str = ""

    def query(self) -> dict[str, str]:
        """Return the query of it."""
        asked = {"labelSelector": str(self.labels), "fieldSelector": self.fields}
        return {name: value for name, value in asked.items() if value}


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some objects of a list; `unreadable` are those that do not fit the type."""

    items: tuple[T, ...]
    version: str
    unreadable: tuple[str, ...] = ()


class Api(Generic[T]):
    """One kind in one cluster."""

    def __init__(
        self,
        transport: Transport,
        kind: Kind[T],
        *,
        manager: str,
        gate: Gate | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.transport = transport
        self.kind = kind
        self._manager = manager
        self._gate = gate
        self._rng = rng or random.Random()
        self._decoder = msgspec.json.Decoder(kind.type)

    async def get(self, name: str, *, namespace: str = "") -> T:
        """Return one object; NotFound if there is none."""
        return self._decode(await self._call("GET", self._path(namespace, name)))

    async def list(self, scope: Scope = EVERYTHING) -> list[T]:
        """Return all objects of a scope."""
        return [item async for page in self.pages(scope) for item in page.items]

    async def pages(
        self, scope: Scope = EVERYTHING, *, limit: int = PAGE_ITEMS
    ) -> AsyncIterator[Page[T]]:
        """Yield a list page by page; Gone when it takes longer than the server remembers."""
        query = scope.query() | ({"limit": str(limit)} if limit else {})
        while True:
            body = await self._call("GET", self._path(scope.namespace), query=query)
            raw = self._typed(body, RawList)
            items, unreadable = self.decode_all(raw.items or ())
            yield Page(items, raw.metadata.resource_version, unreadable)
            if not raw.metadata.continue_:
                return
            query["continue"] = raw.metadata.continue_

    @asynccontextmanager
    async def watch(
        self, scope: Scope, version: str, *, timeout_s: int, silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch with bookmarks from a version on and yield its lines."""
        query = scope.query() | {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(timeout_s),
        }
        call = Call("GET", self._path(scope.namespace), query)
        async with self.transport.stream(call, silence_s=silence_s) as lines:
            yield lines

    async def create(self, item: T) -> T:
        """Make an object; AlreadyExists if one has its name."""
        path = self._path(item.metadata.namespace)
        return self._decode(await self._write("POST", path, self._encode(item)))

    async def create_value(self, value: Mapping[str, Any], *, namespace: str = "") -> T:
        """Make an object of which the type names only a part, as `create` does."""
        typed = {**value, "apiVersion": self.kind.api_version, "kind": self.kind.kind}
        return self._decode(
            await self._write("POST", self._path(namespace), msgspec.json.encode(typed))
        )

    async def replace(self, item: T, *, subresource: str = "") -> T:
        """Put a whole object; Conflict unless its resourceVersion is the present one.

        What its type does not name is gone then: for objects of others there is `update`.
        """
        meta = item.metadata
        path = self._path(meta.namespace, meta.name, subresource)
        return self._decode(await self._write("PUT", path, self._encode(item)))

    async def update(
        self,
        name: str,
        change: Callable[[T], T],
        *,
        namespace: str = "",
        cached: T | None = None,
        subresource: str = "",
        tries: int = 8,
    ) -> T:
        """Read, change, write; on a conflict read again. No write where `change` changes nothing.

        The first try is made from `cached`, if given, and costs no read. Only what changed is sent,
        so fields that the type does not name stay as they are.
        """
        for attempt in range(1, tries + 1):
            item = cached if cached is not None else await self.get(name, namespace=namespace)
            changed = change(item)
            if changed == item:
                return item
            try:
                return await self._patch_since(item, changed, subresource)
            except errors.Conflict:
                if attempt == tries:
                    raise
            cached = None
            await asyncio.sleep(CONFLICT_BACKOFF.delay(attempt, self._rng))
        raise AssertionError("tries must be at least 1")

    async def _patch_since(self, old: T, new: T, subresource: str) -> T:
        """Send the difference; Conflict unless `old` is still what is there."""
        patch = patches.merge_diff(msgspec.to_builtins(old), msgspec.to_builtins(new))
        patch = {name: part for name, part in patch.items() if name not in ("apiVersion", "kind")}
        meta = old.metadata
        patch.setdefault("metadata", {})["resourceVersion"] = meta.resource_version
        return await self.merge_patch(
            meta.name, patch, namespace=meta.namespace, subresource=subresource
        )

    async def apply(
        self,
        name: str,
        fields: Mapping[str, Any],
        *,
        namespace: str = "",
        subresource: str = "",
        force: bool = False,
    ) -> T:
        """Own exactly these fields (server-side apply); Conflict if another manager owns one.

        Fields of an earlier apply that are absent now are given up. Force only what is ours alone.
        """
        metadata = {"name": name, **fields.get("metadata", {})}
        if namespace:
            metadata["namespace"] = namespace
        typed = {"apiVersion": self.kind.api_version, "kind": self.kind.kind}
        body = msgspec.json.encode({**fields, **typed, "metadata": metadata})
        path = self._path(namespace, name, subresource)
        query = {"force": "true"} if force else {}
        return self._decode(await self._write("PATCH", path, body, content_type=APPLY, query=query))

    async def merge_patch(
        self, name: str, patch: Mapping[str, Any], *, namespace: str = "", subresource: str = ""
    ) -> T:
        """Set some fields; null removes one."""
        path = self._path(namespace, name, subresource)
        body = msgspec.json.encode(patch)
        return self._decode(await self._write("PATCH", path, body, content_type=MERGE))

    async def json_patch(
        self, name: str, patch: patches.JsonPatch, *, namespace: str = "", subresource: str = ""
    ) -> T:
        """Carry out operations, all or none; Invalid when a `test` fails."""
        path = self._path(namespace, name, subresource)
        body = msgspec.json.encode(patch)
        return self._decode(await self._write("PATCH", path, body, content_type=JSON_PATCH))

    async def delete(
        self,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        version: str = "",
        propagation: Propagation = "Background",
        grace_s: int | None = None,
    ) -> None:
        """Delete an object; with `uid` or `version` only if it is that very one (else Conflict)."""
        asked: dict[str, Any] = {"propagationPolicy": propagation}
        conditions = {"uid": uid, "resourceVersion": version}
        if wanted := {key: value for key, value in conditions.items() if value}:
            asked["preconditions"] = wanted
        if grace_s is not None:
            asked["gracePeriodSeconds"] = grace_s
        body = msgspec.json.encode(asked)
        path = self._path(namespace, name)
        await self._call("DELETE", path, body=body)

    async def post(
        self, name: str, subresource: str, value: Mapping[str, Any], *, namespace: str = ""
    ) -> None:
        """Ask something of an object through a subresource, such as an eviction."""
        body = msgspec.json.encode(value)
        await self._write("POST", self._path(namespace, name, subresource), body)

    async def get_scale(self, name: str, *, namespace: str = "") -> objects.Scale:
        """Return what kubectl scale and the HPA see."""
        body = await self._call("GET", self._path(namespace, name, "scale"))
        return self._typed(body, objects.Scale)

    async def set_scale(self, name: str, replicas: int, *, namespace: str = "") -> objects.Scale:
        """Set the wanted number, and nothing else of the object."""
        body = msgspec.json.encode({"spec": {"replicas": replicas}})
        path = self._path(namespace, name, "scale")
        return self._typed(
            await self._write("PATCH", path, body, content_type=MERGE), objects.Scale
        )

    def decode(self, raw: bytes | msgspec.Raw) -> T:
        """Return a typed object; msgspec's error when it does not fit."""
        return self._decoder.decode(raw)

    def decode_all(self, raw: tuple[msgspec.Raw, ...]) -> tuple[tuple[T, ...], tuple[str, ...]]:
        """Return the objects that fit the type, and what is wrong with the others."""
        items, unreadable = [], []
        for one in raw:
            try:
                items.append(self._decoder.decode(one))
            except msgspec.MsgspecError as error:
                unreadable.append(f"{named(one)}: {error}")
        return tuple(items), tuple(unreadable)

    def _path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        return self.kind.path(namespace, name, subresource)

    def _encode(self, item: T) -> bytes:
        typed = msgspec.structs.replace(
            item, api_version=self.kind.api_version, kind=self.kind.kind
        )
        return msgspec.json.encode(typed)

    def _decode(self, body: bytes) -> T:
        return self._typed(body, self.kind.type)

    def _typed(self, body: bytes, kind: type[R]) -> R:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            text = f"{self.kind.plural}: {error}"
            raise errors.Unreadable(text, cluster=self.transport.cluster) from error

    async def _call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> bytes:  # fmt: skip
        gate = self._gate if method != "GET" else None
        return await self.transport.request(Call(method, path, query or {}, body), gate=gate)

    async def _write(
        self, method: str, path: str, body: bytes, *, content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> bytes:  # fmt: skip
        known = {"fieldManager": self._manager, **(query or {})}
        call = Call(method, path, known, body, content_type)
        return await self.transport.request(call, gate=self._gate)


class _Named(msgspec.Struct, frozen=True):
    metadata: objects.ObjectMeta = objects.ObjectMeta()


def named(raw: bytes | msgspec.Raw) -> str:
    """Return the name of an object that may not fit its type."""
    try:
        meta = msgspec.json.decode(raw, type=_Named).metadata
    except msgspec.MsgspecError:
        return "?"
    return f"{meta.namespace}/{meta.name}".lstrip("/")
