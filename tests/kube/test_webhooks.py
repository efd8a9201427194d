"""Webhooks: the API server asks us over TLS with a certificate that we made and keep renewed."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rallypoint.fleet import resources
from rallypoint.fleet.domain import game_server_set_beta as beta
from rallypoint.kube import certificates, crd
from rallypoint.kube.api import Api
from rallypoint.kube.certificates import Certificates
from rallypoint.kube.domain import patches
from rallypoint.kube.kinds import SECRETS
from rallypoint.kube.transport import Transport
from rallypoint.kube.webhook import Admission, Server, Verdict
from tests.kube.conftest import Runs
from tests.kube.stack import connected
from tests.support.kubernetes import ApiServer

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def kept(transport: Transport, namespace: str, *hosts: str) -> Certificates:
    secrets = Api(transport, SECRETS, manager="webhook")
    return Certificates(secrets, "webhook", namespace=namespace, hosts=hosts or ("localhost",))


@asynccontextmanager
async def serving(server: ApiServer, namespace: str) -> AsyncIterator[tuple[Server, int, bytes]]:
    """A webhook server on loopback with a certificate from a Secret."""
    async with connected(server) as transport:
        certificate = kept(transport, namespace)
        await certificate.ensure(NOW)
        hooks = Server(certificate.context)
        hooks.admit("/admit", review)
        hooks.convert("/convert", beta.convert)
        async with hooks.listening(host="127.0.0.1", port=0) as port:
            yield hooks, port, certificate.ca


def review(asked: Admission) -> Verdict:
    """Play the webhook of a user."""
    data = (asked.new or {}).get("data", {})
    if "raise" in data:
        raise RuntimeError("a bug of ours")
    if "bad" in data:
        return Verdict(allowed=False, message="no bad data here")
    return Verdict(
        warnings=("data was stamped",), patch=[patches.add("/data/stamp", asked.operation)]
    )


def hook_for(namespace: str, port: int, ca: bytes) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [
            {
                "name": "stamp.rallypoint.dev",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "clientConfig": {
                    "url": f"https://localhost:{port}/admit",
                    "caBundle": base64.b64encode(ca).decode(),
                },
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["configmaps"],
                    }
                ],
            }
        ],
    }


async def kubectl(server: ApiServer, *words: str, stdin: str | None = None) -> tuple[str, str]:
    done = await asyncio.to_thread(server.kubectl, *words, stdin=stdin)
    return done.stdout, done.stderr


@pytest.mark.usefixtures("calls_us")
def test_admission_changes_warns_and_refuses(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with serving(server, namespace) as (_, port, ca):
            hook = json.dumps(hook_for(namespace, port, ca))
            await kubectl(server, "apply", "-f", "-", stdin=hook)
            try:
                make = ("-n", namespace, "create", "configmap")
                for _ in range(100):  # the API server takes a moment to know its webhooks
                    _, said = await kubectl(server, *make, "good", "--from-literal=a=b")
                    if "Warning: data was stamped" in said:
                        break
                    await kubectl(server, "-n", namespace, "delete", "configmap", "good")
                stamp = (
                    "-n",
                    namespace,
                    "get",
                    "configmap",
                    "good",
                    "-o",
                    "jsonpath={.data.stamp}",
                )
                assert (await kubectl(server, *stamp))[0] == "CREATE"
                _, said = await kubectl(server, *make, "bad", "--from-literal=bad=1")
                assert "no bad data here" in said
                _, said = await kubectl(server, *make, "bug", "--from-literal=raise=1")
                assert "RuntimeError: a bug of ours" in said
            finally:
                gone = ("delete", "mutatingwebhookconfiguration", namespace)
                await kubectl(server, *gone)

    runs(scenario())


def set_of(version: str, namespace: str, **scale_in: Any) -> str:
    meta = {"name": "arena", "namespace": namespace}
    spec = {"replicas": 2, "scaleIn": scale_in}
    item = {"apiVersion": version, "kind": "GameServerSet", "metadata": meta, "spec": spec}
    return json.dumps(item)


@pytest.mark.usefixtures("calls_us")
def test_sets_of_the_old_version_are_read_as_new_and_back(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    plain = resources.GAME_SERVER_SET.as_value()
    beta_path = "gameserversets.v1beta1.rallypoint.dev"

    async def get(kind: str) -> Any:
        out, _ = await kubectl(server, "-n", namespace, "get", kind, "arena", "-o", "json")
        return json.loads(out)["spec"]["scaleIn"]

    async def scenario() -> None:
        async with serving(server, namespace) as (_, port, ca):
            url = f"https://localhost:{port}/convert"
            hooked = json.dumps(crd.with_conversion(plain, ca_bundle=ca, url=url))
            await kubectl(server, "apply", "--server-side", "-f", "-", stdin=hooked)
            await kubectl(
                server,
                "wait",
                "--for=condition=Established",
                f"crd/{resources.GAME_SERVER_SET.name}",
            )
            old = set_of(beta.BETA, namespace, idleSeconds=77)
            for _ in range(50):
                _, said = await kubectl(server, "apply", "-f", "-", stdin=old)
                if "deprecated: use v1" in said and "error" not in said.lower():
                    break
            assert (await get("gameserversets.v1.rallypoint.dev"))["minIdleSeconds"] == 77
            assert (await get(beta_path))["idleSeconds"] == 77
            new = set_of(beta.STABLE, namespace, minIdleSeconds=78)
            await kubectl(server, "apply", "-f", "-", stdin=new)
            assert (await get(beta_path))["idleSeconds"] == 78
            await kubectl(server, "-n", namespace, "delete", beta_path, "arena")

    try:
        runs(scenario())
    finally:
        server.does(
            "apply", "--server-side", "-f", "-", "--force-conflicts",
            stdin=resources.files()["gameserversets.yaml"],
        )  # fmt: skip
        server.does(
            "patch", f"crd/{resources.GAME_SERVER_SET.name}", "--type=merge",
            "-p", '{"spec":{"conversion":{"strategy":"None","webhook":null}}}',
        )  # fmt: skip


def test_replicas_that_start_at_once_share_one_certificate(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with connected(server) as transport:
            replicas = [kept(transport, namespace) for _ in range(4)]
            made = await asyncio.gather(*(one.ensure(NOW) for one in replicas))
            assert len(set(made)) == 1

    runs(scenario())


def test_a_certificate_is_renewed_in_time_under_the_same_authority(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with connected(server) as transport:
            first = await kept(transport, namespace).ensure(NOW)
            assert await kept(transport, namespace).ensure(NOW + 50 * DAY) == first
            later = NOW + 61 * DAY
            both = [kept(transport, namespace) for _ in range(2)]
            renewed = await asyncio.gather(*(one.ensure(later) for one in both))
            assert renewed[0] == renewed[1] != first
            assert renewed[0].ca == first.ca
            other = await kept(transport, namespace, "localhost", "new.svc").ensure(later)
            assert other.serves(["new.svc"])

    runs(scenario())


def test_service_names_are_those_the_api_server_uses() -> None:
    assert certificates.service_hosts("hook", "game")[0] == "hook.game.svc"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"request": {}}', b'{"kind": 1}'], ids=str)
def test_what_is_no_review_is_refused(
    runs: Runs, server: ApiServer, namespace: str, body: bytes
) -> None:
    import ssl

    import aiohttp

    async def scenario() -> None:
        async with serving(server, namespace) as (_, port, ca):
            context = ssl.create_default_context(cadata=ca.decode())
            connector = aiohttp.TCPConnector(ssl=context)
            async with aiohttp.ClientSession(connector=connector) as session:
                url = f"https://localhost:{port}/admit"
                async with session.post(url, data=body) as answer:
                    assert answer.status == 400

    runs(scenario())
