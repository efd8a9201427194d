"""The ways of traces, metrics and logs to a collector."""

from __future__ import annotations

import pytest
import yaml
from tests.support import chart

SERVICES = {"gateway", "matchmaking", "fleet", "operator", "rooms"}


def environments(objects: list[chart.Object]) -> dict[str, dict[str, str]]:
    """The environment of each pod that is made, by component."""
    made = [
        one["spec"]["template"] for one in objects if one["kind"] in ("Deployment", "DaemonSet")
    ]
    sets = [one for one in objects if one["kind"] == "GameServerSet"]
    made += [one["spec"]["template"]["spec"]["pod"] for one in sets]
    containers = [pod["spec"]["containers"][0] for pod in made]
    return {c["name"]: {e["name"]: e.get("value", "") for e in c["env"]} for c in containers}


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
