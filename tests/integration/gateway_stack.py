"""Gateways and clients for the gateway's integration tests: in process, on real brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message
from tests.support.backends import chosen
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.cli.ports import free_one
from rallypoint.client.channel import Channel, Stream, WebChannel
from rallypoint.gateway import config, serve
from rallypoint.gateway.limits import LimitSettings
from rallypoint.gateway.rooms import RoomSettings
from rallypoint.gateway.web_settings import EdgeSettings
from rallypoint.kit import errors
from rallypoint.kit.bus import Bus
from rallypoint.kit.runtime import Runtime, RuntimeSettings
from rallypoint.kit.store import Store
from rallypoint.v1 import room_pb2, session_pb2

CLUSTER_KEY = "ab" * 32
Answer = TypeVar("Answer", bound=Message)
ROOM = "/rallypoint.v1.RoomService/"
SESSION = "/rallypoint.v1.SessionService/"


def settings(data_dir: Path) -> config.Settings:
    """A gateway's settings: loopback trusted, free ports, one cluster key."""
    return config.Settings(
        runtime=RuntimeSettings(instance="gateway-1", data_dir=data_dir, drain_s=2.0),
        edge=EdgeSettings(trusted_ranges=("127.0.0.0/8",)),
        limits=LimitSettings(unary_per_player_per_s=500.0, unary_per_player_burst=1000.0),
        rooms=RoomSettings(streams_per_player=16),
        web_port=free_one(),
        native_port=free_one(),
        cluster_key=CLUSTER_KEY,
        edge_backend=chosen(),
    )


@dataclass
class Running:
    """A gateway that serves."""

    settings: config.Settings
    runtime: Runtime

    @property
    def url(self) -> str:
        """Where its web port is."""
        return f"http://127.0.0.1:{self.settings.web_port}"


@asynccontextmanager
async def gateway(
    brokers: Brokers, wanted: config.Settings, *, instance: str = "gateway-1", web_port: int = 0
) -> AsyncIterator[Running]:
    """Run a gateway; it drains and ends when the block does."""
    wanted = replace(wanted, web_port=web_port or free_one(), native_port=free_one())
    base = replace(wanted.runtime, instance=instance, incarnation=instance)
    async with asyncio.TaskGroup() as tasks:
        runtime = Runtime("gateway", base, tasks)
        runtime.bus = await Bus.connect(brokers.nats.url, name=instance)
        runtime.store = await Store.connect(brokers.redis.url)
        runtime.spawn(runtime.bus.supervise(), name="bus.supervise")
        await runtime.bus.ensure_topology()
        main = tasks.create_task(serve.serve(wanted, runtime), name=instance)
        try:
            await until(lambda: runtime.health.is_ready() is True or main.done())
            yield Running(wanted, runtime)
        finally:
            runtime.stopping.set()
            await main
            runtime.cancel_spawned()
            await runtime.bus.close()
            await runtime.store.close()


@dataclass
class Watched:
    """A Join stream and what came over it."""

    messages: list[room_pb2.JoinResponse] = field(default_factory=list)
    ended: bool = False
    error: errors.RallypointError | None = None
    stream: Stream | None = None

    def on_message(self, message: bytes) -> None:
        """Take a message."""
        self.messages.append(room_pb2.JoinResponse.FromString(message))

    def on_end(self, error: errors.RallypointError | None) -> None:
        """Take the end."""
        self.ended, self.error = True, error

    @property
    def welcome(self) -> room_pb2.Welcome:
        """The first message."""
        return self.messages[0].welcome

    def frames(self) -> list[room_pb2.Frame]:
        """The frames so far."""
        return [message.frame for message in self.messages if message.HasField("frame")]

    def controls(self) -> list[str]:
        """The kinds of controls so far, with their reasons."""
        return [
            f"{room_pb2.ControlKind.Name(message.control.kind)[13:]} {message.control.reason}"
            for message in self.messages
            if message.HasField("control")
        ]

    def close(self) -> None:
        """Leave."""
        if self.stream is not None:
            self.stream.close()


class Player:
    """A guest at one gateway; `at` takes the same session to another one."""

    def __init__(self, url: str, secret: bytes) -> None:
        self.channel: Channel = WebChannel(url)
        self.secret = secret
        self.session = session_pb2.Session()

    async def call(self, path: str, request: Message, answer: type[Answer]) -> Answer:
        """One unary call with the session's token."""
        token = self.session.access_token
        data = await self.channel.unary(path, request.SerializeToString(), token=token)
        return answer.FromString(data)

    async def open(self) -> Player:
        """Open the session."""
        request = session_pb2.OpenSessionRequest(
            guest=session_pb2.GuestCredential(device_secret=self.secret),
            display_name="Ada",
            game="skirmish",
            protocol=1,
        )
        opened = await self.call(SESSION + "OpenSession", request, session_pb2.OpenSessionResponse)
        self.session = opened.session
        return self

    async def refresh(self) -> None:
        """Trade the refresh token."""
        request = session_pb2.RefreshSessionRequest(refresh_token=self.session.refresh_token)
        path = SESSION + "RefreshSession"
        renewed = await self.call(path, request, session_pb2.RefreshSessionResponse)
        self.session = renewed.session

    def at(self, url: str) -> Player:
        """The same player at another gateway."""
        other = Player(url, self.secret)
        other.session = self.session
        return other

    async def join(self, room_id: str, *seat_tokens: bytes, schema_hash: int = 0) -> Watched:
        """Open a stream and wait for its first message or its end."""
        watched = Watched()
        request = room_pb2.JoinRequest(
            room_id=room_id, seat_tokens=seat_tokens, schema_hash=schema_hash
        )
        watched.stream = await self.channel.stream(
            ROOM + "Join",
            request.SerializeToString(),
            listener=watched,
            token=self.session.access_token,
        )
        await until(lambda: watched.messages or watched.ended)
        return watched

    async def send_input(self, stream_token: bytes, seq: int, *inputs: bytes) -> None:
        """Send inputs."""
        request = room_pb2.SendInputRequest(
            stream_token=stream_token, ack_tick=1, first_seq=seq, inputs=inputs or (b"abc",)
        )
        await self.call(ROOM + "SendInput", request, room_pb2.SendInputResponse)
