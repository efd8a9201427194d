"""What acts on the objects of an API server: the controller manager and the scheduler."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rallypoint.cli.ports import free_one
from tests.support import go
from tests.support.cluster.places import flags, running
from tests.support.kubernetes import ApiServer

PROGRAMS = ("etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler")
READY_S = 60.0
# The defaults, 20 and 50 requests a second, make a thousand pods last a minute.
QUICK = {"kube-api-qps": 1000, "kube-api-burst": 2000}
# A node is given up after 12 s instead of 50: what happens then is what tests wait for. At 6 s
# a node that only shared a crowded machine was given up too.
IMPATIENT = {
    "node-monitor-period": "1s",
    "node-monitor-grace-period": "12s",
    "horizontal-pod-autoscaler-sync-period": "2s",
}


@contextmanager
def controllers(server: ApiServer) -> Iterator[None]:
    """Run the controller manager and the scheduler of an API server that is `controlled`."""
    with ExitStack() as stack:
        for name, more in (("kube-controller-manager", _manager(server)), ("kube-scheduler", {})):
            given = {
                "kubeconfig": server.client(f"system:{name}"),
                "leader-elect": "false",
                "bind-address": "127.0.0.1",
                "secure-port": free_one(),
                "cert-dir": server.folder / name,
                **QUICK,
                **more,
            }
            log = server.folder / f"{name}.log"
            stack.enter_context(running([go.tool(name), *flags(given)], log, place=server.place))
        _wait_accounts(server)
        yield


def _manager(server: ApiServer) -> dict[str, str | Path]:
    return {
        "root-ca-file": server.ca_file,
        "service-account-private-key-file": server.accounts.key_file,
        "use-service-account-credentials": "true",
        "allocate-node-cidrs": "false",
        **IMPATIENT,
    }


def _wait_accounts(server: ApiServer) -> None:
    """Wait until pods can be made: each belongs to a service account, which a controller makes."""
    give_up = time.monotonic() + READY_S
    while server.kubectl("get", "serviceaccount", "default").returncode:
        assert time.monotonic() < give_up, "the controller manager made no service account"
        time.sleep(0.2)
