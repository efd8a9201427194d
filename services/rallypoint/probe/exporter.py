"""`rallypoint probe`: read, answer scrapes, push OTLP. One thread, and one more while it pushes.

It gives up every capability before it opens a socket. GET /metrics, /livez, /readyz; one request
per connection.
"""

from __future__ import annotations

import collections
import json
import logging
import selectors
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Final

from rallypoint.probe import reading, session, updating
from rallypoint.probe.domain import exposition, metrics, otlp, own

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
_HEAD_BYTES: Final = 8192
_REQUEST_S: Final = 2.0
PUSH_S: Final = 5.0


class Exporter:
    """Runs until `stop` is called from a signal handler."""

    def __init__(
        self,
        read: reading.Reading,
        listener: socket.socket | None,
        push: Push,
        update: updating.Updating,
        cluster_points: Callable[[], list[own.Point]] = list,
        attend: Callable[[], None] | None = None,
    ) -> None:
        self._reading = read
        self._update = update
        self._cluster_points = cluster_points
        self._attend = attend
        self._orders: collections.deque[Callable[[], None]] = collections.deque()
        self._listener = listener
        self._push = push
        self._selector = selectors.DefaultSelector()
        self._stopped = False

    def stop(self) -> None:
        """End after the turn that is going on."""
        self._stopped = True

    def update(self) -> None:
        """Begin an update at the next turn."""
        self.order(self._update.begin)

    def order(self, what: Callable[[], None]) -> None:
        """Have something done at the next turn: for signals and timers, which come in between."""
        self._orders.append(what)

    def run(self) -> None:
        """Look, answer, push; a turn takes at most a second."""
        opened = self._reading.source
        if isinstance(opened, session.Session):
            for fd in opened.rings():
                self._selector.register(fd, selectors.EVENT_READ, self._reading.look)
        if self._listener is not None:
            self._selector.register(self._listener, selectors.EVENT_READ, self._answer)
        due = time.monotonic()
        with self._selector:
            while not self._stopped:
                ready = self._selector.select(max(0.0, due - time.monotonic()))
                while self._orders:
                    self._orders.popleft()()
                for key, _ in ready:
                    key.data()
                if time.monotonic() >= due:
                    due = time.monotonic() + LOOK_S
                    self._reading.look()
                    self._update.look()
                    self._push.when_due(self.request)
                    if self._attend is not None:
                        self._attend()
        self._push.finish(self.request)

    def points(self, count: int) -> list[own.Point]:
        """The probe's own figures."""
        own_points = self._reading.about_itself(count)
        return [*own_points, *self._update.points(), *self._push.points(), *self._cluster_points()]

    def text(self) -> str:
        """What a scrape gets."""
        found = self._reading.series(apart=self._update.running)
        points = self.points(len(found))
        return exposition.text(found, points, self._reading.names, self._reading.calls())

    def request(self) -> bytes:
        """What a push holds; the events in it are told once."""
        found = self._reading.series(apart=self._update.running)
        events = list(self._reading.events)
        self._reading.events.clear()
        now = time.time_ns()
        clock = otlp.Clock(now, now - time.monotonic_ns())
        points = self.points(len(found))
        names = self._reading.names
        followed = self._reading.calls()
        return otlp.request(found, points, events, self._push.resource, clock, names, followed)

    def _answer(self) -> None:
        assert self._listener is not None
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(_REQUEST_S)
            try:
                head = connection.recv(_HEAD_BYTES).decode("latin-1")
                connection.sendall(self._response(head))
            except OSError:
                return  # a scraper that went away

    def _response(self, head: str) -> bytes:
        method, _, rest = head.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method != "GET":
            return _http("405 Method Not Allowed", "only GET\n")
        if path == "/metrics":
            return _http("200 OK", self.text(), exposition.CONTENT_TYPE)
        if path in ("/livez", "/readyz"):
            return _http("200 OK", f"{self._reading.source.mode}\n")
        return _http("404 Not Found", "not found\n")


def _http(status: str, body: str, kind: str = "text/plain; charset=utf-8") -> bytes:
    data = body.encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n"
    return f"{head}connection: close\r\n\r\n".encode() + data


class Push:
    """OTLP over HTTP every so often, in a thread, so that a slow collector holds up nothing."""

    def __init__(self, endpoint: str, every_s: float, resource: Mapping[str, str]) -> None:
        self.resource = resource
        self._endpoint = endpoint
        self._every_s = every_s
        self._due = time.monotonic() + every_s
        self._thread: threading.Thread | None = None
        self._outcomes = {"ok": 0, "failed": 0}

    def points(self) -> list[own.Point]:
        """How the pushes went."""
        if not self._endpoint:
            return []
        return [
            own.Point(metrics.PUSHES, count, (("outcome", outcome),), counter=True)
            for outcome, count in self._outcomes.items()
        ]

    def when_due(self, request: Callable[[], bytes]) -> None:
        """Push if it is time and the one before has ended."""
        now = time.monotonic()
        if not self._endpoint or now < self._due or (self._thread and self._thread.is_alive()):
            return
        self._due = now + self._every_s
        body = request()
        self._thread = threading.Thread(target=self._post, args=(body,), daemon=True, name="push")
        self._thread.start()

    def finish(self, request: Callable[[], bytes]) -> None:
        """The last one, waited for."""
        if self._endpoint:
            if self._thread:
                self._thread.join(PUSH_S)
            self._post(request())

    def _post(self, body: bytes) -> None:
        try:
            status = post(self._endpoint, body)
        except OSError as error:
            status = str(error)
        self._outcomes["ok" if status == "200" else "failed"] += 1
        if status != "200":
            logger.warning("push failed %s", json.dumps({"status": status}))


def post(endpoint: str, body: bytes) -> str:
    """POST protobuf; the status code. Plain HTTP/1.1 by hand: http.client costs 3 MB."""
    url = urllib.parse.urlsplit(endpoint)
    port = url.port or (443 if url.scheme == "https" else 80)
    head = (
        f"POST {url.path or '/v1/metrics'} HTTP/1.1\r\nhost: {url.netloc}\r\n"
        f"content-type: application/x-protobuf\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    with socket.create_connection((url.hostname or "", port), timeout=PUSH_S) as plain:
        connection = plain
        if url.scheme == "https":
            import ssl  # 2 MB that only they pay who use it

            connection = ssl.create_default_context().wrap_socket(
                plain, server_hostname=url.hostname
            )
        connection.sendall(head.encode() + body)
        answer = connection.recv(_HEAD_BYTES).decode("latin-1")
    return answer.split(" ", 2)[1] if answer.startswith("HTTP/") else "no HTTP"
