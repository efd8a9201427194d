"""The Dockerfile as BuildKit reads it: its own frontend parses, lints and converts each stage."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support import go, images
from tests.support.images import bases

from rallypoint.cli import container

PLATFORMS = ("linux/amd64", "linux/arm64")
SHIPPED = ("runtime", "probe")
DOCUMENTED = re.compile(r"^\| `([a-z]+)` \|", re.MULTILINE)
CASED = "FROM scratch as one\nCOPY a /\n"
LOST = "FROM scratch AS one\nCOPY --from=two a /\n"


def read(file: Path, *platforms: str) -> tuple[int, dict[str, Any]]:
    """What BuildKit makes of a Dockerfile, and how its program ended."""
    command = [str(go.tool("buildkit")), str(file), *platforms]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, told


@pytest.fixture(scope="session")
def told() -> dict[str, Any]:
    """What BuildKit makes of ours."""
    return read(go.ROOT / "Dockerfile", *PLATFORMS)[1]


def stages(told: dict[str, Any], platform: str) -> dict[str, dict[str, Any]]:
    return {stage["name"]: stage for stage in told["stages"] if stage["platform"] == platform}


def test_buildkit_has_no_complaint(told: dict[str, Any]) -> None:
    assert "error" not in told
    assert told["warnings"] == []


@pytest.mark.parametrize("platform", PLATFORMS)
def test_targets_are_those_that_are_told_and_built(told: dict[str, Any], platform: str) -> None:
    targets = {name for name, stage in stages(told, platform).items() if stage["entrypoint"]}
    assert targets == set(DOCUMENTED.findall((go.ROOT / "docs" / "images.md").read_text()))
    ours = (*(image for image in images.IMAGES if image.file != images.BROKERS), images.DEV)
    assert targets == {image.target for image in ours}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_stage_is_made_for_its_platform(told: dict[str, Any], platform: str) -> None:
    """What runs while it is built is of the processor that builds, so that nothing is emulated."""
    builds, target = (one.partition("/")[2] for one in (PLATFORMS[0], platform))
    found = stages(told, platform)
    shipped = {stage["architecture"] for name, stage in found.items() if name in SHIPPED}
    assert shipped == {target}
    based = {base for stage in found.values() for base in stage["bases"] or ()}
    assert based == {f"{bases.PYTHON} {builds}", f"{bases.DISTROLESS} {target}"}
    ran = {run.partition(" ")[0] for stage in found.values() for run in stage["runs"] or ()}
    assert ran == {builds}


@pytest.mark.parametrize("name", ["services", "probe"])
def test_buildkit_and_buildah_agree(
    request: pytest.FixtureRequest, told: dict[str, Any], name: str
) -> None:
    image: container.Image = request.getfixturevalue(name)
    (target,) = (one.target for one in images.IMAGES if one.name == name)
    stage = stages(told, PLATFORMS[0])[target]
    assert image.entrypoint == tuple(stage["entrypoint"])
    assert image.command == tuple(stage["command"] or ())
    assert dict(image.environment) == dict(one.split("=", 1) for one in stage["environment"])
    assert ":".join(map(str, image.user)) == stage["user"]
    assert image.folder == stage["folder"]
    own = {key: told for key, told in image.labels.items() if not key.startswith("io.buildah.")}
    assert own == stage["labels"]


def test_complaint_is_told(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(CASED)
    code, told = read(file, PLATFORMS[0])
    assert (code, [(one["rule"], one["line"]) for one in told["warnings"]]) == (
        1,
        [("FromAsCasing", 1)],
    )


def test_what_does_not_convert_is_told(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM scratch AS one\nRUN --mount=type=nothing true\n")
    code, told = read(file, PLATFORMS[0])
    assert code == 1
    assert "nothing" in told["error"]


def test_stage_that_is_not_there_is_a_base(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(LOST)
    _, told = read(file, PLATFORMS[0])
    assert told["stages"][0]["bases"] == ["docker.io/library/two:latest amd64"]
