"""Redis behind one port: Lua scripts and the few plain commands we use.

No hidden retries: a mutation whose answer was lost may have happened, so scripts are idempotent by
request id and the caller decides. Every call waits its turn for one of `CONNECTIONS` connections,
in order (redis-py's blocking pool is not fair), and has half a second. Foreign errors become
StoreUnavailable; an error that a script itself raises becomes ScriptFailed with its text.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib.resources
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import hiredis

from rallypoint.kit import cancellation, errors, metrics, security, without_modules
from rallypoint.kit.security import Access

# redis-py would import the OpenTelemetry SDK, a fifth of our start-up, for metrics we do not use.
with without_modules.absent("opentelemetry.metrics", "opentelemetry.sdk.metrics"):
    import redis.asyncio
    import redis.exceptions
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

logger = logging.getLogger(__name__)

CONNECTIONS = 32
CALL_TIMEOUT_S = 0.5
CONNECT_TIMEOUT_S = 1.0

Key = str
Arg = str | bytes | int | float
T = TypeVar("T")


class StoreUnavailable(errors.Unavailable):
    """Redis does not answer. A write may or may not have happened."""

    def __init__(self, message: str) -> None:
        super().__init__("STORE_UNAVAILABLE", message, retry_after_s=1.0)


class ScriptFailed(errors.Internal):
    """A script or a command was refused by Redis: a bug of ours."""

    def __init__(self, message: str) -> None:
        super().__init__("SCRIPT_FAILED", message)


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script. `await script(keys=[...], args=[...])` runs it by its hash."""

    name: str
    text: str
    sha: str
    _store: Store

    @classmethod
    def of(cls, name: str, text: str, store: Store) -> Script:
        """Return the script of a text; `name` labels its metrics."""
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        return cls(name, text, sha, store)

    async def __call__(self, *, keys: Sequence[Key], args: Sequence[Arg] = ()) -> Any:
        """Run atomically; return Redis' reply: bytes, int, None or nested lists of them."""
        return (await self._store.script_many([Call(self, keys, args)]))[0]

    def call(self, *, keys: Sequence[Key], args: Sequence[Arg] = ()) -> Call:
        """Return a call for `Store.script_many`."""
        return Call(self, keys, args)


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script, for a pipeline."""

    script: Script
    keys: Sequence[Key]
    args: Sequence[Arg] = ()


class _Links:
    """Connections for scripts: a whole pipeline in one write, under one limit of time.

    What redis-py does around each command (tasks, locks, its own counters) costs several times the
    command itself, and scripts are the hot path. Connecting, TLS and parsing stay its own.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._idle: list[Any] = []

    async def run(self, commands: Sequence[tuple[Arg, ...]]) -> list[Any]:
        """Return the reply to each command, or the error it was refused with."""
        link = self._idle.pop() if self._idle else self._make()
        usable = False
        try:
            await self._ensure(link)
            async with asyncio.timeout(CALL_TIMEOUT_S):
                packed = b"".join(_pack(command) for command in commands)
                await link.send_packed_command(packed, check_health=False)
                replies = [await _reply(link) for _ in commands]
            usable = True
            return replies
        finally:
            if usable:
                self._idle.append(link)
            else:  # what comes next on it would be the answer to this
                await link.disconnect(nowait=True)

    async def _ensure(self, link: Any) -> None:
        """Connect, again too where the server has gone since."""
        if link.is_connected:
            try:
                if not await link.can_read():
                    return
            except (redis.exceptions.RedisError, OSError):
                pass
            await link.disconnect(nowait=True)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await link.connect()

    async def close(self) -> None:
        """Close those that nobody uses."""
        while self._idle:
            await self._idle.pop().disconnect()


_pack: Callable[[Any], bytes] = hiredis.pack_command


async def _reply(link: Any) -> Any:
    try:
        return await link.read_response()
    except redis.exceptions.ResponseError as error:
        return error


class Store:
    """A connection pool to Redis. Make one with `connect`, close it with `close`."""

    def __init__(self, client: redis.asyncio.Redis, make_link: Callable[[], Any]) -> None:
        # redis-py's annotations allow every reply to every command; ours say what we get.
        self._client: Any = client
        self._links = _Links(make_link)
        self._turn = asyncio.Semaphore(CONNECTIONS)

    @classmethod
    async def connect(cls, url: str, *, access: Access = security.OPEN) -> Store:
        """Return a store whose server answered a PING, or raise StoreUnavailable."""

        def pool(timeout_s: float | None) -> redis.asyncio.ConnectionPool:
            return redis.asyncio.ConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS + 4,
                socket_timeout=timeout_s,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                username=access.user or None,
                password=access.password or None,
                **_tls_options(access),
            )

        client = redis.asyncio.Redis(connection_pool=pool(CALL_TIMEOUT_S))
        store = cls(client, pool(None).make_connection)  # links have a limit of their own
        try:
            await store._run("ping", store._client.ping)
        except errors.RallypointError:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Close all connections."""
        await self._links.close()
        await self._client.aclose(close_connection_pool=True)

    def load(self, package: str, *files: str) -> Script:
        """Return the Lua script beside the code of `package`: the last file, after what it uses."""
        folder = importlib.resources.files(package)
        text = "".join(folder.joinpath(file).read_text(encoding="utf-8") for file in files)
        return Script.of(files[-1].removesuffix(".lua"), text, self)

    async def script_many(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip, in order, each atomic by itself; return their replies."""
        return await self._run(calls[0].script.name, lambda: self._evaluate(calls))

    async def _evaluate(self, calls: Sequence[Call]) -> list[Any]:
        replies = await self._pipeline(calls)
        missing = {
            call.script.sha: call.script
            for call, reply in zip(calls, replies, strict=True)
            if isinstance(reply, redis.exceptions.NoScriptError)
        }
        if missing:  # not run, so running again is no repetition
            for script in missing.values():
                await self._client.script_load(script.text)
            at = [n for n, r in enumerate(replies) if _is_missing(r)]
            for n, reply in zip(at, await self._pipeline([calls[n] for n in at]), strict=True):
                replies[n] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _pipeline(self, calls: Sequence[Call]) -> list[Any]:
        return await self._links.run(
            [("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args) for call in calls]
        )

    async def get(self, key: Key) -> bytes | None:
        """GET."""
        return await self._run("get", lambda: self._client.get(key))

    async def set(
        self, key: Key, value: Arg, *, px_ms: int | None = None, nx: bool = False
    ) -> bool:
        """SET; False when `nx` and the key was there."""
        return bool(await self._run("set", lambda: self._client.set(key, value, px=px_ms, nx=nx)))

    async def delete(self, *keys: Key) -> int:
        """DEL; return how many there were."""
        return await self._run("del", lambda: self._client.delete(*keys))

    async def expire(self, key: Key, seconds: int) -> bool:
        """EXPIRE."""
        return bool(await self._run("expire", lambda: self._client.expire(key, seconds)))

    async def hget(self, key: Key, field: str) -> bytes | None:
        """HGET."""
        return await self._run("hget", lambda: self._client.hget(key, field))

    async def hmget(self, key: Key, fields: Sequence[str]) -> list[bytes | None]:
        """HMGET."""
        return await self._run("hmget", lambda: self._client.hmget(key, list(fields)))

    async def hgetall(self, key: Key) -> dict[bytes, bytes]:
        """HGETALL."""
        return await self._run("hgetall", lambda: self._client.hgetall(key))

    async def hset(self, key: Key, mapping: Mapping[str, Arg]) -> int:
        """HSET; return how many fields are new."""
        return await self._run("hset", lambda: self._client.hset(key, mapping=dict(mapping)))

    async def sadd(self, key: Key, *members: str) -> int:
        """SADD."""
        return await self._run("sadd", lambda: self._client.sadd(key, *members))

    async def smembers(self, key: Key) -> frozenset[bytes]:
        """SMEMBERS."""
        return frozenset(await self._run("smembers", lambda: self._client.smembers(key)))

    async def zcard(self, key: Key) -> int:
        """ZCARD."""
        return await self._run("zcard", lambda: self._client.zcard(key))

    async def zrange(self, key: Key, start: int, end: int) -> list[bytes]:
        """ZRANGE by rank, both ends included."""
        return await self._run("zrange", lambda: self._client.zrange(key, start, end))

    async def zrank(self, key: Key, member: str) -> int | None:
        """ZRANK: how many are before it; None when absent."""
        return await self._run("zrank", lambda: self._client.zrank(key, member))

    async def zadd(self, key: Key, mapping: Mapping[str, float]) -> int:
        """ZADD."""
        return await self._run("zadd", lambda: self._client.zadd(key, dict(mapping)))

    async def xadd(self, key: Key, fields: Mapping[str, Arg]) -> bytes:
        """XADD; return the id."""
        return await self._run("xadd", lambda: self._client.xadd(key, dict(fields)))

    async def xrange(
        self, key: Key, start: str = "-", end: str = "+", *, count: int | None = None
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """XRANGE."""
        return await self._run("xrange", lambda: self._client.xrange(key, start, end, count=count))

    async def xread(
        self, streams: Mapping[str, str], *, count: int = 100
    ) -> list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]:
        """XREAD without blocking: `streams` maps a key to the last id seen."""
        found = await self._run("xread", lambda: self._client.xread(dict(streams), count=count))
        return [(name, list(entries)) for name, entries in found or ()]

    async def xdel(self, key: Key, *ids: str | bytes) -> int:
        """XDEL."""
        return await self._run("xdel", lambda: self._client.xdel(key, *ids))

    async def info(self, section: str) -> dict[str, Any]:
        """INFO of one section, for diagnosis and tests."""
        return await self._run("info", lambda: self._client.info(section))

    async def _run(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Wait for a turn, run, time and translate errors."""
        async with self._turn:
            started = time.perf_counter()
            try:
                with cancellation.kept():
                    return await call()
            except (redis.exceptions.BusyLoadingError, redis.exceptions.ReadOnlyError) as error:
                raise self._unavailable(name, error) from error
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
                raise self._unavailable(name, error) from error
            except (OSError, TimeoutError) as error:
                raise self._unavailable(name, error) from error
            except redis.exceptions.RedisError as error:
                metrics.STORE_ERRORS.labels("refused").inc()
                raise ScriptFailed(f"{name}: {error}") from error
            finally:
                _timer(name).observe(time.perf_counter() - started)

    @staticmethod
    def _unavailable(name: str, error: Exception) -> StoreUnavailable:
        metrics.STORE_ERRORS.labels("unavailable").inc()
        return StoreUnavailable(f"{name}: {error!r}")


@functools.cache
def _timer(name: str) -> Any:
    """The metric of a script or command: looking it up costs as much as the observation."""
    return metrics.STORE_SECONDS.labels(name)


def _tls_options(access: Access) -> dict[str, Any]:
    """Return what redis-py wants; it reads the files itself at each connection."""
    if access.tls is None:
        return {}
    files = {
        "ssl_ca_certs": access.tls.ca_file,
        "ssl_certfile": access.tls.cert_file,
        "ssl_keyfile": access.tls.key_file,
    }
    return {name: str(path) for name, path in files.items() if path is not None}


def _is_missing(reply: object) -> bool:
    return isinstance(reply, redis.exceptions.NoScriptError)


def texts(values: Iterable[bytes]) -> list[str]:
    """Return UTF-8 replies as texts."""
    return [value.decode() for value in values]
