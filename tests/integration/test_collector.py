"""The collector of the tests is made by its own builder, of just what its configurations name."""

from __future__ import annotations

import subprocess
from typing import Any

import yaml
from tests.support import collector, go

FOLDER = go.TOOLS / "otelcol"
KINDS = ("receivers", "processors", "exporters", "extensions")


def named(config: dict[str, Any]) -> set[str]:
    """The components of a configuration, as the folders of their modules are called."""
    return {
        one.partition("/")[0].replace("_", "") + kind.removesuffix("s")
        for kind in KINDS
        for one in config.get(kind) or {}
    }


def test_the_lock_is_what_the_builder_resolves() -> None:
    assert go.locked("otelcol") == {name: (FOLDER / name).read_text() for name in go.LOCK}


def test_the_manifest_has_what_configurations_name_and_nothing_else() -> None:
    manifest = yaml.safe_load((FOLDER / go.MANIFEST).read_text())
    modules = [one["gomod"].split()[0] for kind in KINDS for one in manifest[kind]]
    texts = (
        collector.CHART_CONFIG.read_text(),
        collector.CONFIG.format(host="", port=0, folder=""),
    )
    wanted = set().union(*(named(yaml.safe_load(text)) for text in texts))
    assert {path.rpartition("/")[2] for path in modules} == wanted


def test_the_collector_of_the_builder_takes_the_charts_configuration() -> None:
    program = str(go.tool("otelcol"))
    told = subprocess.run([program, "components"], check=True, capture_output=True, text=True)
    assert "OpenTelemetry Collector for Rallypoint" in told.stdout  # as the manifest calls it
    done = subprocess.run(
        [program, "validate", f"--config=file:{collector.CHART_CONFIG}"],
        env={"OTLP_BACKEND": "behind:4317"}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
