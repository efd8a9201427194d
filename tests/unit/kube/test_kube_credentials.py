"""Credentials that fail: always Unauthorized, which names the cluster, and nothing is left over."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import pytest
from tests.support.waiting import until

from rallypoint.kube import errors
from rallypoint.kube.config import ClusterConfig, ExecPlugin
from rallypoint.kube.credentials import run_plugin
from rallypoint.kube.transport import Call, Transport

SERVER = "https://127.0.0.1:9"
LIST = Call("GET", "/api/v1/namespaces")


def plug_in(folder: Path, *lines: str) -> ExecPlugin:
    script = folder / "plug-in"
    script.write_text("\n".join(("#!/bin/sh", *lines)))
    script.chmod(0o700)
    return ExecPlugin(str(script), "client.authentication.k8s.io/v1")


def answering(folder: Path, status: str) -> ExecPlugin:
    envelope = f'{{"apiVersion": "v1", "kind": "ExecCredential", "status": {status}}}'
    return plug_in(folder, f"echo '{envelope}'")


def refused(config: ClusterConfig, cause: str) -> None:
    """Both ways to a server tell the same."""

    async def scenario() -> None:
        async with Transport(config) as transport:
            with pytest.raises(errors.Unauthorized, match=f"cluster {config.name}: .*{cause}"):
                await transport.request(LIST)
            with pytest.raises(errors.Unauthorized, match=f"cluster {config.name}: .*{cause}"):
                async with transport.stream(LIST, silence_s=1.0):
                    pass

    asyncio.run(scenario())


@pytest.mark.parametrize("server", [SERVER, SERVER.replace("https", "http")], ids=["tls", "plain"])
def test_a_token_file_that_is_gone_is_named(server: str, tmp_path: Path) -> None:
    refused(ClusterConfig("prod", server, token_file=tmp_path / "token"), "FileNotFound.*token")


def test_a_token_of_several_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\ntwo\n")
    refused(ClusterConfig("prod", SERVER, token_file=tmp_path / "token"), "several lines")


def test_an_end_that_is_no_time_is_refused_each_time(tmp_path: Path) -> None:
    plugin = answering(tmp_path, '{"token": "t", "expirationTimestamp": "soon"}')
    refused(ClusterConfig("prod", SERVER, exec_plugin=plugin), "'soon'")


def test_certificates_that_are_none_are_refused() -> None:
    refused(ClusterConfig("prod", SERVER, ca=b"\xff"), "UnicodeDecodeError")
    refused(ClusterConfig("prod", SERVER, client_certificate=b"x", client_key=b"y"), "SSLError")


def test_a_plug_in_ends_with_all_it_started_when_nobody_waits(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    told = (f'echo "$$ $!" > {pids}.new', f"mv {pids}.new {pids}")
    plugin = plug_in(tmp_path, "sleep 60 &", *told, "wait")

    async def scenario() -> None:
        task = asyncio.create_task(run_plugin(plugin, ClusterConfig("prod", SERVER)), name="run")
        await until(pids.exists, within_s=20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for pid in pids.read_text().split():
            await until(partial(ended, int(pid)), within_s=20)

    asyncio.run(scenario())


def ended(pid: int) -> bool:
    """Whether a process runs no more; nobody may have buried it yet."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True
