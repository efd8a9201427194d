"""The chart on a real cluster: installed, asked, changed, and removed to the last object."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kube import disks
from tests.support import chart, door, go, images
from tests.support.cluster.machines import Cluster
from tests.support.kubernetes import ApiServer

INSTALL_S: Final = 300
"""Some eight times what it takes on two cores."""
NODE_PORT: Final = "jsonpath={.spec.ports[?(@.name=='%s')].nodePort}"
PARTS: Final = "app.kubernetes.io/part-of=rallypoint"
VALUES: Final = (
    "rooms.replicas=2",
    "rooms.drainSeconds=20",
    "gateway.drainSeconds=10",
    "tls.mode=generated",
    "networkPolicy.enabled=true",
    "gateway.service.webNodePort=0",
    "probe.enabled=true",
    # Two cores for everything.
    *(f"{name}.resources.requests.cpu=10m" for name in ("gateway", "matchmaking", "fleet")),
    *(f"{name}.resources.requests.cpu=10m" for name in ("nats", "redis", "operator")),
    "rooms.resources.requests.cpu=200m",  # a room ticks on while others start
)
CLUSTER_WIDE: Final = (
    "clusterroles,clusterrolebindings,validatingwebhookconfigurations,"
    "validatingadmissionpolicies,validatingadmissionpolicybindings,"
    "mutatingwebhookconfigurations,priorityclasses,storageclasses,namespaces"
)
OF_A_NAMESPACE: Final = (
    "all,secrets,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,"
    "poddisruptionbudgets,leases,controllerrevisions,persistentvolumeclaims,endpointslices"
)
OURS: Final = ",gameservers,gameserversets"
UNCONVERTED: Final = (
    "patch", "crd", "gameserversets.rallypoint.dev", "--type=merge",
    "-p", '{"spec":{"conversion":{"strategy":"None","webhook":null}}}',
)  # fmt: skip
KUBERNETES_OWN: Final = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
"""What a namespace has from its beginning."""
UNINSTALL: Final = "`helm uninstall` leaves"
COMMAND: Final = " " * 4
METRICS: Final = "/api/v1/namespaces/{namespace}/pods/{name}:9400/proxy/metrics"
KEEP: Final = "--reset-then-reuse-values"
"""What was set stays, what was not is the new chart's."""


@dataclass(frozen=True, slots=True)
class Release:
    """The chart in a namespace that lets no pod do what it need not."""

    server: ApiServer
    namespace: str
    measured: str
    """The probe's namespace, which allows it what it needs."""
    address: str
    """Of a node."""

    @property
    def url(self) -> str:
        """The gateway, as players reach it."""
        return f"http://{self.address}:{self.port('web')}"

    def port(self, name: str) -> int:
        """The node's port of a port of the gateway."""
        service = f"service/{chart.RELEASE}-rallypoint-gateway"
        return int(self.kubectl("get", service, "-o", NODE_PORT % name))

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl in the release's namespace; it must succeed."""
        return self.server.does("-n", self.namespace, *words, stdin=stdin)

    def helm(self, *words: str) -> str:
        """Run Helm as the administrator; it must succeed."""
        where = ("--kubeconfig", str(self.server.kubeconfig), "--namespace", self.namespace)
        done = chart.helm(*words, *where, within_s=INSTALL_S + 30)
        assert done.returncode == 0, done.stdout + done.stderr + self.told()
        return done.stdout

    def install(self, source: Path, *values: str) -> None:
        """Install a chart's small form with these values; wait until all of Helm's is ready."""
        self.helm(
            "install", chart.RELEASE, str(source), "-f", str(chart.values("small")),
            *_given(values),
            "--wait", "--timeout", f"{INSTALL_S}s",
        )  # fmt: skip
        self.wait_door()

    def wait_door(self) -> None:
        """Wait until players come in."""
        assert door.opens_within(self.url, INSTALL_S), self.told()

    def upgrade(self, *values: str) -> None:
        """Come to this checkout's chart with other values; wait until Helm's pods have them.

        Helm leaves CRDs as they are.
        """
        self.server.does("apply", "--server-side", "--force-conflicts", "-f", str(chart.CRDS))
        wait = ("--wait", "--timeout", f"{INSTALL_S}s")
        self.helm("upgrade", chart.RELEASE, str(chart.CHART), KEEP, *_given(values), *wait)
        self.wait_door()

    def wait_servers(self, tag: str = "") -> None:
        """Wait until all servers of the set are ready and of its newest revision."""

        def done() -> bool:
            fleet = self.fleet()
            spec, status = fleet["spec"], fleet.get("status", {})
            pods = self.pods("rooms").values()
            images = {pod["spec"]["containers"][0]["image"] for pod in pods}
            return (
                len(pods) == spec["replicas"] == status.get("updatedReplicas")
                and len(self.items("gameservers")) == len(pods)
                and all(image.endswith(tag) for image in images)
            )

        assert within(done, INSTALL_S), self.told()

    def fleet(self) -> dict[str, Any]:
        """The GameServerSet."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "rgss", "rooms", "-o", "json"))
        return found

    def keys(self) -> str:
        """What the chart made once and must not make again."""
        names = [f"{chart.RELEASE}-rallypoint-{what}" for what in ("keys", "tls")]
        found = self.kubectl("get", "secret", *names, "-o", "jsonpath={.items[*].data}")
        assert "cluster-key" in found
        return found

    def told(self) -> str:
        """What there is, for whoever reads a failure."""

        def shown(*words: str) -> str:
            return self.server.kubectl("-n", self.namespace, *words).stdout

        pods, events = shown("get", "pods,rgs,rgss", "-o", "wide"), shown("get", "events")
        logs = shown("logs", "-l", PARTS, "--prefix", "--tail", "5")
        return f"\n{pods}\n{events[-3000:]}\n{logs[-6000:]}"

    def items(self, *words: str) -> list[dict[str, Any]]:
        """What there is of a kind."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", *words, "-o", "json"))["items"]
        return found

    def pods(self, component: str) -> dict[str, dict[str, Any]]:
        """The pods of a component that are ready and not about to end."""
        label = f"app.kubernetes.io/component={component}"
        found = self.items("pods", "-l", label)
        return {pod["metadata"]["name"]: pod for pod in found if is_up(pod)}

    def probes(self) -> list[dict[str, Any]]:
        """The probe's pods, one of each node."""
        asked = ("-n", self.measured, "get", "pods", "-o", "json")
        found: list[dict[str, Any]] = json.loads(self.server.does(*asked))["items"]
        return found

    def metrics(self, pod: dict[str, Any]) -> str:
        """What a pod tells Prometheus, through the API server."""
        return self.server.does("get", "--raw", METRICS.format(**pod["metadata"]))

    def uids(self) -> dict[str, str]:
        """All pods, and which of their name each is."""
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in self.items("pods")}

    def replace(self, pod: str) -> None:
        """Delete a broker's pod, and wait until one of its name is there in its stead."""
        before, component = self.uids()[pod], pod.split("-")[-2]
        self.kubectl("delete", "pod", pod, "--wait=false")

        def is_back() -> bool:
            return pod in self.pods(component) and self.uids().get(pod) != before

        assert within(is_back, INSTALL_S), self.told()

    def uninstall(self, others: Set[str] = frozenset()) -> set[str]:
        """Remove the release and, by the very commands of its NOTES, what Helm leaves.

        Waits until only what belongs to others is left; returns what is.
        """
        leaves = self.helm("get", "notes", chart.RELEASE).partition(UNINSTALL)[2]
        assert leaves
        self.helm("uninstall", chart.RELEASE, "--wait", "--timeout", f"{INSTALL_S}s")
        assert bool(self.items("pvc")) == ("delete pvc" in leaves), leaves
        for line in leaves.splitlines():
            if line.startswith(COMMAND):
                self._types(line)
        within(lambda: self.left() <= others, INSTALL_S)
        return self.left()

    def _types(self, line: str) -> None:
        """Run a line as an administrator with kubectl would."""
        script = f'kubectl() {{ {shlex.quote(str(go.tool("kubectl")))} "$@"; }}; {line}'
        environment = {**os.environ, "KUBECONFIG": str(self.server.kubeconfig)}
        done = subprocess.run(
            ["sh", "-c", script],
            env=environment, capture_output=True, text=True, check=False, timeout=INSTALL_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def _has_our_kinds(self) -> bool:
        return "gameserversets" in self.server.does("get", "crd", "-o", "name")

    def left(self) -> set[str]:
        """What is in the namespaces, but for what Kubernetes makes there itself."""
        kinds = OF_A_NAMESPACE + (OURS if self._has_our_kinds() else "")
        asked = ("get", kinds, "--ignore-not-found", "-o", "name")
        measured = self.server.does("-n", self.measured, *asked)
        return {*self.kubectl(*asked).split(), *measured.split()} - KUBERNETES_OWN


def _given(values: tuple[str, ...]) -> list[str]:
    """Return the words for Helm; what has braces is JSON."""
    return [
        word for value in values for word in ("--set-json" if "={" in value else "--set", value)
    ]


def is_ready(item: dict[str, Any]) -> bool:
    """Whether an object says that it is ready."""
    conditions = item.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def is_up(pod: dict[str, Any]) -> bool:
    """Whether a pod is ready and not about to end."""
    return is_ready(pod) and "deletionTimestamp" not in pod["metadata"]


def within(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so; whether it came to be."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.3)
    return True


def cluster_wide(server: ApiServer) -> set[str]:
    """What belongs to no namespace, but nodes and what the API server makes for itself."""
    return set(server.does("get", CLUSTER_WIDE, "-o", "name").split())


def _nothing(_: Release) -> tuple[str, ...]:
    return ()


@contextmanager
def installed(
    cluster: Cluster,
    *values: str,
    source: Path = chart.CHART,
    prepare: Callable[[Release], tuple[str, ...]] = _nothing,
) -> Iterator[Release]:
    """Install a chart in a namespace of its own, with the images of this checkout.

    `prepare` puts into the namespaces what is there before, and returns more values.
    """
    if reason := images.missing():
        pytest.skip(reason)
    folder = images.built()
    before = () if source == chart.CHART else ("redis-before",)
    for image in ("services", "probe", "nats", "redis", "collector", *before):
        for node in cluster.nodes:
            node.pull(folder / f"{image}.tar")
    server, name = cluster.server, f"installed-{secrets.token_hex(3)}"
    made = Release(server, name, f"{name}-measured", cluster.nodes[0].host.address)
    for namespace, level in ((name, "restricted"), (made.measured, "privileged")):
        server.does("create", "namespace", namespace)
        enforced = f"pod-security.kubernetes.io/enforce={level}"
        server.does("label", "namespace", namespace, enforced)
    with disks.disks(cluster, name):
        try:
            more = (f"probe.namespace={made.measured}", *values, *prepare(made))
            made.install(source, *VALUES, *more)
            yield made
        finally:
            _remove(made)


def _remove(made: Release) -> None:
    """Remove whatever there is of it, after a test that failed too."""
    server, name = made.server, made.namespace
    where = ("-n", name, "--kubeconfig", str(server.kubeconfig))
    with contextlib.suppress(subprocess.TimeoutExpired):  # the namespaces go all the same
        chart.helm("uninstall", chart.RELEASE, *where)
    server.kubectl(*UNCONVERTED)  # else the kinds point to a webhook that is gone
    server.kubectl("delete", "namespace", name, made.measured, "--wait=false")
