"""A real Kubernetes API for tests: etcd and kube-apiserver, built from their Go modules.

Alone it has no controllers and no nodes: what an object store with admission, watches, schemas and
server-side apply does is all there, in two processes that end with their parent and leave nothing
behind. What acts on it is added by tests/support/cluster, to one that is started `controlled`.

    python -m tests.support.kubernetes [command …]      # with KUBECONFIG set; a shell without
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rallypoint.cli.ports import free_one
from tests.support import go
from tests.support.certificates import Authority, Pair
from tests.support.cluster.places import HERE, Place, flags, running

START_S = 90.0
PATIENCE_S = 60.0
AGAIN_S = 0.5
UNHEARD = ("TLS handshake timeout", "connect: connection refused", "dial tcp")
UNANSWERED = (
    "http2: client connection lost",
    "unexpected EOF",
    "stream error",
    "etcdserver: request timed out",
    "within the allotted time",
    "in the time allotted",
    "Client.Timeout exceeded",
)
REPEATABLE = frozenset({"get", "apply", "label", "wait", "rollout", "uncordon"})
SERVICES = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"
PORT = 6443


class Unusable(Exception):
    """A cluster that was given cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A running API server and who may do anything there."""

    url: str
    ca_file: Path
    admin: Pair
    kubeconfig: Path
    folder: Path
    authority: Authority | None = None
    """Who vouches for its parts; absent: it is somebody else's."""
    accounts: Pair | None = None
    place: Place = HERE

    def client(self, name: str, *, organization: str = "") -> Path:
        """Return a kubeconfig for a part of the cluster, which is known by its certificate."""
        path = self.folder / f"{name}.kubeconfig"
        if path.exists():
            return path
        assert self.authority is not None
        pair = self.authority.issue(name, organization=organization)
        return write_kubeconfig(path, url=self.url, ca_file=self.ca_file, admin=pair)

    def kubectl(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; the caller looks at the exit code."""
        # Discovery is cached beside the cluster: a home folder would outlive it.
        command = [str(go.tool("kubectl")), "--kubeconfig", str(self.kubeconfig)]
        command += ["--cache-dir", str(self.folder / "kubectl"), *words]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=120, check=False
        )

    def does(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl, which must succeed, and return what it printed.

        What an API server without CPU did not hear, or did not answer, is asked again.
        """
        give_up = time.monotonic() + PATIENCE_S
        done = self.kubectl(*words, stdin=stdin)
        while may_repeat(words, done) and time.monotonic() < give_up:
            time.sleep(AGAIN_S)
            done = self.kubectl(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout


def may_repeat(words: Sequence[str], done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a call failed for want of time, and nothing is done twice by a second one."""
    if done.returncode == 0:
        return False
    again = any(text in done.stderr for text in UNHEARD)
    unanswered = any(text in done.stderr for text in UNANSWERED)
    return again or (unanswered and not REPEATABLE.isdisjoint(words))


def write_kubeconfig(path: Path, *, url: str, ca_file: Path, admin: Pair) -> Path:
    """Write a kubeconfig (JSON is YAML) with a client certificate."""
    user = {"client-certificate": str(admin.cert_file), "client-key": str(admin.key_file)}
    cluster = {"server": url, "certificate-authority": str(ca_file)}
    named = {"cluster": "test", "user": "admin", "namespace": "default"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "test", "context": named}],
    }
    path.write_text(json.dumps(config))
    return path


@contextmanager
def api_server(
    folder: Path, *, place: Place = HERE, controlled: bool = False
) -> Iterator[ApiServer]:
    """Run an API server whose files lie in `folder`.

    One that is not `controlled` leaves out what only controllers can satisfy: service accounts, and
    the rights of nodes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    programs = {name: go.tool(name) for name in ("etcd", "kube-apiserver", "kubectl")}
    with ExitStack() as stack:
        etcd = stack.enter_context(_etcd(programs["etcd"], folder, place))
        server, given = _prepared(folder, place)
        given |= {"etcd-servers": etcd, **(_controlled(server) if controlled else UNCONTROLLED)}
        command = [programs["kube-apiserver"], *flags(given)]
        log = folder / "kube-apiserver.log"
        process = stack.enter_context(running(command, log, place=place))
        _wait_ready(server, process)
        yield server


@contextmanager
def _etcd(program: Path, folder: Path, place: Place) -> Iterator[str]:
    client, peer = (f"http://127.0.0.1:{free_one()}" for _ in range(2))
    given = {
        "data-dir": folder / "etcd",
        "log-level": "error",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    command = [program, "--unsafe-no-fsync", *flags(given)]
    with running(command, folder / "etcd.log", place=place):
        yield client


UNCONTROLLED: Mapping[str, object] = {
    "authorization-mode": "RBAC",
    "disable-admission-plugins": "ServiceAccount",
    "endpoint-reconciler-type": "none",
}


def _prepared(folder: Path, place: Place) -> tuple[ApiServer, dict[str, object]]:
    """Return the server to be and the flags that any has."""
    authority = Authority(folder)
    inside = [f"kubernetes{more}" for more in ("", ".default", ".default.svc")]
    hosts = ("localhost", *inside, f"{inside[-1]}.cluster.local", FIRST_SERVICE, place.host)
    served = authority.issue("kube-apiserver", hosts=hosts)
    accounts = authority.issue("service-accounts")
    admin = authority.issue("admin", organization="system:masters")
    # Policies let pods go to the usual port; here others may have it.
    port = free_one() if place == HERE else PORT
    url = f"https://{place.host}:{port}"
    config = write_kubeconfig(
        folder / "kubeconfig", url=url, ca_file=authority.ca_file, admin=admin
    )
    given = {
        "secure-port": port,
        "bind-address": place.host,
        "advertise-address": place.host,
        "cert-dir": folder / "serving",
        "tls-cert-file": served.cert_file,
        "tls-private-key-file": served.key_file,
        "client-ca-file": authority.ca_file,
        "service-account-key-file": accounts.cert_file,
        "service-account-signing-key-file": accounts.key_file,
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-cluster-ip-range": SERVICES,
        "v": 0,
    }
    server = ApiServer(url, authority.ca_file, admin, config, folder, authority, accounts, place)
    return server, given


def _controlled(server: ApiServer) -> dict[str, object]:
    """Return the flags of a server with controllers, nodes and servers of further APIs."""
    assert server.authority is not None
    calls = server.authority.issue("kube-apiserver-calls", organization="system:masters")
    front = Authority(server.folder, "front-proxy-ca")
    proxy = front.issue("front-proxy-client")
    here = server.place == HERE
    return {
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "kubelet-client-certificate": calls.cert_file,
        "kubelet-client-key": calls.key_file,
        "kubelet-certificate-authority": server.ca_file,
        "kubelet-preferred-address-types": "InternalIP",
        # No pod could reach this machine's loopback, and the API server refuses to name it.
        "endpoint-reconciler-type": "none" if here else "master-count",
        "requestheader-client-ca-file": front.ca_file,
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": proxy.cert_file,
        "proxy-client-key-file": proxy.key_file,
    }


def _wait_ready(server: ApiServer, process: subprocess.Popen[bytes]) -> None:
    context = ssl.create_default_context(cafile=server.ca_file)
    context.load_cert_chain(server.admin.cert_file, server.admin.key_file)
    give_up = time.monotonic() + START_S
    while failure := _failure(f"{server.url}/readyz", context):
        log = server.folder / "kube-apiserver.log"
        assert process.poll() is None, f"kube-apiserver ended\n{log.read_text()[-4000:]}"
        assert time.monotonic() < give_up, f"kube-apiserver is not ready: {failure}"
        time.sleep(0.1)


def _failure(url: str, context: ssl.SSLContext) -> str:
    """Return why a URL cannot be had, nothing if it can."""
    try:
        with urllib.request.urlopen(url, context=context, timeout=5):
            return ""
    except OSError as error:
        return str(error)


def given(kubeconfig: Path, folder: Path) -> ApiServer:
    """Return the API server that a kubeconfig names, whose user has a client certificate."""
    shown = [str(go.tool("kubectl")), "--kubeconfig", str(kubeconfig), "config", "view"]
    done = subprocess.run(
        [*shown, "--raw", "--minify", "--flatten", "-o", "json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    config = json.loads(done.stdout)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    files = {}
    wanted = {"certificate-authority": cluster, "client-certificate": user, "client-key": user}
    for name, parts in wanted.items():
        if f"{name}-data" not in parts:
            raise Unusable(f"{kubeconfig} has no {name}, which these tests need")
        files[name] = folder / name
        files[name].touch(mode=0o600)
        files[name].write_bytes(base64.b64decode(parts[f"{name}-data"]))
    admin = Pair(files["client-certificate"], files["client-key"])
    return ApiServer(cluster["server"], files["certificate-authority"], admin, kubeconfig, folder)


@contextmanager
def temporary_api_server(*, controlled: bool = False) -> Iterator[ApiServer]:
    """Run an API server in a folder that goes with it."""
    with (
        tempfile.TemporaryDirectory(prefix="rallypoint-kube-", ignore_cleanup_errors=True) as name,
        api_server(Path(name), controlled=controlled) as server,
    ):
        yield server


def run_with(server: ApiServer, command: Sequence[str]) -> int:
    """Run a command with the server in KUBECONFIG; a shell where none is given."""
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}
    words = list(command) or [os.environ.get("SHELL", "sh")]
    return subprocess.run(words, env=environment, check=False).returncode


def main(command: Sequence[str]) -> int:
    """Run a command with an API server of its own."""
    with temporary_api_server() as server:
        return run_with(server, command)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
