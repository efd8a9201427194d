"""Names of services: CoreDNS as a process beside the API server, where no node's fault is its."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.support import go
from tests.support.cluster.places import running
from tests.support.kubernetes import ApiServer

DOMAIN: Final = "cluster.local"
USER: Final = "system:coredns"
COREFILE: Final = """
.:53 {{
    bind {host}
    errors
    kubernetes {domain} in-addr.arpa {{
        kubeconfig {kubeconfig} test
        ttl 2
    }}
}}
"""


@contextmanager
def core_dns(server: ApiServer) -> Iterator[str]:
    """Answer for the services of a cluster; yields the address."""
    server.does("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, _rights())))
    file = server.folder / "Corefile"
    file.write_text(
        COREFILE.format(host=server.place.host, domain=DOMAIN, kubeconfig=server.client(USER))
    )
    command = [go.tool("coredns"), "-conf", file]
    with running(command, server.folder / "coredns.log", place=server.place):
        yield server.place.host


def _rights() -> Iterator[dict[str, Any]]:
    group = "rbac.authorization.k8s.io"
    seen = {"verbs": ["list", "watch"]}
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces", "endpoints"], **seen},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], **seen},
    ]
    kind = {"apiVersion": f"{group}/v1", "metadata": {"name": USER}}
    yield {**kind, "kind": "ClusterRole", "rules": rules}
    yield {
        **kind,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": USER},
        "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
    }
