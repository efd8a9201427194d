"""The chart on a person's cluster: images, namespaces, Helm, and what to do next."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.support import chart, door, go, images
from tests.support.cluster import node
from tests.support.cluster.network import Host, Unavailable

HERE: Final = Path(__file__).resolve().parent
NAME: Final = "rallypoint"
LEVELS: Final = {NAME: "restricted", f"{NAME}-probe": "privileged"}
"""The namespaces, and which Pod Security standard each enforces."""
IMAGES: Final = ("services", "probe", "nats", "redis")
GATEWAY: Final = f"{NAME}-gateway"
READY_S: Final = 300
LOOK_S: Final = 0.5
Kubectl = tuple[str, ...]
NEXT: Final = """
Play at        {url}
Load it        make load ARGS="--host {url}"
Look at it     export KUBECONFIG={kubeconfig}; kubectl -n {name} get pods,fleet
Change it      edit, then make cluster-install again: only what changed is restarted
End it         make cluster-down
"""


def install(kubeconfig: Path, hosts: Sequence[Host]) -> None:
    """Have this checkout's chart and images running. Raises Unavailable with what a tool said."""
    if reason := images.missing():
        raise Unavailable(reason)
    tag = _pulled(hosts)
    kubectl = (str(go.tool("kubectl")), "--kubeconfig", str(kubeconfig))
    _does(*kubectl, "apply", "-f", "-", stdin=_namespaces())
    _does(*kubectl, "apply", "--server-side", "--force-conflicts", "-f", str(chart.CRDS))
    go.say("installing the chart")
    _does(
        str(chart.HELM), "upgrade", "--install", NAME, str(chart.CHART),
        "--kubeconfig", str(kubeconfig), "--namespace", NAME, "-f", str(HERE / "values.yaml"),
        "--set", f"image.tag={tag}", "--wait", "--timeout", f"{READY_S}s",
    )  # fmt: skip
    _wait_servers(kubectl)
    service = json.loads(_does(*kubectl, "-n", NAME, "get", "service", GATEWAY, "-o", "json"))
    (port,) = (each["nodePort"] for each in service["spec"]["ports"] if each["name"] == "web")
    url = f"http://{hosts[0].address}:{port}"
    go.say("waiting for the gateway")
    if not door.opens_within(url, READY_S):
        raise Unavailable(f"{url} does not answer, though its pods are ready")
    print(NEXT.format(url=url, kubeconfig=kubeconfig, name=NAME))


def _pulled(hosts: Sequence[Host]) -> str:
    """Have the images on all nodes; returns the tag of ours, which is another for other sources."""
    folder = images.built()
    for name in IMAGES:
        go.say(f"importing image {name} on {len(hosts)} nodes")
        for host in hosts:
            node.pull(host, folder / f"{name}.tar")
    for image in images.IMAGES[:2]:
        tagged = f"{image.reference.rpartition(':')[0]}:{folder.name}"
        for host in hosts:
            node.ctr(host, "images", "tag", "--force", image.reference, tagged)
    return folder.name


def _namespaces() -> str:
    items = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {"pod-security.kubernetes.io/enforce": level},
            },
        }
        for name, level in LEVELS.items()
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _wait_servers(kubectl: Kubectl) -> None:
    """Wait until the operator has made all servers of the newest revision."""
    go.say("waiting for the game servers")
    give_up = time.monotonic() + READY_S
    while not _is_settled(
        json.loads(_does(*kubectl, "-n", NAME, "get", "rgss/rooms", "-o", "json"))
    ):
        if time.monotonic() > give_up:
            raise Unavailable(_does(*kubectl, "-n", NAME, "get", "pods,rgs,rgss", "-o", "wide"))
        time.sleep(LOOK_S)


def _is_settled(fleet: dict[str, Any]) -> bool:
    """Whether a set has come to what was asked of it last."""
    told = {
        each["type"]: each["status"]
        for each in fleet.get("status", {}).get("conditions", ())
        if each.get("observedGeneration") == fleet["metadata"]["generation"]
    }
    return (told.get("Available"), told.get("Progressing")) == ("True", "False")


def _does(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{Path(words[0]).name}: {done.stderr.strip()}")
    return done.stdout
