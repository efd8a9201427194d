"""Requests to one API server: credentials, in-flight limit, patience, trace. Knows no kinds.

- A refusal that says when to come back (429 and 503 with Retry-After) was not carried out: it is
  sent again after that time, with jitter, whatever the method.
- Any other 5xx and a lost connection are tried again for reads only: of a write nobody knows
  whether it took place, and the caller alone knows whether a second one does harm.
- Each refusal halves the in-flight limit, each round of answers raises it by one.
- Every write carries a W3C traceparent, a new one where no trace is under way.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from rallypoint.kit import metrics, telemetry
from rallypoint.kit.clock import Clock, SystemClock
from rallypoint.kube import errors
from rallypoint.kube.config import ClusterConfig
from rallypoint.kube.credentials import Credentials
from rallypoint.kube.domain.backoff import Backoff, retry_after
from rallypoint.kube.domain.limiter import Window

READS = frozenset({"GET", "HEAD"})
LINE_MAX_BYTES = 8 << 20
READ_BACKOFF = Backoff(first_s=0.1, most_s=5.0)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long calls wait and how often they are sent again."""

    request_s: float = 30.0
    connect_s: float = 5.0
    tries: int = 5
    backoff: Backoff = READ_BACKOFF
    # A server that asks for more than this is told to our caller instead of waited for.
    most_retry_after_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"
    timeout_s: float | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


DEFAULT_PATIENCE = Patience()
# Returns for how many seconds this process may still write, or raises NotLeading.
Gate = Callable[[], float]


class Transport:
    """A pool of connections to one API server."""

    def __init__(
        self,
        config: ClusterConfig,
        *,
        patience: Patience = DEFAULT_PATIENCE,
        clock: Clock | None = None,
        window: Window | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self.window = window or Window()
        self._patience = patience
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._credentials = Credentials(config, self._clock)
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def cluster(self) -> str:
        """The name that errors carry."""
        return self.config.name

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def request(self, call: Call, *, gate: Gate | None = None) -> bytes:
        """Send a call until it is answered; return the body or raise a KubeError."""
        name = f"kube.{call.method.lower()}"
        attributes = {"k8s.cluster.name": self.cluster, "url.path": call.path}
        with telemetry.span(name, kind="client", attributes=attributes):
            headers = traced({}) if call.method not in READS else telemetry.inject({})
            failures = 0
            while True:
                try:
                    return await self._once(call, headers, gate)
                except errors.KubeError as error:
                    failures += 1
                    wait = self._wait_before_retry(call, error, failures)
                    if wait is None:
                        raise
                await asyncio.sleep(wait)

    @asynccontextmanager
    async def stream(self, call: Call, *, silence_s: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a long answer and yield its lines; silence for `silence_s` is Unavailable.

        A stream holds no place of the in-flight limit: it costs the server its beginning only.
        """
        session = await self._opened()
        headers = await self._credentials.headers()
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._patience.connect_s, sock_read=silence_s
        )
        async with self._translated(call), session.request(
            call.method, self._url(call), params=call.query, headers=headers, timeout=timeout,
            proxy=self.config.proxy_url, server_hostname=self.config.tls_server_name,
        ) as response:  # fmt: skip
            if response.status >= 400:
                if response.status == 401:
                    self._credentials.refused()
                raise self._refusal(call, response, await response.read())
            try:
                yield _lines(response.content)
            finally:
                _drop(response)

    async def _once(self, call: Call, headers: Mapping[str, str], gate: Gate | None) -> bytes:
        async with self._place():
            if gate is not None:  # asked last: what waited for a place may have waited too long
                limit_s = min(gate(), call.timeout_s or self._patience.request_s)
            else:
                limit_s = call.timeout_s or self._patience.request_s
            sent_at = self._clock.monotonic()
            try:
                body = await self._send(call, headers, limit_s)
            except errors.KubeError as error:
                self._note(call, error.status, sent_at)
                if isinstance(error, errors.TooManyRequests | errors.Unavailable):
                    self.window.refused(sent_at=sent_at, now=self._clock.monotonic())
                raise
            self._note(call, 200, sent_at)
            self.window.succeeded()
            return body

    def _note(self, call: Call, status: int, sent_at: float) -> None:
        """Meter an answer, or that there was none."""
        seconds = self._clock.monotonic() - sent_at
        known = metrics.KUBE_CALL_SECONDS.labels(self.cluster, call.method, str(status))
        known.observe(seconds)
        metrics.KUBE_LIMIT.labels(self.cluster).set(self.window.limit)

    async def _send(self, call: Call, headers: Mapping[str, str], limit_s: float) -> bytes:
        session = await self._opened()
        known = {**headers, **await self._credentials.headers()}
        if call.body is not None:
            known["Content-Type"] = call.content_type
        timeout = aiohttp.ClientTimeout(total=limit_s, sock_connect=self._patience.connect_s)
        async with self._translated(call), session.request(
            call.method, self._url(call), params=call.query, data=call.body, headers=known,
            timeout=timeout, proxy=self.config.proxy_url,
            server_hostname=self.config.tls_server_name,
        ) as response:  # fmt: skip
            body = await response.read()
            if response.status >= 400:
                raise self._refusal(call, response, body)
            return body

    def _wait_before_retry(
        self, call: Call, error: errors.KubeError, failures: int
    ) -> float | None:
        """Return how long to wait before sending a call again, None when it is not to be."""
        if isinstance(error, errors.Unauthorized) and failures == 1:
            return 0.0 if self._credentials.refused() else None
        if failures >= self._patience.tries or not isinstance(
            error, errors.TooManyRequests | errors.Unavailable
        ):
            return None
        if error.retry_after_s is not None:
            asked = retry_after(error.retry_after_s, self._rng)
            return asked if error.retry_after_s <= self._patience.most_retry_after_s else None
        if call.method in READS:
            return self._patience.backoff.delay(failures, self._rng)
        return None

    @asynccontextmanager
    async def _translated(self, call: Call) -> AsyncIterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise errors.Unavailable(f"{call}: no answer in time", cluster=self.cluster) from error
        except (aiohttp.ClientError, OSError) as error:
            text = f"{call}: {type(error).__name__} {error}".strip()
            raise errors.Unavailable(text, cluster=self.cluster) from error

    def _refusal(
        self, call: Call, response: aiohttp.ClientResponse, body: bytes
    ) -> errors.KubeError:
        asked = response.headers.get("Retry-After", "")
        return errors.from_answer(
            response.status,
            body,
            cluster=self.cluster,
            call=str(call),
            retry_after_s=float(asked) if asked.isdigit() else None,
        )

    def _url(self, call: Call) -> str:
        return self.config.server + call.path

    async def _opened(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                tls = await self._credentials.tls()
                # The window limits requests; streams must always find a connection.
                connector = aiohttp.TCPConnector(limit=0, ssl=tls if tls is not None else True)
                self._session = aiohttp.ClientSession(
                    connector=connector,
                    # Unpacking costs more than a network inside a cluster does.
                    headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                    auto_decompress=False,
                    read_bufsize=1 << 18,
                )
            return self._session

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Hold one place of the in-flight limit, first come, first served."""
        if self._waiting or not self.window.try_enter():
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                elif not turn.cancelled():
                    self._leave()
                raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self.window.leave()
        while self._waiting and self.window.try_enter():
            turn = self._waiting.popleft()
            if turn.cancelled():
                self.window.leave()
            else:
                turn.set_result(None)


def _drop(response: aiohttp.ClientResponse) -> None:
    """Close a connection without a farewell, for which nobody would wait."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def traced(headers: dict[str, str]) -> dict[str, str]:
    """Return headers with the current trace, or with one that begins here (not sampled)."""
    telemetry.inject(headers)
    if "traceparent" not in headers:
        headers["traceparent"] = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
    return headers


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split a stream at line ends; one chunk often holds hundreds of lines."""
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
        for line in whole:
            if line:
                yield line
        if len(rest) > LINE_MAX_BYTES:
            raise aiohttp.ClientPayloadError(f"a line of more than {LINE_MAX_BYTES} bytes")
