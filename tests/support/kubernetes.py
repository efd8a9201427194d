"""A real Kubernetes API for tests: etcd and kube-apiserver, built from their Go modules.

No controllers and no nodes: what an object store with admission, watches, schemas and server-side
apply does is all there, in two processes that end with their parent and leave nothing behind.

    python -m tests.support.kubernetes [command …]      # with KUBECONFIG set; a shell without
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import go
from tests.support.certificates import Authority, Pair
from tests.support.collector import free_port

START_S = 90.0
STOP_S = 20.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A running API server and who may do anything there."""

    url: str
    ca_file: Path
    admin: Pair
    kubeconfig: Path
    folder: Path

    def kubectl(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; the caller looks at the exit code."""
        # Discovery is cached beside the cluster: a home folder would outlive it.
        command = [str(go.tool("kubectl")), "--kubeconfig", str(self.kubeconfig)]
        command += ["--cache-dir", str(self.folder / "kubectl"), *words]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )

    def does(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl, which must succeed, and return what it printed."""
        done = self.kubectl(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout


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
def api_server(folder: Path) -> Iterator[ApiServer]:
    """Run an API server whose files lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = {name: go.tool(name) for name in ("etcd", "kube-apiserver", "kubectl")}
    with ExitStack() as stack:
        etcd = stack.enter_context(_etcd(programs["etcd"], folder))
        yield stack.enter_context(_kube_apiserver(programs["kube-apiserver"], folder, etcd))


@contextmanager
def _etcd(program: Path, folder: Path) -> Iterator[str]:
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = [str(program), "--data-dir", str(folder / "etcd"), "--log-level", "error"]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    command += ["--initial-cluster", f"default={peer}", "--unsafe-no-fsync"]
    with _running(command, folder / "etcd.log"):
        yield client


@contextmanager
def _kube_apiserver(program: Path, folder: Path, etcd: str) -> Iterator[ApiServer]:
    authority = Authority(folder)
    served = authority.issue("kube-apiserver")
    accounts = authority.issue("service-accounts")
    admin = authority.issue("admin", organization="system:masters")
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    flags = {
        "etcd-servers": etcd,
        "secure-port": port,
        "bind-address": "127.0.0.1",
        "advertise-address": "127.0.0.1",
        "cert-dir": folder / "serving",
        "tls-cert-file": served.cert_file,
        "tls-private-key-file": served.key_file,
        "client-ca-file": authority.ca_file,
        "service-account-key-file": accounts.cert_file,
        "service-account-signing-key-file": accounts.key_file,
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-cluster-ip-range": "10.96.0.0/16",
        "authorization-mode": "RBAC",
        # Nobody here makes service accounts: that is the controller manager's work.
        "disable-admission-plugins": "ServiceAccount",
        "endpoint-reconciler-type": "none",
        "v": 0,
    }
    command = [str(program), *(f"--{name}={value}" for name, value in flags.items())]
    config = write_kubeconfig(
        folder / "kubeconfig", url=url, ca_file=authority.ca_file, admin=admin
    )
    with _running(command, folder / "kube-apiserver.log") as process:
        server = ApiServer(url, authority.ca_file, admin, config, folder)
        _wait_ready(server, process)
        yield server


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, preexec_fn=_die_with_parent)
    try:
        yield process
    finally:
        process.kill()  # nothing here is worth a tidy end
        process.wait(timeout=STOP_S)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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


@contextmanager
def temporary_api_server() -> Iterator[ApiServer]:
    """Run an API server in a folder that goes with it."""
    with (
        tempfile.TemporaryDirectory(prefix="rallypoint-kube-", ignore_cleanup_errors=True) as name,
        api_server(Path(name)) as server,
    ):
        yield server


def main(command: Sequence[str]) -> int:
    """Run a command with an API server of its own in KUBECONFIG; a shell where none is given."""
    with temporary_api_server() as server:
        environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}
        words = list(command) or [os.environ.get("SHELL", "sh")]
        return subprocess.run(words, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
