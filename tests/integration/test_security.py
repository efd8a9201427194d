"""Logins and TLS with real parts: nats-server, redis-server, and services that call each other.

The redis-server of the wheel is built without TLS, so that `rediss://` is only seen to be used and
to fail there; user and password are tested in full.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.integration.conftest import Runs
from tests.support.certificates import Authority, Pair
from tests.support.waiting import wait_until

from rallypoint.cli import broker_plan, plan
from rallypoint.cli.brokers import Broker, Brokers
from rallypoint.cli.ports import free_one
from rallypoint.internal.v1 import allocation_pb2, allocation_pb2_grpc
from rallypoint.kit import errors, rpc
from rallypoint.kit.bus import Bus, BusUnavailable
from rallypoint.kit.security import Access, TlsFiles
from rallypoint.kit.store import Store, StoreUnavailable

Fresh = Callable[[str], str]
LOGIN = 'authorization { user: "rally", password: "hunter2" }\n'


@contextmanager
def _nats(directory: Path, extra: str) -> Iterator[Broker]:
    port = free_one()
    config = directory / "nats.conf"
    plain = broker_plan.NATS_CONFIG.format(
        host=plan.LOCALHOST, port=port, store=directory / "store"
    )
    config.write_text(plain + extra)
    command = (broker_plan.binary("nats-server"), "--config", str(config))
    process = plan.Process("nats", "nats", command, needs=(), probe="nats", port=port)
    broker = Broker(process, directory / "nats.log")
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def _tls(authority: Authority, server: Pair) -> str:
    return (
        f'tls {{ cert_file: "{server.cert_file}", key_file: "{server.key_file}", '
        f'ca_file: "{authority.ca_file}", verify: true }}\n'
    )


async def _works(bus: Bus) -> None:
    await bus.ensure_topology()
    assert await bus.kv("config").create("key", b"value") > 0
    await bus.close()


def test_nats_takes_the_user_with_the_password(tmp_path: Path, runs: Runs) -> None:
    async def scenario(url: str) -> None:
        await _works(await Bus.connect(url, name="test", access=Access("rally", "hunter2")))
        for access in (Access(), Access("rally", "guess-me")):
            with pytest.raises(BusUnavailable, match="Authorization Violation") as refused:
                await Bus.connect(url, name="test", access=access)
            assert "guess-me" not in str(refused.value)

    with _nats(tmp_path, LOGIN) as broker:
        runs(scenario(broker.url))


def test_login_in_a_url_is_not_in_the_error(runs: Runs) -> None:
    async def scenario() -> None:
        url = f"nats://rally:hunter2@127.0.0.1:{free_one()}"
        with pytest.raises(BusUnavailable) as failed:
            await Bus.connect(url, name="test")
        assert "127.0.0.1" in str(failed.value)
        assert "hunter2" not in str(failed.value)

    runs(scenario())


def test_nats_over_mutual_tls_survives_a_restart(tmp_path: Path, runs: Runs) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("fleet")
    files = TlsFiles(authority.ca_file, own.cert_file, own.key_file)

    async def scenario(broker: Broker) -> None:
        url = f"tls://localhost:{broker.port}"
        bus = await Bus.connect(url, name="test", access=Access("rally", "hunter2", files))
        back = asyncio.Event()
        bus.on_reconnect(back.set)
        await asyncio.to_thread(broker.restart)
        async with asyncio.timeout(30):
            await back.wait()
        await _works(bus)

    with _nats(tmp_path, LOGIN + _tls(authority, authority.issue("nats"))) as broker:
        runs(scenario(broker))


def test_nats_and_client_refuse_each_other_without_the_right_certificate(
    tmp_path: Path, runs: Runs
) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    no_certificate = TlsFiles(authority.ca_file)
    no_trust = TlsFiles(stranger.ca_file)

    async def scenario(broker: Broker) -> None:
        for files in (no_certificate, no_trust):
            with pytest.raises(BusUnavailable):
                await Bus.connect(
                    f"tls://localhost:{broker.port}", name="test", access=Access(tls=files)
                )

    with _nats(tmp_path, _tls(authority, authority.issue("nats"))) as broker:
        runs(scenario(broker))


def test_nats_without_tls_never_hears_the_password(brokers: Brokers, runs: Runs) -> None:
    async def scenario() -> None:
        access = Access("rally", "hunter2", TlsFiles())
        with pytest.raises(BusUnavailable, match="does not speak TLS"):
            await Bus.connect(f"tls://localhost:{brokers.nats.port}", name="test", access=access)

    runs(scenario())


def _tell_redis(broker: Broker, *commands: str) -> None:
    with socket.create_connection(("127.0.0.1", broker.port), timeout=5) as connection:
        for command in commands:
            connection.sendall(f"{command}\r\n".encode())
            assert connection.recv(100) == b"+OK\r\n"


def test_redis_takes_the_user_with_the_password(own_brokers: Brokers, runs: Runs) -> None:
    async def scenario() -> None:
        url = own_brokers.redis.url
        for access in (Access("rally", "hunter2"), Access(password="hunter3")):
            store = await Store.connect(url, access=access)
            await store.set("key", b"value")
            await store.close()
        for access in (Access(), Access("rally", "guess-me")):
            with pytest.raises((StoreUnavailable, errors.Internal)) as refused:
                await Store.connect(url, access=access)
            assert "guess-me" not in str(refused.value)

    _tell_redis(
        own_brokers.redis,
        "ACL SETUSER rally on >hunter2 ~* &* +@all",
        "CONFIG SET requirepass hunter3",
    )
    runs(scenario())


def test_rediss_never_falls_back_to_plaintext(brokers: Brokers, runs: Runs) -> None:
    async def scenario() -> None:
        url = f"rediss://localhost:{brokers.redis.port}/0"
        with pytest.raises(StoreUnavailable):
            await Store.connect(url, access=Access("rally", "hunter2", TlsFiles()))

    runs(scenario())


@contextmanager
def _service(
    name: str, directory: Path, environment: Mapping[str, str]
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Run a service; give what asks it for its /statusz."""
    metrics = free_one()
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "rallypoint", name],
            env={**os.environ, **environment, "RALLYPOINT_METRICS_PORT": str(metrics)},
            stdout=log, stderr=log,
        )  # fmt: skip

    def status() -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/statusz", timeout=2) as reply:
                return dict(json.loads(reply.read()))
        except OSError:
            return {}

    try:
        wait_until(lambda: status().get("ready") is True, f"{name} is ready")
        yield status
    finally:
        process.terminate()
        process.wait(30)


def test_service_logs_in_with_its_settings_and_tells_nobody(
    own_brokers: Brokers, tmp_path: Path
) -> None:
    _tell_redis(own_brokers.redis, "CONFIG SET requirepass hunter3")
    with _nats(tmp_path, LOGIN) as broker:
        environment = {
            "RALLYPOINT_NATS_URL": broker.url,
            "RALLYPOINT_NATS_USER": "rally",
            "RALLYPOINT_NATS_PASSWORD": "hunter2",
            "RALLYPOINT_REDIS_URL": own_brokers.redis.url,
            "RALLYPOINT_REDIS_PASSWORD": "hunter3",
            "RALLYPOINT_GRPC_PORT": "0",
            "RALLYPOINT_LOG_LEVEL": "debug",
        }
        with _service("fleet", tmp_path, environment) as status:
            assert "hunter" not in json.dumps(status())
    assert "hunter" not in (tmp_path / "fleet.log").read_text()


def _mutual(authority: Authority, name: str, brokers: Brokers) -> dict[str, str]:
    pair = authority.issue(name, hosts=("services.test",))
    return {
        "RALLYPOINT_NATS_URL": brokers.nats.url,
        "RALLYPOINT_REDIS_URL": brokers.redis.url,
        "RALLYPOINT_GRPC_CA_FILE": str(authority.ca_file),
        "RALLYPOINT_GRPC_CERT_FILE": str(pair.cert_file),
        "RALLYPOINT_GRPC_KEY_FILE": str(pair.key_file),
        "RALLYPOINT_GRPC_SERVER_NAME": "services.test",
    }


async def _allocate(channel: grpc.aio.Channel, set_name: str) -> allocation_pb2.AllocateResponse:
    stub: Any = allocation_pb2_grpc.AllocationServiceStub(channel)
    request = allocation_pb2.AllocateRequest(
        request_id=f"{set_name}-match",
        set=set_name,
        game="skirmish",
        queue="skirmish",
        players=[allocation_pb2.SeatRequest(player_id="one", display_name="One")],
    )
    async with channel, rpc.calling():
        found: allocation_pb2.AllocateResponse = await stub.Allocate(request, timeout=10)
        return found


def test_services_speak_mutual_tls_and_refuse_who_has_no_certificate(
    own_brokers: Brokers, tmp_path: Path, runs: Runs, fresh: Fresh
) -> None:
    authority, set_name = Authority(tmp_path), fresh("set")
    caller = authority.issue("caller", hosts=("caller.test",))
    ca = authority.ca_file.read_bytes()
    named = [("grpc.ssl_target_name_override", "services.test")]

    async def scenario(address: str) -> None:
        known = grpc.ssl_channel_credentials(
            ca, caller.key_file.read_bytes(), caller.cert_file.read_bytes()
        )
        made = await _allocate(grpc.aio.secure_channel(address, known, options=named), set_name)
        assert made.node_id == "secure-1"
        unknown = grpc.ssl_channel_credentials(ca)
        for channel in (
            grpc.aio.secure_channel(address, unknown, options=named),
            rpc.plain_channel(address, name="test"),
        ):
            with pytest.raises((errors.Unavailable, errors.DeadlineExceeded)):
                await _allocate(channel, set_name)

    fleet_port = free_one()
    fleet = _mutual(authority, "fleet", own_brokers) | {"RALLYPOINT_GRPC_PORT": str(fleet_port)}
    node = _mutual(authority, "node", own_brokers) | {
        "RALLYPOINT_GRPC_PORT": str(free_one()),
        "RALLYPOINT_NODE_ID": "secure-1",
        "RALLYPOINT_SET": set_name,
    }
    with _service("fleet", tmp_path, fleet) as status, _service("room-state", tmp_path, node):
        wait_until(lambda: status().get("nodes") == 1, "fleet knows the node")
        runs(scenario(f"127.0.0.1:{fleet_port}"))
        assert "PRIVATE KEY" not in json.dumps(status())


def test_unreadable_file_is_one_sentence_and_no_start(tmp_path: Path) -> None:
    absent = tmp_path / "absent.pem"
    ended = subprocess.run(
        [sys.executable, "-m", "rallypoint", "fleet"],
        env={**os.environ, "RALLYPOINT_GRPC_CA_FILE": str(absent)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.startswith("rallypoint fleet: RALLYPOINT_GRPC_")
    assert len(ended.stderr.splitlines()) == 1
