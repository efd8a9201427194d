"""What the chart says after an installation: each command names something that is there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from tests.support import chart

AS_OBJECT = """
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data: {notes: {{ tpl (.Files.Get "NOTES.txt") . | quote }}}
"""
NAMED = re.compile(r"(?:get |port-forward )(service|secret|httproute)[ /](\S+)")
KINDS = {"service": "Service", "secret": "Secret", "httproute": "HTTPRoute"}


def notes(case: str, folder: Path, *more: str) -> tuple[str, set[tuple[str, str]]]:
    """The notes, and the kinds and names of what is installed. Helm shows notes only with a cluster
    at hand; so a copy of the chart has them as one of its objects."""
    copy = folder / "rallypoint"
    shutil.copytree(chart.CHART, copy)
    shutil.move(copy / "templates" / "NOTES.txt", copy / "NOTES.txt")
    (copy / "templates" / "notes.yaml").write_text(AS_OBJECT)
    words = ("--namespace", chart.NAMESPACE, "-f", str(chart.values(case)), *more)
    done = chart.helm("template", chart.RELEASE, str(copy), *words)
    assert done.returncode == 0, done.stderr
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    (said,) = [one["data"]["notes"] for one in objects if one["metadata"]["name"] == "notes"]
    return said, {(one["kind"], one["metadata"]["name"]) for one in objects}


@pytest.mark.parametrize("case", chart.CASES)
def test_commands_name_what_is_there(case: str, tmp_path: Path) -> None:
    said, there = notes(case, tmp_path)
    named = {(KINDS[kind], name) for kind, name in NAMED.findall(said)}
    assert named
    given = chart.values(case).read_text()  # such as a Secret of the user's own
    assert not [one for one in named - there if one[1] not in given]
    assert f"-n {chart.NAMESPACE} " in said
    assert ("fleet. Helm does not upgrade CRDs" in said) is ("GameServerSet" in dict(there))


@pytest.mark.parametrize(
    ("case", "change", "says"),
    [
        ("default", "gateway.service.type=ClusterIP", "port-forward service/"),
        ("default", "gateway.service.type=NodePort", "nodePort"),
        ("default", "gateway.service.type=LoadBalancer", "loadBalancer.ingress"),
        ("default", "gateway.ingress.enabled=true", "the address of your ingress"),
        ("everything", "gateway.service.type=LoadBalancer", "Play at play.example.com"),
    ],
)
def test_where_to_play_is_how_players_come_in(
    case: str, change: str, says: str, tmp_path: Path
) -> None:
    said, _ = notes(case, tmp_path, "--set", change)
    assert says in said
    assert said.count("Play at") == 1
