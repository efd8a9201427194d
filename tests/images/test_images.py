"""Images as pods run them: no capability, a read-only root, PID 1 that ends when asked."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support import collector, images
from tests.support.waiting import wait_until

from rallypoint.cli import bench_image, container, layout, plan

END_S = 30.0
LARGEST_BYTES = {"services": 35_000_000, "probe": 16_000_000}
"""What is promised for the services; for the probe little above what it has, to see growth."""
AGAIN_S = 900
REDIS = ["redis-server", "--dir", "/tmp", "--appendonly", "yes", "--port", "0"]
REDIS += ["--unixsocket", "/tmp/redis.sock"]
BROKERS = {
    "nats": (["--addr", "127.0.0.1", "--port", "-1"], "Server is ready"),
    "redis": (REDIS, "accept connections"),
    "redis-before": (REDIS, "accept connections"),
}
WRITES = """
import errno, pathlib
try:
    pathlib.Path("/app/written").touch()
except OSError as error:
    print(errno.errorcode[error.errno])
"""
IMPORTS = """
import importlib, os, sys
for name in ("gateway", "matchmaking", "fleet", "room_state"):
    importlib.import_module(f"rallypoint.{name}.serve")
specs = [module.__spec__ for module in list(sys.modules.values()) if module.__spec__]
files = [spec for spec in specs if spec.has_location and spec.cached]
print([spec.origin for spec in files if not os.path.exists(spec.cached)])
import rallypoint.games._sections, rallypoint.gateway._edge, rallypoint.room_state._attach
"""


@pytest.mark.parametrize("kind", bench_image.KINDS)
def test_service_serves_without_any_right(
    services: container.Image, processes: dict[str, plan.Process], kind: str
) -> None:
    with bench_image.started(services, processes[kind]) as running:
        took_s = bench_image.until_ready(processes[kind], running)
        assert took_s < 10 * bench_image.PROMISE["ready_s"]
        told = running.status()
        assert {told[name] for name in told if name.startswith("Cap")} == {"0000000000000000"}
        assert told["NoNewPrivs"] == "1"
        assert told["Uid"].split()[0] == "65532"
        assert told["NSpid"].split()[-1] == "1"

        running.signal(signal.SIGTERM)

        assert running.wait(END_S) == 0, running.output.read_text()


def test_whoever_runs_a_container_becomes_no_parent_of_others(
    services: container.Image, processes: dict[str, plan.Process]
) -> None:
    with bench_image.started(services, processes["fleet"]):
        orphan = subprocess.check_output(["sh", "-c", "sleep 5 >&- & echo $!"], text=True)
        told = Path(f"/proc/{orphan.strip()}/status").read_text()
    assert f"PPid:\t{os.getpid()}\n" not in told


@pytest.mark.parametrize("name", ["services", "probe"])
def test_nothing_in_the_image_runs_a_shell_or_rises(
    request: pytest.FixtureRequest, name: str
) -> None:
    image: container.Image = request.getfixturevalue(name)
    files = [path for path in image.root.rglob("*") if path.is_file() and not path.is_symlink()]
    names = {path.name for path in files}
    assert not names & {"sh", "bash", "dash", "busybox", "apt-get", "pip", "gcc", "clang"}
    assert not [path for path in files if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
    assert not [path for path in files if path.stat().st_mode & stat.S_IWOTH]


def test_root_cannot_be_written(services: container.Image) -> None:
    python = container.Image(
        services.root, ("/usr/bin/python3.13", "-c", WRITES), (), {}, (0, 0), "/", {}
    )
    with python.started() as running:
        assert running.wait(END_S) == 0
        assert running.output.read_text() == "EROFS\n"


def test_byte_code_is_there_for_all_that_a_service_imports(services: container.Image) -> None:
    python = container.Image(
        services.root, ("/usr/bin/python3.13", "-P", "-c", IMPORTS), (), services.environment,
        (65532, 65532), "/app", {},
    )  # fmt: skip
    with python.started() as running:
        code = running.wait(END_S)
        assert (code, running.output.read_text()) == (0, "[]\n")


@pytest.mark.parametrize("name", ["services", "probe"])
def test_byte_code_comes_without_sources(request: pytest.FixtureRequest, name: str) -> None:
    image: container.Image = request.getfixturevalue(name)
    assert not list(image.root.rglob("*.py"))


@pytest.mark.timeout(AGAIN_S, func_only=True)
def test_same_sources_make_the_same_image(listed: dict[str, Any]) -> None:
    assert images.built_again("services") == listed["services"]["id"]


def test_page_is_in_the_image(services: container.Image) -> None:
    web = services.root / "app" / "web"
    assert "<script" in (web / "index.html").read_text()


def test_probe_measures_from_its_image(probe: container.Image) -> None:
    with probe.started(["--once", "--json", "--seconds", "0.2"]) as running:
        code, said = running.wait(END_S), running.output.read_text()
    assert code == 0, said
    told = json.loads(said)
    assert told["mode"] in ("inet_diag", "snmp")  # no capability: the ladder's foot
    assert "NO_LIBBPF" not in told["reason"]
    objects = list((probe.root / "app" / "bpf").glob("*.bpf.o"))
    assert len(objects) == len(list(_bpf_sources().glob("*.bpf.c")))


def test_probe_ends_when_asked(probe: container.Image) -> None:
    with probe.started() as running:
        wait_until(lambda: "SIGTERM" in _caught(running), "SIGTERM is caught", within_s=END_S)

        running.signal(signal.SIGTERM)

        assert running.wait(END_S) == 0, running.output.read_text()


def _caught(running: container.Running) -> set[str]:
    """The signals that the program handles, as the kernel says; none while runc, which handles
    all, has not made place for it."""
    status = running.status()
    bits = int(status["SigCgt"], 16) if status["Name"].startswith("python") else 0
    return {one.name for one in signal.Signals if bits >> (one - 1) & 1}


def test_probe_finds_what_asks_a_cluster(probe: container.Image) -> None:
    words = ("/usr/bin/python3.13", "-P", "-c", "import rallypoint.probe.cluster")
    python = container.Image(probe.root, words, (), probe.environment, (0, 0), "/app", {})
    with python.started() as running:
        assert running.wait(END_S) == 0, running.output.read_text()


def _bpf_sources() -> Path:
    return Path(__file__).resolve().parents[2] / "services/rallypoint/probe/bpf"


@pytest.mark.parametrize("name", ["services", "probe"])
def test_image_lists_what_it_is_made_of(request: pytest.FixtureRequest, name: str) -> None:
    image: container.Image = request.getfixturevalue(name)
    document = json.loads((image.root / "app" / "sbom.cdx.json").read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    purls = {one["purl"].partition("@")[0] for one in document["components"]}
    assert {"pkg:deb/debian/python3.13-minimal", "pkg:deb/debian/libc6"} <= purls
    assert not {"pkg:deb/debian/libdb5.3t64", "pkg:deb/debian/libkrb5-3"} & purls  # left behind
    folders = {path.name for path in (image.root / "app" / "lib").glob("*.dist-info")}
    assert len(folders) == sum(purl.startswith("pkg:pypi/") for purl in purls) + 1  # and ours
    assert document["metadata"]["component"]["name"] == "rallypoint"
    of_pages = {purl for purl in purls if purl.startswith("pkg:npm/")}
    shipped = {"pkg:npm/%40bufbuild/protobuf", "pkg:npm/%40fontsource-variable/saira"}
    assert of_pages == (shipped if name == "services" else set())


@pytest.mark.parametrize("name", ["services", "probe"])
def test_every_part_comes_with_its_license(request: pytest.FixtureRequest, name: str) -> None:
    image: container.Image = request.getfixturevalue(name)
    document = json.loads((image.root / "app" / "sbom.cdx.json").read_text())
    for one in document["components"]:
        if one["purl"].startswith("pkg:deb/"):
            assert (image.root / "usr/share/doc" / one["name"] / "copyright").exists(), one["name"]
        else:
            assert one["licenses"], one["name"]
    if name == "services":
        assert "SIL OPEN FONT LICENSE" in (image.root / "app" / "web" / "licenses.txt").read_text()


def test_labels_tell_what_it_is(services: container.Image) -> None:
    assert services.labels["org.opencontainers.image.title"] == "Rallypoint"
    assert services.labels["org.opencontainers.image.version"]


def test_images_stay_small(built: Path, listed: dict[str, Any]) -> None:
    for name, most in LARGEST_BYTES.items():
        found = layout.read(built / name)
        assert found.packed == "zstd"
        assert sum(layer.size_bytes for layer in found.layers) == listed[name]["compressed_bytes"]
        assert listed[name]["compressed_bytes"] < most


@pytest.mark.parametrize("name", BROKERS)
def test_broker_serves_without_any_right(built: Path, name: str) -> None:
    words, ready = BROKERS[name]
    with container.unpacked(built, name) as image, image.started(words) as running:
        wait_until(lambda: ready in running.output.read_text(), ready, within_s=END_S)

        running.signal(signal.SIGTERM)

        assert running.wait(END_S) == 0, running.output.read_text()


def test_collector_takes_the_charts_configuration_without_any_right(built: Path) -> None:
    words = ["validate", f"--config=file:{collector.CHART_CONFIG}"]
    shared = [collector.CHART_CONFIG.parent]
    with (
        container.unpacked(built, "collector") as image,
        image.started(words, environment={"OTLP_BACKEND": "behind:4317"}, shared=shared) as running,
    ):
        assert running.wait(END_S) == 0, running.output.read_text()
