"""A real node: containerd with runc, the kubelet, kube-proxy, in a host of its own.

Network policies hold: kube-router enforces them, and does nothing else of what it could.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.support import go
from tests.support.cluster import cgroups
from tests.support.cluster.dns import DOMAIN
from tests.support.cluster.images import PAUSE
from tests.support.cluster.network import PODS, STOP_S, Host, Unavailable, children, run
from tests.support.cluster.places import flags, start
from tests.support.kubernetes import SERVICES, ApiServer

CNI_PROGRAMS: Final = Path("/usr/lib/cni")
PROGRAMS: Final = (
    "containerd", "containerd-shim-runc-v2", "ctr", "kubelet", "kube-proxy", "kube-router",
)  # fmt: skip
CONTAINERD: Final = """
version = 3
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
address = "{socket}"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{cni}"]
conf_dir = "{folder}/cni"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{pause}"
"""
SYSTEM: Final = {
    "runc": "runc", "nft": "nftables", "iptables": "iptables", "ipset": "ipset",
}  # fmt: skip
"""What the programs call, and who has it."""
START_S: Final = 30.0
SOCKET: Final = "/run/containerd/containerd.sock"


def refuse_missing() -> None:
    """Unavailable when containers cannot run here."""
    for name in ("ptp", "host-local", "portmap"):
        if not (CNI_PROGRAMS / name).exists():
            raise Unavailable(f"the CNI plugin {name} is not in {CNI_PROGRAMS}")
    for program, package in SYSTEM.items():
        if shutil.which(program) is None:
            raise Unavailable(f"`{program}` is not installed ({package})")


def ctr(host: Host, *words: str) -> str:
    """Run the client of a node's containerd on its pods and images."""
    program = host.folder / "bin" / "ctr"
    command = [str(program), "--address", SOCKET, "--namespace", "k8s.io", *words]
    return run(command, place=host.whole)


def pull(host: Host, archive: Path) -> None:
    """Have the image in an archive on a node."""
    ctr(host, "images", "import", str(archive))


class Node:
    """The programs of one node; each may be killed and started again."""

    def __init__(self, host: Host, server: ApiServer, *, dns: str) -> None:
        self.host = host
        self._server = server
        self._dns = dns
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.cgroup = f"{cgroups.mine()}/{host.name}"

    @property
    def name(self) -> str:
        """As the API server knows it."""
        return self.host.name

    def start(self) -> None:
        """Start all; whoever wants to know when the node is ready asks the API server."""
        cgroups.make(self.cgroup)
        self._write_files()
        self.start_program("containerd")
        self.wait_containerd()  # a kubelet that finds nobody gives up
        self.start_program("kubelet")
        self.start_program("kube-proxy")

    def enforce(self) -> None:
        """Have policies hold; kube-router gives up where the API server knows no such node."""
        self.start_program("kube-router")

    def start_program(self, name: str) -> None:
        """Start one of them."""
        folder = self.host.folder
        command: dict[str, Sequence[str | Path]] = {
            "containerd": ("--config", folder / "containerd.toml", "--log-level", "warn"),
            "kubelet": flags(self._kubelet_flags()),
            "kube-proxy": flags({"config": folder / "kube-proxy.json", "v": 0}),
            "kube-router": flags(self._kube_router_flags()),
        }
        # containerd finds its shim on the path.
        path = f"{folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {"PATH": path, "HOME": str(folder)}
        words = [folder / "bin" / name, *command[name]]
        log = folder / f"{name}.log"
        self._running[name] = start(words, log, place=self.host.whole, environment=environment)

    def kill_program(self, name: str) -> None:
        """Kill one with SIGKILL; its containers, if it has some, go on.

        Its end is waited for where it was started: an orphan that nobody waits for holds its host.
        """
        process = self._running.pop(name)
        for pid in children(process.pid):  # ours only enters the namespaces
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(timeout=STOP_S)

    def kill_containers(self, pod: str) -> None:
        """Kill a pod's containers with SIGKILL."""
        labels = f'labels."io.kubernetes.pod.name"=={pod},'
        labels += 'labels."io.cri-containerd.kind"==container'
        tasks = [line.split() for line in self.ctr("tasks", "list").splitlines()]
        running = {words[0] for words in tasks if words[-1] == "RUNNING"}
        # One that ended before is listed until the kubelet removes it.
        for container in self.ctr("containers", "list", "--quiet", labels).split():
            if container in running:
                self.ctr("tasks", "kill", "--signal", "SIGKILL", container)

    def within_pod(self, container: str) -> tuple[str, ...]:
        """Return the words that start a program of this machine in the network of a pod."""
        tasks = (line.split() for line in self.ctr("tasks", "list").splitlines())
        process = next(words[1] for words in tasks if words[0] == container)
        return (*self.host.whole.enter, "nsenter", "-t", process, "--net", "--")

    def ctr(self, *words: str) -> str:
        """Run containerd's own client on the node's pods and images."""
        return ctr(self.host, *words)

    def wait_containerd(self) -> None:
        """Wait until containerd answers."""
        give_up = time.monotonic() + START_S
        while True:
            try:
                self.ctr("version")
            except Unavailable:
                assert time.monotonic() < give_up, f"no containerd: see {self.host.folder}"
                time.sleep(0.1)
            else:
                return

    def pull(self, archive: Path) -> None:
        """Have the image in an archive on this node."""
        pull(self.host, archive)

    def tag(self, image: str, name: str) -> None:
        """Give an image that is here another name."""
        self.ctr("images", "tag", "--force", image, name)

    def said(self) -> str:
        """The last words of the kubelet."""
        return (self.host.folder / "kubelet.log").read_text()[-2000:]

    def stop(self) -> None:
        """Kill all of them."""
        for name in tuple(self._running):
            self.kill_program(name)

    def _write_files(self) -> None:
        folder = self.host.folder
        (folder / "bin").mkdir()
        for name in PROGRAMS:
            (folder / "bin" / name).symlink_to(go.tool(name))
        (folder / "cni").mkdir()
        (folder / "resolv.conf").write_text("")
        (folder / "containerd.toml").write_text(
            CONTAINERD.format(folder=folder, socket=SOCKET, cni=CNI_PROGRAMS, pause=PAUSE)
        )
        (folder / "cni" / "10-rallypoint.conflist").write_text(json.dumps(self._cni()))
        (folder / "kubelet.json").write_text(json.dumps(self._kubelet_config()))
        (folder / "kube-proxy.json").write_text(json.dumps(self._proxy_config()))

    def _cni(self) -> dict[str, Any]:
        addresses = {
            "type": "host-local",
            "ranges": [[{"subnet": self.host.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(self.host.folder / "addresses"),
        }
        plugins = [
            {"type": "ptp", "ipMasq": False, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ]
        return {"cniVersion": "1.0.0", "name": "rallypoint", "plugins": plugins}

    def _kubelet_flags(self) -> dict[str, object]:
        name = f"system:node:{self.name}"
        return {
            "config": self.host.folder / "kubelet.json",
            "kubeconfig": self._server.client(name, organization="system:nodes"),
            "hostname-override": self.name,
            "node-ip": self.host.address,
            # A path short enough for sockets, wherever the cluster's folder is.
            "root-dir": "/run/kubelet",
            "cert-dir": self.host.folder / "kubelet-certificates",
            "v": 0,
        }

    def _kubelet_config(self) -> dict[str, Any]:
        served = self._server.authority.issue(
            f"kubelet-{self.name}", hosts=(self.name, self.host.address)
        )
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._server.ca_file)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(served.cert_file),
            "tlsPrivateKeyFile": str(served.key_file),
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "localStorageCapacityIsolation": True,
            "evictionHard": {},
            "oomScoreAdj": 0,
            "imageGCHighThresholdPercent": 100,
            "clusterDNS": [self._dns],
            "clusterDomain": DOMAIN,
            "resolvConf": str(self.host.folder / "resolv.conf"),
            # A node is missed after 6 s (plane.IMPATIENT).
            "nodeStatusUpdateFrequency": "2s",
            "nodeLeaseDurationSeconds": 5,
            "healthzPort": 0,
        }

    def _kube_router_flags(self) -> dict[str, object]:
        return {
            "kubeconfig": self._server.client("kube-router", organization="system:masters"),
            "hostname-override": self.name,
            "run-firewall": "true",
            "run-router": "false",
            "run-service-proxy": "false",
            "run-loadbalancer": "false",
            "service-cluster-ip-range": SERVICES,
            "health-port": 0,
            "v": 0,
        }

    def _proxy_config(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "conntrack": {"maxPerCore": 0},
            "hostnameOverride": self.name,
            "clusterCIDR": PODS,
            "nodePortAddresses": ["primary"],
            "clientConnection": {"kubeconfig": str(self._server.client("system:kube-proxy"))},
        }
