"""A network cable between a browser and a gateway that a test can pull out.

A pulled cable is silent, as a dead radio link is: nothing is closed, nothing arrives, new
connections hang. Plugged in again it carries new connections; those from before stay dead.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

CHUNK = 65_536


class Cable:
    """A TCP relay on a free port."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pulled = threading.Event()
        self._sockets: list[socket.socket] = []
        self._links: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, name="cable", daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        """Where the browser finds the gateway."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def pull(self) -> None:
        """Carry nothing from now on."""
        self._pulled.set()

    def plug(self) -> None:
        """Carry new connections again."""
        self._pulled = threading.Event()

    def close(self) -> None:
        """Close everything."""
        self._pulled.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which closing alone does not
        self._accepting.join()
        self._listener.close()
        for one in self._sockets:
            _end(one)
        for link in self._links:
            link.join()
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(near)
            if not self._pulled.is_set():
                self._connect(near)

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target)
        except OSError:
            _end(near)
            return
        self._sockets.append(far)
        for source, sink in ((near, far), (far, near)):
            link = threading.Thread(target=_carry, args=(source, sink, self._pulled), daemon=True)
            self._links.append(link)
            link.start()


def _carry(source: socket.socket, sink: socket.socket, pulled: threading.Event) -> None:
    """Carry one way until an end closes; a pulled cable closes nothing."""
    try:
        while data := source.recv(CHUNK):
            if pulled.is_set():
                return
            sink.sendall(data)
    except OSError:
        pass
    if not pulled.is_set():
        _end(sink)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


@contextmanager
def laid(target: str) -> Iterator[Cable]:
    """A cable to the gateway at this address."""
    cable = Cable(target)
    try:
        yield cable
    finally:
        cable.close()
