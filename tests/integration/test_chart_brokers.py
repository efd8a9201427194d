"""The chart's NATS servers admit each other: its very configuration, on real servers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Runs
from tests.support import chart
from tests.support.waiting import until

from rallypoint.kit.bus import Bus, BusUnavailable, Conflict
from rallypoint.kit.security import Access

NATS = Path(sys.executable).parent / "nats-server"
TOGETHER_WITHIN_S = 30.0
CASE = "default"


def environment() -> dict[str, str]:
    """What the kubelet would give the first server, names of peers and all."""
    (keys,) = [o for o in chart.of_kind(CASE, "Secret") if "nats-password" in o["data"]]
    found = {
        "POD_NAME": "nats-0",
        "NATS_PASSWORD": base64.b64decode(keys["data"]["nats-password"]).decode(),
    }
    (pod,) = [pod for name, pod in chart.pods(CASE) if name.endswith("-nats")]
    for one in pod["spec"]["containers"][0]["env"]:
        if "value" in one:
            found[one["name"]] = re.sub(r"\$\((\w+)\)", lambda m: found[m[1]], one["value"])
    return found


def placed(text: str, hosts: list[str], own: str) -> str:
    """With addresses of loopback for those of pods."""
    for number, host in enumerate(hosts):
        text = re.sub(rf"[\w-]+-nats-{number}\.[\w-]+-nats-peers", host, text)
    return text.replace("0.0.0.0", own)


@contextlib.contextmanager
def servers(directory: Path) -> Iterator[list[str]]:
    """Three servers on addresses of their own; yields these."""
    (found,) = [o for o in chart.of_kind(CASE, "ConfigMap") if "nats.conf" in o["data"]]
    network = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
    hosts = [f"{network}.{number}" for number in (1, 2, 3)]
    with contextlib.ExitStack() as ends:
        for number, own in enumerate(hosts):
            text = found["data"]["nats.conf"].replace('"/data"', f'"{directory / own}"')
            path = directory / f"{own}.conf"
            path.write_text(placed(text, hosts, own))
            given = {name: placed(value, hosts, own) for name, value in environment().items()}
            log = ends.enter_context((directory / f"{own}.log").open("wb"))
            child = subprocess.Popen(
                [str(NATS), "--config", str(path)],
                env=given | {"POD_NAME": f"nats-{number}"}, stdout=log, stderr=log,
            )  # fmt: skip
            ends.callback(child.wait)
            ends.callback(child.kill)
        yield hosts


def asked(host: str, path: str) -> Any:
    url = f"http://{host}:8222{path}"
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)
    return {}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The addresses of three servers that are one cluster."""
    folder = tmp_path_factory.mktemp("nats")
    with servers(folder) as hosts:
        give_up = time.monotonic() + TOGETHER_WITHIN_S
        seen: list[Any] = []
        while time.monotonic() < give_up:
            seen = [asked(host, "/jsz").get("meta_cluster", {}) for host in hosts]
            if all(one.get("leader") and one.get("cluster_size") == 3 for one in seen):
                break
            time.sleep(0.2)
        logs = {host: (folder / f"{host}.log").read_text()[-2000:] for host in hosts}
        assert [one.get("cluster_size") for one in seen] == [3, 3, 3], logs
        assert len({one.get("leader") for one in seen}) == 1, logs
        assert not [log for log in logs.values() if "Authorization Violation" in log]
        yield hosts


@asynccontextmanager
async def opened(hosts: list[str]) -> AsyncIterator[Bus]:
    """A bus with its streams and buckets on all three."""
    urls = ",".join(f"nats://{host}:4222" for host in hosts)
    access = Access("rallypoint", environment()["NATS_PASSWORD"])
    bus = await Bus.connect(urls, name="test", access=access)
    try:

        async def made() -> bool:
            with contextlib.suppress(BusUnavailable):  # they are still choosing leaders
                await bus.ensure_topology(replicas=3)
                for bucket in ("rooms", "leases"):
                    await bus.kv(bucket).put("there", b"1")
                return True
            return False

        await until(made, within_s=60.0, every_s=0.5)
        yield bus
    finally:
        await bus.close()


def test_writes_under_one_fence_at_a_time_are_all_stored(together: list[str], runs: Runs) -> None:
    """A room's snapshot and its result, say: only a fence that has moved turns a write away."""

    async def scenario() -> None:
        async with opened(together) as bus:
            kv = bus.kv("rooms")
            revision = await kv.create("own.one", b"here")
            fence = kv.fence("own.one", revision)
            for _ in range(20):
                writes = [kv.put(f"{what}.one", b"1", fence=fence) for what in ("snap", "result")]
                assert all(await asyncio.gather(*writes))
            await kv.update("own.one", b"elsewhere", revision=revision)
            for what in ("snap", "result"):
                with pytest.raises(Conflict):
                    await kv.put(f"{what}.one", b"1", fence=fence)

    runs(scenario())


def test_one_of_two_who_change_a_key_at_a_time_is_told_so(together: list[str], runs: Runs) -> None:
    async def scenario() -> None:
        async with opened(together) as bus:
            kv = bus.kv("leases")
            for number in range(20):
                made = [kv.create(f"who.{number}", name) for name in (b"a", b"b")]
                found = await asyncio.gather(*made, return_exceptions=True)
                assert {type(one) for one in found} == {int, Conflict}

    runs(scenario())
