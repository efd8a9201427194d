"""Trunks over real sockets: who gets in, what breaks one, and what a slow peer costs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.support.certificates import Authority, Pair
from tests.support.waiting import until

from rallypoint.kit import rpc, security
from rallypoint.kit.security import SecuritySettings
from rallypoint.kit.trunk import FULL_BYTES, TOKEN_BYTES, Trunk, connect
from rallypoint.kit.trunk_listener import UNPROVEN_MAX, TrunkListener

HOST = "127.0.0.1"
MOST = 4096


@dataclass
class Side:
    """One end of a trunk and what it heard."""

    trunk: Trunk
    heard: list[bytes] = field(default_factory=list)
    writable: int = 0

    def __post_init__(self) -> None:
        self.trunk.start(received=self.heard.append, writable=self._count)

    def _count(self) -> None:
        self.writable += 1


class Door:
    """A listener, and the trunks that came."""

    def __init__(self, listener: TrunkListener, port: int) -> None:
        self.listener = listener
        self.port = port
        self.opened: list[Trunk] = []
        self._pairs: list[Trunk] = []

    def token(self) -> bytes:
        return self.listener.offer(self.opened.append).token

    async def pair(self) -> tuple[Side, Side]:
        """Both ends of a new trunk; ours first."""
        near = await connect(HOST, self.port, self.token(), message_bytes_max=MOST * 1024)
        await until(lambda: bool(self.opened))
        self._pairs += [near, far := self.opened.pop()]
        return Side(near), Side(far)

    async def close(self) -> None:
        """End all."""
        self.listener.close()
        for trunk in (*self._pairs, *self.opened):
            trunk.abort()
            await trunk.wait_lost()


@asynccontextmanager
async def door(*, handshake_s: float = 5.0) -> AsyncIterator[Door]:
    listener = TrunkListener(message_bytes_max=MOST, handshake_s=handshake_s)
    made = Door(listener, await listener.listen("0.0.0.0", 0))
    try:
        yield made
    finally:
        await made.close()


async def answer(port: int, *said: bytes) -> bytes:
    """What a plain connection hears until it is ended."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        for piece in said:
            writer.write(piece)
            await asyncio.sleep(0.02)
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_messages_go_both_ways_in_order(runs: Runs) -> None:
    async def scenario() -> None:
        async with door() as entrance:
            near, far = await entrance.pair()
            sent = [bytes([number % 251]) * (number + 1) for number in range(MOST)]
            for message in sent:
                near.trunk.send(message)
                far.trunk.send(message)
            await until(lambda: len(near.heard) == len(far.heard) == len(sent))
            assert near.heard == sent
            assert far.heard == sent
            near.trunk.finish()
            await far.trunk.wait_lost()
            await near.trunk.wait_lost()
            assert far.trunk.error is None

    runs(scenario())


Refused = Callable[[Door], Awaitable[bytes]]


async def _wrong(entrance: Door) -> bytes:
    entrance.token()
    return await answer(entrance.port, bytes(TOKEN_BYTES))


async def _replayed(entrance: Door) -> bytes:
    token = entrance.token()
    first = await connect(HOST, entrance.port, token)
    await until(lambda: bool(entrance.opened))
    far = entrance.opened.pop()
    heard = await answer(entrance.port, token)
    assert not first.is_lost
    first.abort()
    await far.wait_lost()
    return heard


async def _withdrawn(entrance: Door) -> bytes:
    offer = entrance.listener.offer(entrance.opened.append)
    entrance.listener.withdraw(offer)
    return await answer(entrance.port, offer.token)


async def _too_eager(entrance: Door) -> bytes:
    return await answer(entrance.port, entrance.token() + b"\x01\x00\x00\x00x")


async def _half(entrance: Door) -> bytes:
    return await answer(entrance.port, entrance.token()[:-1])


async def _drips(entrance: Door) -> bytes:
    token = entrance.token()
    return await answer(entrance.port, token[:9], token[9:-1], b"?")


@pytest.mark.parametrize("attempt", [_wrong, _replayed, _withdrawn, _too_eager, _half, _drips])
def test_who_has_no_good_token_is_turned_away(runs: Runs, attempt: Refused) -> None:
    async def scenario() -> None:
        async with door(handshake_s=0.5) as entrance:
            assert await attempt(entrance) == b""
            assert entrance.opened == []
            await entrance.pair()  # others still get in

    runs(scenario())


def test_a_crowd_without_tokens_is_bounded(runs: Runs) -> None:
    async def scenario() -> None:
        async with door(handshake_s=0.5) as entrance:
            crowd = [await asyncio.open_connection(HOST, entrance.port) for _ in range(80)]
            ended = [asyncio.create_task(_ends(reader)) for reader, _ in crowd]
            await until(lambda: sum(task.done() for task in ended) == 80 - UNPROVEN_MAX)
            await asyncio.gather(*ended)  # and the rest in time
            await entrance.pair()
            for _, writer in crowd:
                writer.close()

    runs(scenario())


async def _ends(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()


@pytest.mark.parametrize(
    "said", [bytes(4), (MOST + 1).to_bytes(4, "little"), b"\xff\xff\xff\xff\x00"]
)
def test_what_is_no_message_breaks_the_trunk(runs: Runs, said: bytes) -> None:
    async def scenario() -> None:
        async with door() as entrance:
            reader, writer = await asyncio.open_connection(HOST, entrance.port)
            writer.write(entrance.token())
            await until(lambda: bool(entrance.opened))
            far = Side(entrance.opened[0])
            writer.write(b"\x02\x00\x00\x00ok" + said)
            await _ends(reader)
            await far.trunk.wait_lost()
            assert far.heard == [b"ok"]
            writer.close()

    runs(scenario())


def test_a_receiver_that_raises_breaks_its_own_trunk(runs: Runs) -> None:
    def refuse(message: bytes) -> None:
        raise ValueError(message)

    async def scenario() -> None:
        async with door() as entrance:
            near, far = await entrance.pair()
            other_near, other_far = await entrance.pair()
            far.trunk.start(received=refuse, writable=lambda: None)
            near.trunk.send(b"one")
            await near.trunk.wait_lost()
            other_near.trunk.send(b"two")
            await until(lambda: other_far.heard == [b"two"])

    runs(scenario())


def test_a_reader_that_stops_fills_the_trunk_until_it_goes_on(runs: Runs) -> None:
    async def scenario() -> None:
        async with door() as entrance:
            near, far = await entrance.pair()
            near.trunk.pause_reading()
            message, sent = bytes(MOST), 0
            while not far.trunk.is_full:
                far.trunk.send(message)
                sent += 1
                await asyncio.sleep(0)
            assert sent * MOST > FULL_BYTES
            assert far.writable == 0
            near.trunk.resume_reading()
            await until(lambda: len(near.heard) == sent)
            assert not far.trunk.is_full
            assert far.writable == 1

    runs(scenario())


# --- mutual TLS ---


def _settings(authority: Authority, pair: Pair) -> SecuritySettings:
    return SecuritySettings(
        grpc_ca_file=authority.ca_file, grpc_cert_file=pair.cert_file, grpc_key_file=pair.key_file
    )


@contextlib.contextmanager
def secured(wanted: SecuritySettings) -> Iterator[None]:
    """Have this process speak mutual TLS."""
    loaded = security.load(wanted, nats_url="nats://x:1", redis_url="redis://x:1")
    before = rpc.mutual_tls()
    rpc.secure(loaded.grpc)
    try:
        yield
    finally:
        rpc.secure(before)


def test_trunks_speak_mutual_tls_where_grpc_does(runs: Runs, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    known, unknown = authority.issue("known"), stranger.issue("unknown")

    async def scenario() -> None:
        with secured(_settings(authority, known)):
            async with door(handshake_s=1.0) as entrance:
                near, far = await entrance.pair()
                near.trunk.send(b"secret")
                far.trunk.send(b"answer" * 500)
                await until(lambda: bool(near.heard and far.heard))
                assert await answer(entrance.port, entrance.token()) == b""
                with secured(_settings(stranger, unknown)), pytest.raises(OSError, match="verify"):
                    await connect(HOST, entrance.port, entrance.token())
                with pytest.raises(OSError, match=r"mismatch|not valid"):
                    await connect("127.0.0.2", entrance.port, entrance.token())
                assert entrance.opened == []
                near.trunk.finish()
                await far.trunk.wait_lost()

    runs(scenario())
