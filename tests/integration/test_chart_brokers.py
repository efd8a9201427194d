"""The chart's NATS servers admit each other: its very configuration, on real servers."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import chart

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


def test_three_servers_of_the_chart_are_one_cluster(tmp_path: Path) -> None:
    with servers(tmp_path) as hosts:
        until = time.monotonic() + TOGETHER_WITHIN_S
        seen: list[Any] = []
        while time.monotonic() < until:
            seen = [asked(host, "/jsz").get("meta_cluster", {}) for host in hosts]
            if all(one.get("leader") and one.get("cluster_size") == 3 for one in seen):
                break
            time.sleep(0.2)
        logs = {host: (tmp_path / f"{host}.log").read_text()[-2000:] for host in hosts}
        assert [one.get("cluster_size") for one in seen] == [3, 3, 3], logs
        assert len({one.get("leader") for one in seen}) == 1, logs
        assert not [log for log in logs.values() if "Authorization Violation" in log]
