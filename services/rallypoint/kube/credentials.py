"""What proves who we are, on each request: a token from a file or a plug-in is renewed in time.

Whatever is wrong with a file, a key or a plug-in is Unauthorized, which names the cluster: those
who try again after a KubeError go on until the credentials are mended.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import os
import signal
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from rallypoint.kit.clock import Clock
from rallypoint.kube import errors
from rallypoint.kube.config import ClusterConfig, ExecPlugin

TOKEN_FILE_S = 60.0  # kubelet renews a projected token long before it ends
EARLY_S = 30.0  # a token is renewed this long before it ends
PLUGIN_S = 60.0


class ExecStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What a plug-in answers."""

    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: str | None = None


class ExecCredential(msgspec.Struct, frozen=True, rename="camel"):
    """The envelope of it."""

    api_version: str
    status: ExecStatus


class Credentials:
    """The headers and the TLS context of one cluster."""

    def __init__(self, config: ClusterConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._token = config.token
        self._until = 0.0
        self._pair = (config.client_certificate, config.client_key)
        self._lock = asyncio.Lock()

    async def headers(self) -> dict[str, str]:
        """Return the headers of a request."""
        config = self._config
        if config.basic:
            joined = ":".join(config.basic).encode()
            return {"Authorization": f"Basic {base64.b64encode(joined).decode()}"}
        with _explained(config):
            await self._refresh()
            if self._token and not {"\r", "\n"}.isdisjoint(self._token):
                raise ValueError("a token of several lines")
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def refused(self) -> bool:
        """Forget a token that the server does not know; tell whether a new one can be had."""
        renewable = self._config.token_file is not None or self._config.exec_plugin is not None
        self._until = 0.0
        return renewable

    async def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context, None for plain HTTP (a proxy on loopback)."""
        config = self._config
        if not config.server.startswith("https"):
            return None
        with _explained(config):
            await self._refresh()
            context = ssl.create_default_context(cadata=config.ca.decode() if config.ca else None)
            if config.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            certificate, key = self._pair
            if certificate and key:
                await asyncio.to_thread(_load_pair, context, certificate, key)
        return context

    async def _refresh(self) -> None:
        config = self._config
        if (config.token_file or config.exec_plugin) and self._clock.now() >= self._until:
            async with self._lock:
                if self._clock.now() < self._until:
                    return
                if config.token_file:
                    text = await asyncio.to_thread(config.token_file.read_text)
                    self._token, self._until = text.strip(), self._clock.now() + TOKEN_FILE_S
                elif config.exec_plugin:
                    self._take(await run_plugin(config.exec_plugin, config))

    def _take(self, status: ExecStatus) -> None:
        until = float("inf")
        if status.expiration_timestamp:
            ends = datetime.datetime.fromisoformat(status.expiration_timestamp)
            # A plug-in that hands out what is nearly over must not be run per request.
            until = max(ends.timestamp() - EARLY_S, self._clock.now() + 1.0)
        self._token, self._until = status.token, until
        if status.client_certificate_data and status.client_key_data:
            self._pair = (
                status.client_certificate_data.encode(), status.client_key_data.encode(),
            )  # fmt: skip


@contextmanager
def _explained(config: ClusterConfig) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, OverflowError) as error:
        text = f"no usable credentials: {type(error).__name__} {error}"
        raise errors.Unauthorized(text, cluster=config.name) from error


async def run_plugin(plugin: ExecPlugin, config: ClusterConfig) -> ExecStatus:
    """Run a credential plug-in and return what it printed."""
    spec: dict[str, object] = {"interactive": False}
    if plugin.provide_cluster_info:
        ca = base64.b64encode(config.ca).decode() if config.ca else ""
        spec["cluster"] = {"server": config.server, "certificate-authority-data": ca}
    asked = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    environment = {**os.environ, **dict(plugin.environment)}
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(asked)
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command, *plugin.arguments, env=environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        text = f"cannot run {plugin.command}: {error}. {plugin.install_hint}"
        raise errors.Unauthorized(text, cluster=config.name) from error
    out, err = await _finish(process, plugin, config)
    if process.returncode != 0:
        text = f"{plugin.command} failed: {err[-500:].decode(errors='replace').strip()}"
        raise errors.Unauthorized(text, cluster=config.name)
    try:
        return msgspec.json.decode(out, type=ExecCredential).status
    except msgspec.MsgspecError as error:
        text = f"{plugin.command} printed no ExecCredential: {error}"
        raise errors.Unauthorized(text, cluster=config.name) from error


async def _finish(
    process: asyncio.subprocess.Process, plugin: ExecPlugin, config: ClusterConfig
) -> tuple[bytes, bytes]:
    try:
        async with asyncio.timeout(PLUGIN_S):
            return await process.communicate()
    except TimeoutError as error:
        text = f"{plugin.command} did not end in {PLUGIN_S:.0f} s"
        raise errors.Unauthorized(text, cluster=config.name) from error
    finally:
        if process.returncode is None:  # too slow, or nobody waits for it any more
            with suppress(ProcessLookupError):  # with all it started: they hold its pipes
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # OpenSSL reads a chain from a file only; the folder is ours alone and gone at once.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        path.touch(mode=0o600)
        path.write_bytes(certificate + b"\n" + key)
        context.load_cert_chain(path)
