"""The client over TLS, as behind an Ingress: matches over each transport, and whom it believes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration import test_bots
from tests.support.certificates import Authority, Pair

from rallypoint import client
from rallypoint.cli import bots
from rallypoint.cli.stack import Stack
from rallypoint.kit import errors

TRANSPORTS = {"https": "http/1.1", "wss": "http/1.1", "grpcs": "h2"}
"""By scheme, what is agreed on when TLS begins."""


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on all that comes."""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def ingress(pair: Pair, address: str, protocol: str) -> AsyncIterator[int]:
    """End TLS in front of an address, as a cluster's door does; yields the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    context.set_alpn_protocols([protocol])
    host, _, port = address.rpartition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, towards = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, towards), pump(behind, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def doors(stack: Stack, pair: Pair) -> AsyncIterator[list[str]]:
    """A URL over TLS for each transport."""
    web, native = stack.url.removeprefix("http://"), stack.address("gateway-1/native")
    async with contextlib.AsyncExitStack() as opened:
        urls = []
        for scheme, protocol in TRANSPORTS.items():
            door = ingress(pair, native if scheme == "grpcs" else web, protocol)
            urls.append(f"{scheme}://localhost:{await opened.enter_async_context(door)}")
        yield urls


@pytest.mark.timeout(120)
def test_matches_are_played_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("localhost")

    async def scenario() -> None:
        async with Stack(test_bots.wish(tmp_path / "data")) as stack, doors(stack, pair) as urls:
            for url in urls:
                with pytest.raises((errors.Unavailable, errors.DeadlineExceeded)):
                    async with client.connect(url, name="Ada", game="skirmish"):
                        pass  # nobody that is believed vouches for it
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
            for url in urls:
                score = bots.Score()
                squad = bots.Squad(url, queue="duel", brain="skirmish", count=2, matches=1)
                await bots.play(squad, score)
                assert (score.matches, score.wrong) == (2, {}), url

    asyncio.run(scenario())
