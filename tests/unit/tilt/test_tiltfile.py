"""The Tiltfile, evaluated with recording builtins, held against chart, Dockerfile and files."""

from __future__ import annotations

import functools
import re

import pytest
import starlark
from tests.support import tilt
from tests.support.chart import ROOT

TEXT = (ROOT / "Tiltfile").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@functools.cache
def evaluated(*, operator: bool = False) -> tilt.Tilt:
    return tilt.Tilt(ROOT, {"operator": True} if operator else {}).evaluate(TEXT)


@pytest.mark.parametrize("operator", [False, True])
def test_nothing_is_amiss(operator: bool) -> None:
    assert tilt.faults(evaluated(operator=operator)) == []


@pytest.mark.parametrize("operator", [False, True])
def test_every_workload_is_a_named_resource(operator: bool) -> None:
    declared = {call["workload"] for call in evaluated(operator=operator).called("k8s_resource")}
    assert declared == set(tilt.workloads(evaluated(operator=operator)))


@pytest.mark.parametrize("operator", [False, True])
def test_each_image_of_ours_is_built(operator: bool) -> None:
    found = evaluated(operator=operator)
    named = {name for one in tilt.workloads(found).values() for name in tilt.images(one)}
    ours = {name for name in named if name.startswith("rallypoint.dev/")}
    assert ours == {call["ref"] for call in found.called("docker_build")}


def test_game_servers_run_the_image_that_is_built() -> None:
    found = evaluated(operator=True)
    (kind,) = found.called("k8s_kind")
    assert kind["image_json_path"] == "{.spec.template.spec.pod.spec.containers[*].image}"
    containers = tilt.workloads(found)["rooms"]["spec"]["template"]["spec"]["pod"]["spec"]
    (build,) = found.called("docker_build")
    assert [one["image"].rpartition(":")[0] for one in containers["containers"]] == [build["ref"]]
    labels = tilt.workloads(found)["rooms"]["spec"]["template"]["spec"]["pod"]["metadata"]["labels"]
    (call,) = [one for one in found.called("k8s_resource") if one["workload"] == "rooms"]
    assert all(selector.items() <= labels.items() for selector in call["extra_pod_selectors"])


def test_all_that_the_dockerfile_copies_is_in_its_context() -> None:
    (build,) = evaluated().called("docker_build")
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    copied = {name.partition("/")[0] for line in lines for name in line.split()}
    assert copied == set(build["only"])
    assert f" AS {build['target']}\n" in DOCKERFILE


def test_live_update_writes_where_the_service_runs_from_and_may_write() -> None:
    (step,) = evaluated().called("sync")
    assert step == {"local_path": "services/rallypoint", "remote_path": "/tmp/live/rallypoint"}
    assert '"RALLYPOINT_LIVE", "/tmp/live"' in (ROOT / "images/dev/reload.py").read_text()
    assert "images/dev/reload.py" in DOCKERFILE
    (build,) = evaluated().called("docker_build")
    for one in tilt.workloads(evaluated()).values():
        if build["ref"] in tilt.images(one):
            (container,) = one["spec"]["template"]["spec"]["containers"]
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_what_is_compiled_is_built_anew() -> None:
    (step,) = evaluated().called("fall_back_on")
    sources = (path for path in (ROOT / "services/rallypoint").rglob("*.[ch]"))
    assert {str(path.relative_to(ROOT)) for path in sources} <= set(step["files"])


def test_buttons_run_what_the_makefile_has() -> None:
    calls = {call["name"]: call for call in evaluated().called("local_resource")}
    assert {"test", "test-fast", "load"} <= set(calls)
    for name, call in calls.items():
        target = call["cmd"].split()[1]
        assert re.search(rf"^[a-z -]*\b{target}\b[a-z -]*:", MAKEFILE, re.MULTILINE), name
    for name in ("test", "test-fast", "load"):
        assert calls[name]["auto_init"] is False
        assert calls[name]["trigger_mode"] == 1  # manual


def test_keys_are_the_ones_that_the_chart_would_make() -> None:
    made = {one["metadata"]["name"]: one for one in evaluated().objects if one["kind"] == "Secret"}
    (secret,) = made.values()
    chart = (ROOT / "helm/rallypoint/templates/secrets.yaml").read_text()
    names = re.findall(r"^  ([a-z.-]+): \{\{ index \$kept", chart, re.MULTILINE)
    assert set(secret["stringData"]) == set(names) - {"ca.crt", "tls.crt", "tls.key"}
    again = tilt.Tilt(ROOT, {}).evaluate(TEXT).objects
    assert secret in again


@pytest.mark.parametrize(
    "change",
    [
        ("target='dev'", "stage='dev'"),
        ("'true' if operator else 'false'", "f'{operator}'"),
        ("local_resource('protos', 'make protos', ", "local_resource('protos', "),
        ("sync('services/rallypoint', ", "sinc('services/rallypoint', "),
    ],
)
def test_what_tilt_refuses_is_refused(change: tuple[str, str]) -> None:
    assert change[0] in TEXT
    with pytest.raises((starlark.StarlarkError, TypeError)):
        tilt.Tilt(ROOT, {}).evaluate(TEXT.replace(*change))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("    'rallypoint-gateway',", "    'gateway',"), "gateway: no such workload"),
        (("'rallypoint-redis']", "'redis']"), "resource_deps redis: no such resource"),
        (("port_forward(8080, 8080,", "port_forward(8080, 80,"), "does not listen on 80"),
        (("port_forward(8090, 8090,", "port_forward(8080, 8090,"), "use the same port"),
        (("sync('services/rallypoint',", "sync('loadtest',"), "loadtest is not in what"),
        (("values=['images/dev/", "values=['images/no/"), "images/no/values.yaml"),
        (("    IMAGE,\n", "    'rallypoint.dev/other',\n"), "no workload has the image"),
    ],
)
def test_what_would_not_work_is_told(change: tuple[str, str], told: str) -> None:
    assert change[0] in TEXT
    try:
        found = tilt.faults(tilt.Tilt(ROOT, {}).evaluate(TEXT.replace(*change)))
    except (starlark.StarlarkError, RuntimeError) as error:
        found = [str(error)]
    assert any(told in one for one in found), found
