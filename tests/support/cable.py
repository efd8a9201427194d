"""A network cable between a browser and a gateway that a test can pull out, or squeeze.

A pulled cable is silent, as a dead radio link is: nothing is closed, nothing arrives, new
connections hang. Plugged in again it carries new connections; those from before stay dead. A
squeezed one carries so many bytes a second to the browser, all its connections together.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

CHUNK = 65_536
SQUEEZED_CHUNK = 1_024
BUFFER = 4_096
"""What the kernel keeps on the way to the browser: a squeezed cable is not a long one."""


class Cable:
    """A TCP relay on a free port."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pulled = threading.Event()
        self.bytes_per_s = 0
        """To the browser; 0: as many as there are."""
        self.carried = 0
        """Bytes to the browser so far."""
        self._turn = threading.Lock()
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

    def _squeeze(self, data: bytes) -> bytes:
        """Let these bytes through in their time."""
        with self._turn:
            if self.bytes_per_s:
                time.sleep(len(data) / self.bytes_per_s)
            self.carried += len(data)
        return data

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
        far = socket.socket()
        self._sockets.append(far)
        try:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            far.connect(self._target)
        except OSError:
            _end(near)
            return
        for source, sink in ((near, far), (far, near)):
            through = self._squeeze if source is far else bytes
            carried = (source, sink, self._pulled, through)
            link = threading.Thread(target=_carry, args=carried, daemon=True)
            self._links.append(link)
            link.start()


def _carry(
    source: socket.socket,
    sink: socket.socket,
    pulled: threading.Event,
    through: Callable[[bytes], bytes],
) -> None:
    """Carry one way until an end closes; a pulled cable closes nothing."""
    try:
        while data := source.recv(CHUNK if through is bytes else SQUEEZED_CHUNK):
            if pulled.is_set():
                return
            sink.sendall(through(data))
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
