"""The chart over its matrix of values: what must hold for every pod, whatever is set."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support import chart

from rallypoint.cli import service
from rallypoint.gateway import config as gateway_config
from rallypoint.gateway import tokens_keys
from rallypoint.gateway.admin_access import AdminSettings
from rallypoint.kit import security, settings

cases = pytest.mark.parametrize("case", chart.CASES)
FREE = (".affinity", ".autoscaling", ".kedaFrom", ".rooms.spec", ".scrapedFrom")
"""Values that are handed on as they are."""


@cases
def test_chart_passes_strict_lint(case: str) -> None:
    done = chart.helm("lint", "--strict", str(chart.CHART), "-f", str(chart.values(case)))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        "gateway.replica=2",
        "gateway.replicas=many",
        "nats.replicas=2",
        "rooms.set=Arena",
        "settings.trace_ratio=1",
        "tls.mode=existing",
        "image.pullPolicy=Sometimes",
        "gateway.service.webPort=0",
        "gateway.route.enabled=true",
        "nats.storage.size=3Gi",
        "rooms.autoscaling.min=1",
        "rooms.keda.enabled=true",
        "rooms.spec.health.initialDelaySeconds=1",
        "monitoring.collector.enabled=true",  # without a backend
        "monitoring.collector.backend=http://tempo:4317",
    ],
)
def test_schema_refuses(wrong: str) -> None:
    done = chart.helm("template", "demo", str(chart.CHART), "--set", wrong)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_every_value_has_a_line_of_schema() -> None:
    def compared(given: Any, told: dict[str, Any], path: str) -> None:
        told = schema["$defs"][told["$ref"].rpartition("/")[2]] if "$ref" in told else told
        if told.get("additionalProperties") is False:
            assert set(given) <= set(told["properties"]), path
            for name, value in given.items():
                compared(value, told["properties"][name], f"{path}.{name}")
        elif isinstance(given, dict) and path != ".global":
            assert "additionalProperties" in told or path.endswith(FREE), path

    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    compared(yaml.safe_load((chart.CHART / "values.yaml").read_text()), schema, "")


@cases
def test_pods_have_no_right_they_do_not_need(case: str) -> None:
    for name, pod in chart.pods(case):
        spec = pod["spec"]
        (container,) = spec["containers"]
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"]["drop"] == ["ALL"], name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        if container["name"] == "probe":
            assert security["capabilities"]["add"] == ["BPF", "PERFMON"]
            continue
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert "add" not in security["capabilities"], name
        asks = container["name"] == "operator" or any(
            one["name"] == "RALLYPOINT_MIRROR_NAMESPACE" for one in container["env"]
        )
        assert spec["automountServiceAccountToken"] is asks, name
        assert not [v for v in spec["volumes"] if "hostPath" in v], name


@cases
def test_pods_are_probed_bounded_and_ended_in_time(case: str) -> None:
    for name, pod in chart.pods(case):
        (container,) = pod["spec"]["containers"]
        assert {"livenessProbe", "readinessProbe", "startupProbe"} <= container.keys(), name
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
        assert "memory" in container["resources"]["limits"], name
        sleeps = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        environment = {e["name"]: e.get("value") for e in container["env"]}
        drain = int(environment.get("RALLYPOINT_DRAIN_S", 0)) + sleeps.get("seconds", 0)
        assert pod["spec"]["terminationGracePeriodSeconds"] >= drain + 10, name
        ports = {port["name"] for port in container["ports"]}
        used = {container[p].get("httpGet", container[p].get("tcpSocket"))["port"]
                for p in ("livenessProbe", "readinessProbe", "startupProbe")}  # fmt: skip
        assert used <= ports, name


@cases
def test_pods_are_spread_and_budgeted(case: str) -> None:
    budgets = chart.of_kind(case, "PodDisruptionBudget")
    for one in chart.of_kind(case, "Deployment", "StatefulSet"):
        spec = one["spec"]["template"]["spec"]
        assert len(spec["topologySpreadConstraints"]) == 2
        labels = one["spec"]["template"]["metadata"]["labels"]
        found = [b for b in budgets if chart.selects(b["spec"]["selector"]["matchLabels"], labels)]
        replicated = one["spec"].get("replicas", 2) > 1
        assert len(found) == 1 or not replicated, one["metadata"]["name"]


@cases
def test_every_selector_takes_the_pods_of_one_workload(case: str) -> None:
    pods = chart.pods(case)
    services = [(o["metadata"]["name"], o["spec"]["selector"])
                for o in chart.of_kind(case, "Service")]  # fmt: skip
    kinds = ("Deployment", "StatefulSet", "DaemonSet")
    workloads = [(o["metadata"]["name"], o["spec"]["selector"]["matchLabels"])
                 for o in chart.of_kind(case, *kinds)]  # fmt: skip
    for name, selector in (*services, *workloads):
        taken = [pod for pod, made in pods if chart.selects(selector, made["metadata"]["labels"])]
        assert len(taken) == 1, (name, taken)


@cases
def test_what_pods_refer_to_is_there(case: str) -> None:
    made = {(o["kind"], o["metadata"]["name"]) for o in chart.rendered(case)}
    given = {("Secret", name) for name in ("my-keys", "my-certificates", "brokers", "game")}
    given |= {("Secret", f"{chart.RELEASE}-rallypoint-tls")}  # cert-manager's
    for name, pod in chart.pods(case):
        spec = pod["spec"]
        wanted = {("ServiceAccount", spec["serviceAccountName"])}
        for volume in spec["volumes"]:
            if "configMap" in volume:
                wanted.add(("ConfigMap", volume["configMap"]["name"]))
            if "secret" in volume:
                wanted.add(("Secret", volume["secret"]["secretName"]))
        for entry in spec["containers"][0]["env"]:
            if key := entry.get("valueFrom", {}).get("secretKeyRef"):
                wanted.add(("Secret", key["name"]))
        assert wanted <= made | given, name


@cases
def test_names_are_unique_and_owned_by_the_release(case: str) -> None:
    objects = chart.rendered(case)
    probe = yaml.safe_load(chart.values(case).read_text()).get("probe", {})
    keys = [(o["apiVersion"], o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(keys) == len(set(keys))
    cluster = {"ClusterRole", "ClusterRoleBinding"} | {"ValidatingAdmissionPolicy"}
    cluster |= {"ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration"}
    for one in objects:
        if one["kind"] in cluster:
            assert "namespace" not in one["metadata"], one["metadata"]["name"]
            continue
        inside = one["metadata"].get("namespace")
        component = one["metadata"]["labels"]["app.kubernetes.io/component"]
        wanted = probe.get("namespace") if component == "probe" else None
        assert inside == (wanted or chart.NAMESPACE), one["metadata"]["name"]


PICTURE = {
    "gateway": {"matchmaking": {9090}, "fleet": {9090}, "rooms": {9090, 9091}},
    "matchmaking": {"fleet": {9090}, "rooms": {9090}},  # rooms: players of a backfill
    "fleet": {"rooms": {9090}},
    "operator": {"rooms": {9090}},
    "rooms": {"rooms": {9090}},  # moves
    "nats": {"nats": {6222}},
    "redis": {},
}
"""Who calls whom at which ports, as the code does; what others have written is beside it."""
BROKERS = {
    "nats": (4222, {"gateway", "matchmaking", "fleet", "operator", "rooms"}),
    "redis": (6379, {"gateway", "matchmaking", "fleet", "operator"}),
    "collector": (4317, {"gateway", "matchmaking", "fleet", "operator", "rooms"}),
}


@cases
def test_policies_are_the_picture(case: str) -> None:
    """Every way that one pod takes out, another lets in, and these are the ways that are taken."""
    policies = {o["metadata"]["name"]: o["spec"] for o in chart.of_kind(case, "NetworkPolicy")}
    if not policies:
        return
    by_selector = {json.dumps(p["podSelector"]["matchLabels"]): n for n, p in policies.items()}

    def ways(kind: str, peers: str) -> set[tuple[str, str, int]]:
        found = set()
        for name, rule in ((n, r) for n, p in policies.items() for r in p[kind]):
            for peer, port in itertools.product(rule.get(peers, ()), rule["ports"]):
                if peer.keys() == {"podSelector"}:  # the probe is in a namespace of its own
                    other = by_selector[json.dumps(peer["podSelector"]["matchLabels"])]
                    pair = (name, other) if kind == "egress" else (other, name)
                    found.add((*pair, port["port"]))
        return found

    out, into = ways("egress", "to"), ways("ingress", "from")
    assert out == into
    assert not [way for way in out if "gateway" in way[1]]  # nobody of ours calls a gateway
    label = "app.kubernetes.io/component"
    components = {pod["metadata"]["labels"][label] for _, pod in chart.pods(case)}
    of_policy = {name: json.loads(selector)[label] for selector, name in by_selector.items()}
    assert set(of_policy.values()) == components - {"probe"}
    drawn = {(a, b, port) for a, to in PICTURE.items() for b, ports in to.items() for port in ports}
    drawn |= {(a, b, port) for b, (port, callers) in BROKERS.items() for a in callers}
    there = {way for way in drawn if {*way[:2]} <= components}
    assert {(of_policy[a], of_policy[b], port) for a, b, port in out} == there


def test_policies_let_out_what_is_asked_for_besides() -> None:
    opened = {
        policy["metadata"]["name"]
        for policy in chart.of_kind("everything", "NetworkPolicy")
        if {"ports": [{"port": 443}]} in policy["spec"]["egress"]
    }
    assert {name.rpartition("-")[2] for name in opened} == {"gateway"}


@cases
def test_services_understand_their_settings(case: str) -> None:
    for name, pod in chart.pods(case):
        (container,) = pod["spec"]["containers"]
        words = container["args"]
        if not words or words[0] not in service.SERVICES:
            continue
        known = dict(settings.variables(service._settings_class(service.SERVICES[words[0]])))
        given = {e["name"] for e in container["env"] if e["name"].startswith("RALLYPOINT_")}
        foreign = {"RALLYPOINT_REDIS_PASSWORD", "RALLYPOINT_REDIS_USER"}
        assert given - foreign <= known.keys(), name


def test_operator_may_do_nothing_with_everything() -> None:
    for role in chart.of_kind("everything", "Role", "ClusterRole"):
        for rule in role["rules"]:
            words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "*" not in words, role["metadata"]["name"]
            if {"secrets", "customresourcedefinitions"} & set(rule["resources"]):
                assert len(rule["resourceNames"]) == 1, role["metadata"]["name"]
                assert set(rule["verbs"]) <= {"get", "patch", "update"}, role["metadata"]["name"]


def test_keys_of_the_chart_are_usable() -> None:
    (secret,) = [o for o in chart.of_kind("default", "Secret") if "cluster-key" in o["data"]]
    keys = {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}
    assert tokens_keys.parse(keys["signing-key.pem"], origin="the chart")
    assert gateway_config.Settings(cluster_key=keys["cluster-key"]).cluster_key_bytes()
    assert AdminSettings(admin_token=keys["admin-token"]).token()
    assert keys["nats-password"][0].isalpha()


def test_certificate_of_the_chart_is_for_both_ends(tmp_path: Path) -> None:
    (secret,) = [o for o in chart.of_kind("default", "Secret") if "tls.key" in o["data"]]
    files = {}
    for name, text in secret["data"].items():
        files[name] = tmp_path / name
        files[name].write_bytes(base64.b64decode(text))
    wanted = security.SecuritySettings(
        grpc_ca_file=files["ca.crt"], grpc_cert_file=files["tls.crt"],
        grpc_key_file=files["tls.key"], grpc_server_name="rallypoint",
    )  # fmt: skip
    loaded = security.load(wanted, nats_url="nats://a:1", redis_url="redis://a:1/0").grpc
    assert loaded is not None
    shaken_hands(loaded)


def shaken_hands(tls: security.MutualTls) -> None:
    """OpenSSL, which trunks use, takes the certificate at both ends; gRPC's library is laxer."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        tls.calling.wrap_bio(to_client, to_server, server_hostname=tls.server_name),
        tls.serving.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert ends[0].version() == ends[1].version() == "TLSv1.3"


def test_keys_differ_from_release_to_release() -> None:
    (first,) = [o for o in chart.of_kind("default", "Secret") if "cluster-key" in o["data"]]
    done = chart.helm("template", "other", str(chart.CHART))
    assert first["data"]["cluster-key"] not in done.stdout
    assert first["data"]["admin-token"] not in done.stdout


def test_dashboards_and_alerts_ship_unchanged() -> None:
    release = f"{chart.RELEASE}-rallypoint"
    shipped = {
        one["metadata"]["name"]: one["data"] if "data" in one else one["spec"]
        for one in chart.of_kind("everything", "ConfigMap", "PrometheusRule")
    }
    dashboards = list(chart.CHART.glob("dashboards/*.json"))
    alerts = list(chart.CHART.glob("alerts/*.yaml"))
    assert dashboards
    assert alerts
    for file in dashboards:
        assert shipped[f"{release}-dashboard-{file.stem}"] == {file.name: file.read_text()}
    for file in alerts:
        assert shipped[f"{release}-{file.stem}"] == yaml.safe_load(file.read_text())
