"""A client that opens a stream over a raw connection and reads only when told."""

from __future__ import annotations

import asyncio
import socket
from typing import TypeVar

from google.protobuf.message import Message

Answer = TypeVar("Answer", bound=Message)


class SlowReader:
    """The connection; the kernel takes little for it."""

    def __init__(self, port: int, token: str, path: str, request: Message) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        body = request.SerializeToString()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web+proto\r\n"
            f"authorization: Bearer {token}\r\n"
            f"content-length: {len(body) + 5}\r\n\r\n"
        )
        self.socket.send(head.encode() + b"\0" + len(body).to_bytes(4, "big") + body)
        self.received = b""
        self.ended = False

    def read(self) -> None:
        """Take what is there."""
        try:
            while data := self.socket.recv(1 << 20):
                self.received += data
            self.ended = True
        except BlockingIOError:
            return
        except ConnectionError:
            self.ended = True

    async def keep_reading(self) -> None:
        """Take what comes, as it comes, to the stream's end."""
        while not self.ended and not self.received.endswith(b"\r\n0\r\n\r\n"):
            self.read()
            await asyncio.sleep(0.005)

    def messages(self, kind: type[Answer]) -> list[Answer]:
        """Decode what came so far."""
        body = self._body()
        found = []
        while len(body) >= 5:
            size = int.from_bytes(body[1:5], "big")
            if body[0] == 0 and len(body) >= 5 + size:
                found.append(kind.FromString(body[5 : 5 + size]))
            body = body[5 + size :]
        return found

    def _body(self) -> bytes:
        data, body = self.received.partition(b"\r\n\r\n")[2], b""
        while b"\r\n" in data:  # chunks
            size, _, data = data.partition(b"\r\n")
            if len(data) < int(size, 16):
                break
            body += data[: int(size, 16)]
            data = data[int(size, 16) + 2 :]
        return body
