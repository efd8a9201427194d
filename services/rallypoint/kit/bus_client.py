"""nats-py's client where it falls short of what `bus` promises."""

from __future__ import annotations

from collections.abc import Callable

import nats.errors
from nats.aio.client import Client

Taker = Callable[[bytes, bytes, bytes | None], None]
"""Takes a message's subject, data and headers as they came; must be quick and not raise."""


class BusClient(Client):
    """Closes what it gives up: nats-py forgets a connection whose server did not greet it in time,
    and a loop with such a one cannot be closed.

    What comes for some subscriptions goes straight to who asked for it: of what an ack costs, a
    message object, its headers, a queue and a task are the most.
    """

    def __init__(self) -> None:
        super().__init__()
        self._takers: dict[int, Taker] = {}

    async def take(self, subject: str, taker: Taker) -> None:
        """Subscribe for good; the subscription survives reconnects."""
        subscription = await self.subscribe(subject)
        self._takers[subscription._id] = taker

    async def send(self, commands: bytes) -> None:
        """Write whole commands as `publish` does; straight away when no others wait to be written.

        OSError when the connection breaks under it.
        """
        transport = self._transport
        if transport and self.is_connected and not self._pending:
            transport.write(commands)
            await transport.drain()  # type: ignore[no-untyped-call]
            return
        await self._send_command(commands)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        taker = self._takers.get(sid)
        if taker is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            taker(subject, data, headers)

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except BaseException:
            if self._transport:
                self._transport.close()  # type: ignore[no-untyped-call]
            raise


class TlsBusClient(BusClient):
    """Refuses a server without TLS: nats-py would go on in plaintext and send the password."""

    def _connect_command(self) -> bytes:
        if not self._server_info.get("tls_required"):
            raise nats.errors.Error("the server does not speak TLS")
        return super()._connect_command()
