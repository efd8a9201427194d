"""A real Prometheus (Debian's) that scrapes a stack and evaluates the chart's rules."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rallypoint.cli import ports

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "helm" / "rallypoint" / "alerts" / "rallypoint.yaml"
START_S = 30.0


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; a named skip where Debian's package is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: apt-get install prometheus")
    return found


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    url: str

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The answer to an instant query; AssertionError when it is refused."""
        answer = self._get("query?" + urllib.parse.urlencode({"query": query}))
        assert answer["status"] == "success", (query, answer)
        return list(answer["data"]["result"])

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = self._get("alerts")["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)


def hasty_rules(folder: Path) -> Path:
    """The chart's rules without their waiting times."""
    document = yaml.safe_load(RULES.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["for"] = "0s"
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def running(folder: Path, targets: Mapping[str, Collection[str]]) -> Iterator[Prometheus]:
    """Scrape these addresses, by job, once a second."""
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(hasty_rules(folder))],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": sorted(addresses)}]}
            for job, addresses in targets.items()
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = ports.free_one()
    command = [
        program("prometheus"), f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_ready(f"http://127.0.0.1:{port}/-/ready")
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_ready(address: str) -> None:
    give_up = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            assert time.monotonic() < give_up, "Prometheus does not answer"
            time.sleep(0.1)
