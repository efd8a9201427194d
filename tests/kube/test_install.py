"""The chart on a real cluster, with the images of this checkout, from nothing to nothing."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kube.conftest import Runs
from tests.support import chart, images
from tests.support.cluster.machines import Cluster
from tests.support.kubernetes import ApiServer
from tests.support.players import playing, until

INSTALL_S = 170
WEB_PORT = "jsonpath={.spec.ports[?(@.name=='web')].nodePort}"
PARTS = "app.kubernetes.io/part-of=rallypoint"
VALUES = (
    "nats.storage.persistent=false",  # no disks here
    "redis.storage.persistent=false",
    "rooms.replicas=2",
    "tls.mode=generated",
    "networkPolicy.enabled=true",
    "gateway.service.webNodePort=0",
    "probe.enabled=true",
    # Two cores for everything.
    *(f"{name}.resources.requests.cpu=10m" for name in ("gateway", "matchmaking", "fleet")),
    *(f"{name}.resources.requests.cpu=10m" for name in ("rooms", "nats", "redis")),
)


@dataclass(frozen=True, slots=True)
class Release:
    """The chart in a namespace that lets no pod do what it need not."""

    server: ApiServer
    namespace: str
    address: str
    """Of a node."""

    @property
    def url(self) -> str:
        """The gateway, as players reach it."""
        name = f"service/{chart.RELEASE}-rallypoint-gateway"
        return f"http://{self.address}:{self.kubectl('get', name, '-o', WEB_PORT)}"

    def kubectl(self, *words: str) -> str:
        """Run kubectl in the release's namespace; whoever wants more looks at the server."""
        return self.server.kubectl("-n", self.namespace, *words).stdout

    def helm(self, *words: str) -> str:
        """Run Helm as the administrator; it must succeed."""
        where = ("--kubeconfig", str(self.server.kubeconfig), "--namespace", self.namespace)
        done = chart.helm(*words, *where, within_s=INSTALL_S + 30)
        assert done.returncode == 0, done.stdout + done.stderr + self.told()
        return done.stdout

    def keys(self) -> str:
        """What the chart made once and must not make again."""
        names = [f"{chart.RELEASE}-rallypoint-{what}" for what in ("keys", "tls")]
        found = self.kubectl("get", "secret", *names, "-o", "jsonpath={.items[*].data}")
        assert "cluster-key" in found
        return found

    def upgrade(self, value: str) -> None:
        """Change a value, and wait until every pod has it."""
        self.helm(
            "upgrade", chart.RELEASE, str(chart.CHART), "--reuse-values", "--set", value,
            "--wait", "--timeout", f"{INSTALL_S}s",
        )  # fmt: skip

    def told(self) -> str:
        """What there is, for whoever reads a failure."""
        pods = self.kubectl("get", "pods", "-o", "wide")
        events = self.kubectl("get", "events")
        logs = self.kubectl("logs", "-l", PARTS, "--prefix", "--tail", "5")
        return f"\n{pods}\n{events[-3000:]}\n{logs[-6000:]}"

    def objects(self, *kinds: str) -> list[str]:
        """Names of what is in the namespace."""
        found = self.kubectl("get", ",".join(kinds), "-o", "json")
        return [one["metadata"]["name"] for one in json.loads(found)["items"]]


@pytest.fixture(scope="module")
def release(cluster: Cluster) -> Iterator[Release]:
    """The chart, installed from nothing."""
    if reason := images.missing():
        pytest.skip(reason)
    folder = images.built()
    for name in ("services", "probe", "nats", "redis"):
        for node in cluster.nodes:
            node.pull(folder / f"{name}.tar")
    server, name = cluster.server, f"installed-{secrets.token_hex(3)}"
    measured = f"{name}-measured"  # the probe's, which allows it what it needs
    for namespace, level in ((name, "restricted"), (measured, "privileged")):
        server.does("create", "namespace", namespace)
        enforced = f"pod-security.kubernetes.io/enforce={level}"
        server.does("label", "namespace", namespace, enforced)
    made = Release(server, name, cluster.nodes[0].host.address)
    given = [
        word for value in (*VALUES, f"probe.namespace={measured}") for word in ("--set", value)
    ]
    try:
        made.helm(
            "install", chart.RELEASE, str(chart.CHART), "-f", str(chart.values("small")), *given,
            "--wait", "--timeout", f"{INSTALL_S}s",
        )  # fmt: skip
        yield made
    finally:
        config = str(server.kubeconfig)
        chart.helm("uninstall", chart.RELEASE, "-n", name, "--kubeconfig", config)
        server.kubectl("delete", "namespace", name, measured, "--wait=false")


@pytest.mark.timeout(3 * INSTALL_S, func_only=True)
def test_chart_is_installed_played_upgraded_and_removed(release: Release, runs: Runs) -> None:
    keys = release.keys()
    runs(played(release.url))

    release.upgrade("logLevel=debug")

    assert release.keys() == keys
    runs(played(release.url))
    release.helm("uninstall", chart.RELEASE, "--wait", "--timeout", "100s")
    kinds = ("deployments", "statefulsets", "services", "secrets", "poddisruptionbudgets")
    assert release.objects(*kinds, "networkpolicies") == []
    assert release.objects("configmaps") == ["kube-root-ca.crt"]


async def played(url: str) -> None:
    """Two players in a match, for two seconds of it."""
    async with playing(url, "skirmish", "skirmish") as players:
        await until(lambda: all(len(player.seen.steps) > 40 for player in players))
        for player in players:
            player.seen.check()
            assert player.room.ended is None
