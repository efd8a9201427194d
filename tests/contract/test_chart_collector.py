"""The chart's collector, and the ways of traces, metrics and logs to whichever collector."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from tests.support import chart, images

SERVICES = {"gateway", "matchmaking", "fleet", "operator", "rooms"}
NAME = f"{chart.RELEASE}-rallypoint-collector"
FILE = chart.CHART / "files" / "collector.yaml"
READ = re.compile(r"\$\{env:([A-Z_]+)(?::-([^}]*))?\}")
"""What the file takes from the environment, and what it is without."""


def environments(objects: list[chart.Object]) -> dict[str, dict[str, str]]:
    """The environment of each pod that is made, by component."""
    made = [
        one["spec"]["template"] for one in objects if one["kind"] in ("Deployment", "DaemonSet")
    ]
    sets = [one for one in objects if one["kind"] == "GameServerSet"]
    made += [one["spec"]["template"]["spec"]["pod"] for one in sets]
    containers = [pod["spec"]["containers"][0] for pod in made]
    return {c["name"]: {e["name"]: e.get("value", "") for e in c["env"]} for c in containers}


def only(kind: str) -> dict[str, Any]:
    """The collector's object of a kind."""
    (found,) = [o for o in chart.of_kind("everything", kind) if o["metadata"]["name"] == NAME]
    return found


def rendered(case: str, *changes: str) -> list[chart.Object]:
    """The objects of a case with values changed."""
    words = [word for change in changes for word in ("--set", change)]
    where = ("--namespace", chart.NAMESPACE, "-f", str(chart.values(case)))
    done = chart.helm("template", chart.RELEASE, str(chart.CHART), *where, *words)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def opened(objects: list[chart.Object]) -> dict[str, set[int]]:
    """The ports of any address at all that each component reaches, but for names and the API."""
    return {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: {
            port["port"] for rule in one["spec"]["egress"] if "to" not in rule
            for port in rule["ports"]
        } - {53, 443, 6443}
        for one in objects
        if one["kind"] == "NetworkPolicy"
    }  # fmt: skip


def test_it_is_there_when_asked_for_alone() -> None:
    for case in chart.CASES:
        found = [o for o in chart.rendered(case) if o["metadata"]["name"] == NAME]
        assert bool(found) is (case == "everything"), case


def test_its_pod_has_the_file_and_what_that_reads() -> None:
    spec = only("Deployment")["spec"]
    assert spec["replicas"] == 1  # spans of a trace come together in one place
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] in {one.reference for one in images.IMAGES}
    assert only("ConfigMap")["data"] == {FILE.name: FILE.read_text()}
    folder = next(m for m in container["volumeMounts"] if m["name"] == "configuration")["mountPath"]
    assert container["args"] == [f"--config=file:{folder}/{FILE.name}"]
    read = dict(READ.findall(FILE.read_text()))
    given = {one["name"]: one["value"] for one in container["env"]}
    assert {name for name, default in read.items() if not default} <= given.keys() <= read.keys()
    assert given == {
        "OTLP_BACKEND": "tempo.monitoring:4317",
        "OTLP_BACKEND_INSECURE": "true",
        "TRACES_KEPT_PERCENT": "2.5",
        "TRACES_DECIDED_AFTER": "10s",
    }
    ports = {int(default) for name, default in read.items() if name.endswith("_PORT")}
    assert {port["containerPort"] for port in container["ports"]} == ports


def test_services_and_probe_send_to_it_by_themselves() -> None:
    given = environments(list(chart.rendered("everything")))
    told = {name: own.get("RALLYPOINT_OTLP_ENDPOINT") for name, own in given.items()}
    assert told == {name: f"{NAME}:4317" if name in SERVICES else None for name in given}
    url = given["probe"]["RALLYPOINT_PROBE_OTLP_ENDPOINT"]
    assert url == f"http://{NAME}.{chart.NAMESPACE}.svc:4318/v1/metrics"
    assert {port["port"] for port in only("Service")["spec"]["ports"]} == {4317, 4318}


def test_it_lets_the_probe_in_and_goes_to_its_backend_alone() -> None:
    objects = rendered("everything", "monitoring.collector.backend=tempo.monitoring:14317")
    (policy,) = [
        o["spec"] for o in objects if (o["kind"], o["metadata"]["name"]) == ("NetworkPolicy", NAME)
    ]
    (rule,) = [r for r in policy["ingress"] if r["ports"] == [{"port": 4318}]]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "measured"}}
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "probe"
    assert [r["ports"] for r in policy["egress"]] == [
        [{"port": 53, "protocol": "UDP"}, {"port": 53}],
        [{"port": 14317}],
    ]
    assert {name: ports for name, ports in opened(objects).items() if ports} == {
        "collector": {14317}
    }


def test_a_setting_of_the_probe_goes_before_the_charts_own() -> None:
    objects = rendered("everything", "probe.settings.OTLP_ENDPOINT=http://mine:4318/v1/metrics")
    found = environments(objects)["probe"]["RALLYPOINT_PROBE_OTLP_ENDPOINT"]
    assert found == "http://mine:4318/v1/metrics"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("otel:4317", "otel:4317"),
        ("otel", "otel:4317"),
        ("http://otel.monitoring", "otel.monitoring:4317"),
        ("http://otel.monitoring:14317/", "otel.monitoring:14317"),
        ("10.0.0.1:55680", "10.0.0.1:55680"),
        ("http://[fd00::1]", "[fd00::1]:4317"),
        ("[fd00::1]:14317", "[fd00::1]:14317"),
    ],
)
def test_port_of_the_endpoint_is_the_one_that_is_opened(given: str, address: str) -> None:
    objects = rendered("default", f"monitoring.otlpEndpoint={given}", "operator.enabled=true")
    found = environments(objects)
    assert {found[name]["RALLYPOINT_OTLP_ENDPOINT"] for name in SERVICES} == {address}
    port = int(address.rpartition(":")[2])
    assert opened(objects) == {
        **{name: {port} for name in SERVICES},
        "nats": set(),
        "redis": set(),
    }


def test_services_send_to_one_collector_and_the_chart_says_so() -> None:
    words = ("--set", "monitoring.otlpEndpoint=otel:4317")
    done = chart.helm(
        "template", "demo", str(chart.CHART), "-f", str(chart.values("everything")), *words
    )
    assert done.returncode != 0
    assert "services send to one of them" in done.stderr
